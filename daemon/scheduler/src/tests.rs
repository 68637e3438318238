//! What each verb of the scheduler promises, on small cases that can be read.

mod aging;
mod leaving;
mod prefixes;

use crate::*;

const LIMITS: Limits = Limits {
    blocks: 16,
    sequences_max: 4,
    waiting_max: 2,
    step_tokens_max: 128,
    prefill_tokens_max: 64,
    context_tokens: 1 << 20,
    states: 0,
    report_evicted: false,
    judged_max: 24,
};

fn arrival(id: u64, tokens: u32, tokens_max: u32) -> Arrival {
    let tokens = (0..tokens).map(|position| position + 1).collect();
    let (id, priority) = (SequenceId(id), Priority::Normal);
    Arrival {
        id,
        tokens,
        tokens_max,
        priority,
        client: ClientId(0),
        salt: Salt(0),
        twin: None,
        judge_from: None,
        now_ms: 0,
    }
}

/// A prompt that shares nothing with others.
fn unlike(id: u64, tokens: u32, tokens_max: u32) -> Arrival {
    let mut arrival = arrival(id, tokens, tokens_max);
    arrival.tokens[0] = 1_000 + id as TokenId;
    arrival
}

fn plan(scheduler: &mut Scheduler) -> Plan {
    scheduler.plan(0, 64)
}

/// Every sample draws token 9.
fn outcomes(rows: &[Row], finish: bool) -> Vec<Outcome> {
    let outcome = |id, row: &Row| {
        let tokens = vec![9; row.samples.min(1) as usize];
        Outcome { id, finished: finish && !tokens.is_empty(), tokens }
    };
    let of_row = |row: &Row| {
        let forks: Vec<Outcome> = row.forks.iter().map(|fork| outcome(*fork, row)).collect();
        std::iter::once(outcome(row.id, row)).chain(forks).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

/// Plans and commits one step, and returns the rows.
fn step(scheduler: &mut Scheduler) -> Vec<Row> {
    let plan = plan(scheduler);
    scheduler.commit(&outcomes(&plan.rows, false));
    plan.rows
}

fn finish(scheduler: &mut Scheduler) {
    let rows = plan(scheduler).rows;
    scheduler.commit(&outcomes(&rows, true));
}

fn shape(rows: &[Row]) -> Vec<(u64, u32, usize, bool)> {
    rows.iter().map(|row| (row.id.0, row.start, row.tokens.len(), row.samples > 0)).collect()
}

#[test]
fn a_long_prompt_is_computed_in_chunks_beside_decodes() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 10, 40)).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(1, 0, 10, true)]);
    scheduler.submit(unlike(2, 100, 120)).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(1, 10, 1, true), (2, 0, 64, false)]);
    assert_eq!(shape(&step(&mut scheduler)), [(1, 11, 1, true), (2, 64, 36, true)]);
    assert_eq!(shape(&step(&mut scheduler)), [(1, 12, 1, true), (2, 100, 1, true)]);
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
fn the_lowest_gives_way_and_comes_back_with_its_tokens() {
    let mut scheduler = Scheduler::new(Limits { blocks: 5, ..LIMITS });
    scheduler.submit(arrival(1, 64, 100)).unwrap();
    scheduler.submit(Arrival { priority: Priority::Low, ..unlike(2, 31, 40) }).unwrap();
    step(&mut scheduler);
    step(&mut scheduler);
    assert_eq!(scheduler.stats().running, 2);
    scheduler.submit(Arrival { priority: Priority::Normal, ..unlike(3, 20, 40) }).unwrap();
    let third = plan(&mut scheduler);
    assert_eq!(third.preempted, [SequenceId(2)]);
    assert_eq!(shape(&third.rows), [(1, 65, 1, true), (3, 0, 20, true)]);
    assert!(scheduler.cancel(SequenceId(1)) && scheduler.cancel(SequenceId(3)));
    let row = plan(&mut scheduler).rows.remove(0);
    assert_eq!((row.id, row.start, row.tokens), (SequenceId(2), 31, vec![9]), "what it had computed is still here");
}

#[test]
fn low_counts_as_normal_after_ten_seconds_and_as_high_after_twenty() {
    let first = |now_ms, rival| {
        let mut scheduler = Scheduler::new(Limits { sequences_max: 1, ..LIMITS });
        scheduler.submit(Arrival { priority: Priority::Low, ..arrival(1, 5, 6) }).unwrap();
        scheduler.submit(Arrival { priority: rival, now_ms, client: ClientId(2), ..unlike(2, 5, 6) }).unwrap();
        scheduler.plan(now_ms, 64).rows[0].id.0
    };
    assert_eq!((first(LEVEL_MS - 1, Priority::Normal), first(LEVEL_MS, Priority::Normal)), (2, 1));
    assert_eq!((first(2 * LEVEL_MS - 1, Priority::High), first(2 * LEVEL_MS, Priority::High)), (2, 1));
    assert_eq!(first(2 * LEVEL_MS - 1, Priority::Normal), 1, "equals are served in the order of their arrival");
}

#[test]
fn a_chat_does_not_wait_behind_an_agents_backlog() {
    let mut scheduler = Scheduler::new(Limits { waiting_max: 100, ..LIMITS });
    for id in 0..50 {
        scheduler.submit(Arrival { client: ClientId(1), ..unlike(id, 20, 60) }).unwrap();
    }
    step(&mut scheduler);
    assert_eq!(scheduler.stats().running, 4, "alone, the agent has the whole machine");
    scheduler.submit(Arrival { client: ClientId(2), ..unlike(99, 20, 60) }).unwrap();
    let next = plan(&mut scheduler);
    assert_eq!(next.preempted, [SequenceId(3)], "the agent's youngest gives its place to a client that has none");
    assert!(next.rows.iter().any(|row| row.id == SequenceId(99)));
    scheduler.commit(&outcomes(&next.rows, false));
    scheduler.submit(Arrival { client: ClientId(2), ..unlike(98, 20, 60) }).unwrap();
    assert_eq!(plan(&mut scheduler).preempted, [], "but only one");
}

#[test]
fn two_busy_clients_get_the_same_service() {
    // One asks for long answers to short prompts, the other the other way round.
    let mut scheduler = Scheduler::new(Limits { blocks: 64, waiting_max: 800, ..LIMITS });
    for id in 0..800 {
        let (client, prompt, answer) = if id % 2 == 0 { (1, 10, 40) } else { (2, 100, 15) };
        let ours = Arrival { client: ClientId(client), ..unlike(id, prompt, prompt + answer) };
        scheduler.submit(ours).unwrap();
    }
    let mut served = [0_u32; 2];
    for _ in 0..1_000 {
        let rows = plan(&mut scheduler).rows;
        let mut ended = Vec::new();
        for row in &rows {
            served[row.id.0 as usize % 2] += row.tokens.len() as u32 + row.samples * DRAWN_TOKEN_COST;
            let most = if row.id.0 % 2 == 0 { 49 } else { 114 };
            ended.push(row.start + row.tokens.len() as u32 > most);
        }
        let mut outcomes = outcomes(&rows, false);
        outcomes.iter_mut().zip(ended).for_each(|(outcome, ended)| outcome.finished = ended);
        scheduler.commit(&outcomes);
    }
    assert!(scheduler.stats().waiting > 400, "both were busy all the time");
    let ratio = f64::from(served[0]) / f64::from(served[1]);
    assert!((0.75..1.33).contains(&ratio), "{served:?}");
}

#[test]
fn a_short_prompt_passes_a_long_one_which_goes_on_beside_it() {
    let mut scheduler = Scheduler::new(Limits { blocks: 64, ..LIMITS });
    scheduler.submit(unlike(1, 1_000, 1_010)).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(1, 0, 64, false)]);
    scheduler.submit(unlike(2, 40, 60)).unwrap();
    assert_eq!(shape(&step(&mut scheduler)), [(2, 0, 40, true)], "the step is no longer than the short one needs");
    scheduler.submit(unlike(3, 40, 60)).unwrap();
    let rows = step(&mut scheduler);
    assert_eq!(shape(&rows), [(2, 40, 1, true), (3, 0, 40, true), (1, 64, 15, false)], "nobody is passed over twice");
    assert_eq!(shape(&step(&mut scheduler))[2..], [(1, 79, 63, false)]);
}

#[test]
fn a_prompt_that_would_just_miss_its_end_gets_a_longer_step_but_the_long_one_the_next() {
    let limits = Limits { blocks: 64, prefill_tokens_max: 128, step_tokens_max: 192, ..LIMITS };
    let mut scheduler = Scheduler::new(limits);
    let mut step = |arrival: Option<Arrival>| {
        arrival.into_iter().for_each(|arrival| scheduler.submit(arrival).unwrap());
        let plan = scheduler.plan(0, 64);
        scheduler.commit(&outcomes(&plan.rows, false));
        shape(&plan.rows)
    };
    assert_eq!(step(Some(unlike(0, 120, 130))), [(0, 0, 120, true)]);
    assert_eq!(step(Some(unlike(1, 1_000, 1_010))), [(0, 120, 1, true), (1, 0, 64, false)]);
    assert_eq!(step(Some(unlike(2, 120, 130))), [(0, 121, 1, true), (2, 0, 120, true)]);
    let next = step(Some(unlike(3, 80, 100)));
    assert_eq!(next[2..], [(3, 0, 48, false), (1, 64, 15, false)], "nobody is passed over twice in a row");
}

#[test]
fn tokens_far_from_the_start_cost_more() {
    let mut scheduler = Scheduler::new(Limits { context_tokens: 64, blocks: 64, ..LIMITS });
    scheduler.submit(unlike(1, 1_000, 1_010)).unwrap();
    let shapes: Vec<_> = (0..3).map(|_| shape(&step(&mut scheduler))[0]).collect();
    assert_eq!(shapes, [(1, 0, 64, false), (1, 64, 32, false), (1, 96, 25, false)]);
}

#[test]
fn choices_share_their_whole_prompt_and_copy_its_last_block_when_they_write() {
    let mut scheduler = Scheduler::new(LIMITS);
    for id in 0..3 {
        scheduler.submit(Arrival { twin: (id > 0).then_some(SequenceId(0)), ..arrival(id, 50, 60) }).unwrap();
    }
    let rows = step(&mut scheduler);
    assert_eq!((shape(&rows), rows[0].forks.len()), (vec![(0, 0, 50, true)], 2), "the prompt is computed once");
    assert_eq!(scheduler.stats().blocks_used, 2);
    let next = plan(&mut scheduler);
    assert_eq!(shape(&next.rows), [(0, 50, 1, true), (1, 50, 1, true), (2, 50, 1, true)]);
    let shared = rows[0].blocks[1];
    assert_eq!(next.copies.iter().map(|copy| copy.from).collect::<Vec<_>>(), [shared, shared]);
    assert!(next.rows.iter().all(|row| row.blocks[0] == rows[0].blocks[0]));
    assert_eq!(scheduler.stats().blocks_used, 4, "the last holder writes in place");
}

#[test]
fn a_choice_whose_twin_is_cancelled_reads_the_prompt_itself() {
    let mut scheduler = Scheduler::new(LIMITS);
    for id in 0..2 {
        scheduler.submit(Arrival { twin: (id > 0).then_some(SequenceId(0)), ..arrival(id, 100, 110) }).unwrap();
    }
    assert_eq!(shape(&step(&mut scheduler)), [(0, 0, 64, false)]);
    scheduler.cancel(SequenceId(0));
    assert_eq!(shape(&step(&mut scheduler)), [(1, 64, 36, true)]);
}

#[test]
fn a_draft_is_kept_as_far_as_it_was_right() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 10, 40)).unwrap();
    step(&mut scheduler);
    scheduler.draft(SequenceId(1), &[4, 5, 6]);
    let rows = plan(&mut scheduler).rows;
    assert_eq!((&rows[0].tokens, rows[0].samples), (&vec![9, 4, 5, 6], 4));
    scheduler.commit(&[Outcome { id: SequenceId(1), tokens: vec![4, 5, 8], finished: false }]);
    let rows = plan(&mut scheduler).rows;
    assert_eq!((rows[0].start, &rows[0].tokens), (13, &vec![8]), "what was wrong is computed again");
    scheduler.commit(&outcomes(&rows, false));
    scheduler.draft(SequenceId(1), &[1; 100]);
    assert_eq!(plan(&mut scheduler).rows[0].tokens.len(), 40 - 14, "no position beyond the most");
}

/// A model with recurrent states.
fn recurrent(states: u32) -> Scheduler {
    Scheduler::new(Limits { states, ..LIMITS })
}

/// Computes a sequence until it draws, draws once, and ends it; returns what its rows began with and computed.
fn run_alone(scheduler: &mut Scheduler, arrival: Arrival) -> Vec<(u32, usize)> {
    let id = arrival.id;
    scheduler.submit(arrival).unwrap();
    let mut rows = Vec::new();
    while scheduler.running_index(id).is_some() || rows.is_empty() {
        let plan = plan(scheduler);
        rows.extend(plan.rows.iter().map(|row| (row.start, row.tokens.len())));
        scheduler.commit(&outcomes(&plan.rows, true));
    }
    rows
}

#[test]
fn a_row_that_crosses_the_end_of_a_block_ends_with_one_where_states_are_kept() {
    assert_eq!(run_alone(&mut recurrent(8), arrival(1, 75, 80)), [(0, 64), (64, 11)]);
    assert_eq!(run_alone(&mut recurrent(0), arrival(1, 75, 80)), [(0, 64), (64, 11)]);
    assert_eq!(run_alone(&mut recurrent(8), arrival(1, 50, 80)), [(0, 32), (32, 18)]);
    assert_eq!(run_alone(&mut recurrent(0), arrival(1, 50, 80)), [(0, 50)]);
}

#[test]
fn a_prefix_is_reused_up_to_the_last_state_that_was_kept() {
    let mut scheduler = recurrent(8);
    run_alone(&mut scheduler, arrival(1, 100, 110));
    // The same prompt, longer: the state at the end of its third block was kept.
    assert_eq!(run_alone(&mut scheduler, arrival(2, 120, 130)), [(96, 24)]);
    // Another that goes on differently after two blocks: their keys are here, a state of that place is not.
    let mut other = arrival(3, 100, 110);
    other.tokens[70..].iter_mut().for_each(|token| *token += 500);
    assert_eq!(run_alone(&mut scheduler, other.clone()), [(0, 64), (64, 32), (96, 4)]);
    // From then on there is one.
    other.id = SequenceId(4);
    other.tokens[65] += 7;
    assert_eq!(run_alone(&mut scheduler, other), [(64, 32), (96, 4)]);
}

#[test]
fn after_a_wrong_guess_the_right_tokens_are_computed_again_from_the_state_before() {
    let mut scheduler = recurrent(8);
    scheduler.submit(arrival(1, 10, 60)).unwrap();
    let first = step(&mut scheduler)[0].state.unwrap();
    scheduler.draft(SequenceId(1), &[9, 9, 8, 9]);
    let guessed = plan(&mut scheduler).rows.remove(0);
    let state = guessed.state.unwrap();
    assert_eq!((guessed.tokens.as_slice(), guessed.samples), (&[9, 9, 9, 8, 9][..], 5));
    assert!(state.from == Some(first.to) && state.to != first.to);
    scheduler.commit(&[Outcome { id: SequenceId(1), tokens: vec![9, 9, 7], finished: false }]);
    scheduler.draft(SequenceId(1), &[1]);
    let again = plan(&mut scheduler).rows.remove(0);
    assert_eq!((again.start, again.tokens.as_slice(), again.samples), (10, &[9, 9, 9, 7][..], 1));
    assert_eq!(again.state, Some(RowState { from: Some(first.to), to: first.to }));
    scheduler.commit(&[Outcome { id: SequenceId(1), tokens: vec![5], finished: false }]);
    // All right: the row's own state is gone on from.
    scheduler.draft(SequenceId(1), &[9, 9]);
    let guessed = plan(&mut scheduler).rows.remove(0);
    scheduler.commit(&[Outcome { id: SequenceId(1), tokens: vec![9, 9, 9], finished: false }]);
    let next = plan(&mut scheduler).rows.remove(0);
    assert_eq!((next.start, next.tokens.len(), next.state.unwrap().from), (17, 1, Some(guessed.state.unwrap().to)));
}

#[test]
fn a_guess_does_not_cross_the_end_of_a_block_where_states_are_kept() {
    let mut scheduler = recurrent(8);
    scheduler.submit(arrival(1, 28, 90)).unwrap();
    step(&mut scheduler);
    scheduler.draft(SequenceId(1), &[9; 8]);
    assert_eq!(step(&mut scheduler)[0].tokens.len(), 4);
}

#[test]
fn choices_of_one_prompt_go_on_from_one_state_and_leave_their_own() {
    let mut scheduler = recurrent(8);
    scheduler.submit(arrival(1, 40, 60)).unwrap();
    scheduler.submit(Arrival { twin: Some(SequenceId(1)), ..arrival(2, 40, 60) }).unwrap();
    step(&mut scheduler);
    step(&mut scheduler);
    let rows = step(&mut scheduler);
    let states: Vec<RowState> = rows.iter().map(|row| row.state.unwrap()).collect();
    assert_eq!((rows.len(), states[0].from), (2, states[1].from));
    assert!(states.iter().all(|state| state.from != Some(state.to)) && states[0].to != states[1].to, "{states:?}");
}

/// The rows of a judged prompt: where each begins, how many tokens it has, and how many of those are judged by.
fn judged(rows: &[Row]) -> Vec<(u64, u32, usize, u32)> {
    rows.iter().map(|row| (row.id.0, row.start, row.tokens.len(), row.judged)).collect()
}

#[test]
fn a_judged_prompt_is_computed_whatever_is_cached_and_gives_few_logits_a_step() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    scheduler.submit(Arrival { judge_from: Some(0), ..arrival(2, 64, 70) }).unwrap();
    assert_eq!(judged(&step(&mut scheduler)), [(2, 0, 24, 24)]);
    scheduler.submit(Arrival { judge_from: Some(0), ..unlike(3, 10, 20) }).unwrap();
    assert_eq!(judged(&step(&mut scheduler)), [(2, 24, 24, 24)], "one prompt at a time");
    assert_eq!(judged(&step(&mut scheduler)), [(2, 48, 16, 15)], "the last logits are those that are drawn from");
    assert_eq!(judged(&step(&mut scheduler)), [(2, 64, 1, 0), (3, 0, 10, 9)]);
    assert_eq!(scheduler.cached_tokens(SequenceId(2)), 0);
}

#[test]
fn what_was_judged_before_comes_from_the_cache() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 96, 100)).unwrap();
    step(&mut scheduler);
    finish(&mut scheduler);
    scheduler.submit(Arrival { judge_from: Some(40), ..arrival(2, 70, 80) }).unwrap();
    assert_eq!(judged(&step(&mut scheduler)), [(2, 40, 24, 24)], "what is before the first that is judged is reused");
    assert_eq!(judged(&step(&mut scheduler)), [(2, 64, 6, 5)]);
    scheduler.submit(Arrival { judge_from: Some(69), ..arrival(3, 70, 80) }).unwrap();
    assert_eq!(judged(&step(&mut scheduler))[1..], [(3, 69, 1, 0)], "the last token judges nothing");
}
