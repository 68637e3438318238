//! What is cached is reused by whoever begins so, and by nobody else.

use super::*;

#[test]
fn a_second_request_reuses_the_prefix_but_computes_its_last_token() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    assert_eq!(scheduler.stats().blocks_cached, 2);
    scheduler.submit(arrival(2, 64, 70)).unwrap();
    assert_eq!(shape(&plan(&mut scheduler).rows), [(2, 63, 1, true)]);
    assert_eq!(scheduler.cached_tokens(SequenceId(2)), 63);
}

#[test]
fn a_prompt_goes_on_in_a_copy_of_the_block_that_begins_most_like_it() {
    let mut scheduler = Scheduler::new(LIMITS);
    for (id, differs) in [(1, 35), (2, 45)] {
        let mut arrival = arrival(id, 64, 70);
        arrival.tokens[differs] = 0;
        scheduler.submit(arrival).unwrap();
        finish(&mut scheduler);
    }
    scheduler.submit(arrival(3, 64, 70)).unwrap();
    let next = plan(&mut scheduler);
    assert_eq!(shape(&next.rows), [(3, 45, 19, true)]);
    let [copy] = next.copies[..] else { panic!("one copy: {:?}", next.copies) };
    assert_eq!((copy.to, copy.positions), (next.rows[0].blocks[1], 13));
    assert_ne!(copy.from, copy.to);
    assert_eq!(scheduler.stats().blocks_cached, 2, "what is copied stays, and the first block is in use");
}

#[test]
fn a_block_that_is_not_full_is_found_by_the_next_who_begins_so() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 50, 70)).unwrap();
    step(&mut scheduler);
    finish(&mut scheduler);
    // It drew 9 twice and computed the first of those.
    let mut next = arrival(2, 50, 80);
    next.tokens.extend([9, 9, 5]);
    scheduler.submit(next.clone()).unwrap();
    assert_eq!(shape(&plan(&mut scheduler).rows), [(2, 51, 2, true)]);
    scheduler.cancel(SequenceId(2));
    assert_eq!(scheduler.stats().blocks_cached, 2, "the same is not kept twice");
    let longer = Arrival { id: SequenceId(3), ..next };
    scheduler.submit(longer).unwrap();
    step(&mut scheduler);
    scheduler.cancel(SequenceId(3));
    assert_eq!(scheduler.stats().blocks_cached, 2, "of two that begin alike the longer is kept");
    assert_eq!(scheduler.kept().count(), 1, "what is not full does not go to the disk");
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
    plan(&mut scheduler);
    scheduler.cancel(SequenceId(1));
    scheduler.submit(arrival(2, 60, 70)).unwrap();
    assert_eq!(shape(&plan(&mut scheduler).rows), [(2, 0, 60, true)]);
}

#[test]
fn a_missing_prefix_is_explained() {
    let missed = |scheduler: &mut Scheduler, arrival: Arrival| {
        let id = arrival.id;
        scheduler.submit(arrival).unwrap();
        plan(scheduler);
        let missed = scheduler.missed(id).unwrap();
        scheduler.cancel(id);
        missed
    };
    let mut scheduler = Scheduler::new(Limits { blocks: 5, ..LIMITS });
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    assert_eq!(missed(&mut scheduler, arrival(2, 65, 70)), Missed::Nothing);
    assert_eq!(missed(&mut scheduler, arrival(3, 97, 99)), Missed::New { position: 64 });
    let mut changed = arrival(4, 65, 70);
    changed.tokens[40] = 0;
    assert_eq!(missed(&mut scheduler, changed), Missed::Differs { position: 40 });
    assert_eq!(missed(&mut scheduler, unlike(5, 65, 70)), Missed::New { position: 0 });
    scheduler.submit(unlike(6, 150, 160)).unwrap();
    (0..3).for_each(|_| drop(step(&mut scheduler)));
    scheduler.cancel(SequenceId(6));
    assert_eq!(missed(&mut scheduler, arrival(7, 65, 70)), Missed::Evicted { position: 0 });
}

#[test]
fn what_is_found_while_others_compute_it_is_explained_too() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 200, 210)).unwrap();
    scheduler.submit(arrival(2, 200, 210)).unwrap();
    step(&mut scheduler);
    assert_eq!(scheduler.missed(SequenceId(2)), Some(Missed::New { position: 0 }));
    (0..8).for_each(|_| drop(step(&mut scheduler)));
    assert_eq!(
        (scheduler.cached_tokens(SequenceId(2)), scheduler.missed(SequenceId(2))),
        (192, Some(Missed::New { position: 192 }))
    );
}

#[test]
fn a_prefix_that_is_gone_is_missed_from_where_another_ends() {
    let mut scheduler = Scheduler::new(Limits { blocks: 5, ..LIMITS });
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    scheduler.submit(unlike(2, 150, 160)).unwrap();
    (0..3).for_each(|_| drop(step(&mut scheduler)));
    scheduler.cancel(SequenceId(2));
    let mut alike = arrival(3, 33, 40);
    alike.tokens[5..].fill(7);
    scheduler.submit(alike).unwrap();
    finish(&mut scheduler);
    scheduler.submit(arrival(4, 65, 70)).unwrap();
    plan(&mut scheduler);
    let cached = scheduler.cached_tokens(SequenceId(4));
    assert_eq!((cached, scheduler.missed(SequenceId(4))), (5, Some(Missed::Evicted { position: 5 })));
}

#[test]
fn evicted_blocks_are_reported_once_and_can_be_restored() {
    let mut scheduler = Scheduler::new(Limits { blocks: 3, report_evicted: true, ..LIMITS });
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    assert_eq!(scheduler.kept().map(|kept| kept.tokens.len()).collect::<Vec<_>>(), [32, 64], "the newest first");
    scheduler.submit(unlike(2, 90, 95)).unwrap();
    plan(&mut scheduler);
    let lengths: Vec<usize> = scheduler.take_evicted().iter().map(|kept| kept.tokens.len()).collect();
    assert_eq!(lengths, [64, 32], "what follows a prefix goes before it");
    assert!(scheduler.take_evicted().is_empty());
    scheduler.cancel(SequenceId(2));
    let prefix: Vec<TokenId> = (1..=64).collect();
    assert_eq!(scheduler.known(Salt(0), &prefix).blocks, 0);
    let places: Vec<u32> = scheduler.restore(Salt(0), &prefix).iter().map(|(place, _)| *place).collect();
    assert_eq!((places, scheduler.known(Salt(0), &prefix).blocks), (vec![0, 1], 2));
    assert!(scheduler.restore(Salt(0), &prefix).is_empty());
}

#[test]
fn what_is_cached_of_one_salt_is_not_there_for_another() {
    let mut scheduler = Scheduler::new(Limits { report_evicted: true, ..LIMITS });
    scheduler.submit(arrival(1, 64, 70)).unwrap();
    finish(&mut scheduler);
    let other = Arrival { salt: Salt(1), ..arrival(2, 65, 70) };
    scheduler.submit(other.clone()).unwrap();
    let next = plan(&mut scheduler);
    assert_eq!((next.rows[0].start, next.copies.len()), (0, 0), "neither shared nor copied");
    assert_eq!(
        scheduler.missed(SequenceId(2)),
        Some(Missed::New { position: 0 }),
        "it cannot tell that others have it"
    );
    scheduler.commit(&outcomes(&next.rows, false));
    (0..2).for_each(|_| drop(step(&mut scheduler)));
    scheduler.cancel(SequenceId(2));
    scheduler.submit(Arrival { id: SequenceId(3), ..other }).unwrap();
    assert_eq!(shape(&plan(&mut scheduler).rows), [(3, 64, 1, true)], "its own are there");
    let known = |salt| scheduler.known(Salt(salt), &(1..=64).collect::<Vec<TokenId>>()).blocks;
    assert_eq!([known(0), known(1), known(2)], [2, 2, 0]);
    let salts: Vec<Salt> = scheduler.kept().map(|kept| kept.salt).collect();
    assert!(salts.contains(&Salt(0)), "what goes to the disk says whose it is: {salts:?}");
}
