//! What each verb of the scheduler promises, on small cases that can be read.

use crate::*;

const LIMITS: Limits =
    Limits { blocks: 16, sequences_max: 4, waiting_max: 2, step_tokens_max: 128, prefill_tokens_max: 64 };

fn arrival(id: u64, tokens: u32, tokens_max: u32) -> Arrival {
    let tokens = (0..tokens).map(|position| position + 1).collect();
    Arrival { id: SequenceId(id), tokens, tokens_max, priority: Priority::Normal, now_ms: 0 }
}

/// Plans and commits one step in which every sample draws token 9, and returns the rows.
fn step(scheduler: &mut Scheduler) -> Vec<Row> {
    let plan = scheduler.plan();
    let outcomes: Vec<Outcome> =
        plan.rows.iter().map(|row| Outcome { id: row.id, token: row.sample.then_some(9), finished: false }).collect();
    scheduler.commit(&outcomes);
    plan.rows
}

fn finish(scheduler: &mut Scheduler) {
    let rows = scheduler.plan().rows;
    let outcomes: Vec<Outcome> =
        rows.iter().map(|row| Outcome { id: row.id, token: row.sample.then_some(9), finished: row.sample }).collect();
    scheduler.commit(&outcomes);
}

fn shape(rows: &[Row]) -> Vec<(u64, u32, usize, bool)> {
    rows.iter().map(|row| (row.id.0, row.start, row.tokens.len(), row.sample)).collect()
}

#[test]
fn a_long_prompt_is_computed_in_chunks_beside_decodes() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 10, 40)).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(1, 0, 10, true)]);
    let mut long = arrival(2, 100, 120);
    long.tokens[0] = 77;
    scheduler.submit(long).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(1, 10, 1, true), (2, 0, 64, false)]);
    assert_eq!(shape(&step(&mut scheduler)), [(1, 11, 1, true), (2, 64, 36, true)]);
    assert_eq!(shape(&step(&mut scheduler)), [(1, 12, 1, true), (2, 100, 1, true)]);
}

#[test]
fn a_second_request_reuses_the_prefix_but_computes_its_last_token() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    assert_eq!(scheduler.stats().blocks_cached, 2);
    scheduler.submit(arrival(2, 64, 70)).unwrap();
    assert_eq!(shape(&scheduler.plan().rows), [(2, 32, 32, true)]);
    assert_eq!(scheduler.cached_tokens(SequenceId(2)), 32);
}

#[test]
fn a_conversation_reuses_the_answer_too() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 30, 70)).unwrap();
    for _ in 0..35 {
        step(&mut scheduler);
    }
    assert!(scheduler.cancel(SequenceId(1)));
    let mut next = arrival(2, 30, 80);
    next.tokens.extend([9; 40]);
    scheduler.submit(next).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(2, 64, 6, true)]);
}

#[test]
fn a_block_is_shared_only_after_its_commit() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 60, 70)).unwrap();
    scheduler.plan();
    scheduler.cancel(SequenceId(1));
    scheduler.submit(arrival(2, 60, 70)).unwrap();
    assert_eq!(shape(&scheduler.plan().rows), [(2, 0, 60, true)]);
}

#[test]
fn choices_of_one_prompt_compute_it_once() {
    let mut scheduler = Scheduler::new(LIMITS);
    for id in 0..3 {
        scheduler.submit(arrival(id, 50, 60)).unwrap();
    }
    assert_eq!(shape(&step(&mut scheduler)), [(0, 0, 50, true)]);
    assert_eq!(shape(&step(&mut scheduler)), [(0, 50, 1, true), (1, 32, 18, true), (2, 32, 18, true)]);
}

#[test]
fn cancelling_returns_every_block() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 100, 120)).unwrap();
    step(&mut scheduler);
    assert_eq!(scheduler.stats().blocks_used, 4);
    assert!(scheduler.cancel(SequenceId(1)));
    assert_eq!(scheduler.stats().blocks_used, 0);
    assert!(!scheduler.cancel(SequenceId(1)));
}

#[test]
fn refusals_carry_their_figures() {
    let mut scheduler = Scheduler::new(LIMITS);
    assert_eq!(scheduler.submit(arrival(1, 0, 5)), Err(Refusal::Empty));
    let too_long = Refusal::TooLong { needs_blocks: 17, has_blocks: 16 };
    assert_eq!(scheduler.submit(arrival(1, 5, 513)), Err(too_long));
    for id in 0..6 {
        scheduler.submit(arrival(id, 5, 10)).unwrap();
    }
    assert_eq!(scheduler.submit(arrival(3, 5, 10)), Err(Refusal::Duplicate));
    assert_eq!(scheduler.submit(arrival(9, 5, 10)), Err(Refusal::Busy { waiting: 2, max: 2 }));
}

#[test]
fn the_youngest_gives_way_and_comes_back_with_its_tokens() {
    let mut scheduler = Scheduler::new(Limits { blocks: 5, ..LIMITS });
    scheduler.submit(arrival(1, 64, 100)).unwrap();
    let mut second = arrival(2, 31, 40);
    second.tokens[0] = 77;
    second.now_ms = 1;
    scheduler.submit(second).unwrap();
    step(&mut scheduler);
    step(&mut scheduler);
    assert_eq!(scheduler.stats().running, 2);
    let mut third = arrival(3, 20, 40);
    third.priority = Priority::High;
    scheduler.submit(third).unwrap();
    let plan = scheduler.plan();
    assert_eq!(plan.preempted, [SequenceId(2)]);
    assert_eq!(shape(&plan.rows), [(1, 65, 1, true), (3, 0, 20, true)]);
    assert!(scheduler.cancel(SequenceId(1)) && scheduler.cancel(SequenceId(3)));
    let row = scheduler.plan().rows.remove(0);
    assert_eq!((row.id, row.start, &row.tokens[29..]), (SequenceId(2), 0, &[30, 31, 9][..]));
}

#[test]
fn waiting_long_enough_outweighs_priority() {
    let mut scheduler = Scheduler::new(Limits { sequences_max: 1, ..LIMITS });
    let mut submit = |id, priority, now_ms| {
        scheduler.submit(Arrival { priority, now_ms, ..arrival(id, 5, 6) }).unwrap();
    };
    submit(1, Priority::Low, 0);
    submit(2, Priority::High, 2 * LEVEL_MS + 1);
    submit(3, Priority::Normal, LEVEL_MS - 1);
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(scheduler.plan().rows[0].id.0);
        finish(&mut scheduler);
    }
    assert_eq!(order, [3, 1, 2]);
}
