//! Which steps are left for a prompt that has just come.

use super::*;

const SHORT: Newcomer = Newcomer { client: ClientId(1), priority: Priority::Normal, tokens: 10, pending: 10 };

/// A scheduler that is in the middle of a long prompt, and the plan in flight.
fn reading() -> (Scheduler, Plan) {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 400, 401)).unwrap();
    step(&mut scheduler);
    let plan = plan(&mut scheduler);
    assert_eq!(shape(&plan.rows), [(1, 64, 63, false)]);
    (scheduler, plan)
}

#[test]
fn a_step_that_reads_a_long_prompt_gives_way_to_a_short_one_that_has_room() {
    let (scheduler, plan) = reading();
    assert!(scheduler.gives_way(&plan, &SHORT));
    assert!(!scheduler.gives_way(&plan, &Newcomer { priority: Priority::Low, ..SHORT }), "not to less urgent work");
    assert!(!scheduler.gives_way(&plan, &Newcomer { tokens: 400, pending: 390, ..SHORT }), "not to a longer one");
    let cached = Newcomer { tokens: 60, pending: 10, ..SHORT };
    assert!(scheduler.gives_way(&plan, &cached), "what is cached does not count");
    assert!(!scheduler.gives_way(&plan, &Newcomer { tokens: 200, ..cached }), "not to one that there is no room for");
}

#[test]
fn a_step_that_ends_a_prompt_or_reads_none_is_not_left() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.submit(arrival(1, 60, 80)).unwrap();
    let ending = plan(&mut scheduler);
    assert_eq!(shape(&ending.rows), [(1, 0, 60, true)]);
    assert!(!scheduler.gives_way(&ending, &SHORT));
    scheduler.commit(&outcomes(&ending.rows, false));
    let decoding = plan(&mut scheduler);
    assert!(!scheduler.gives_way(&decoding, &SHORT));
}

#[test]
fn what_was_left_is_planned_again_and_not_left_a_second_time() {
    let (mut scheduler, left) = reading();
    scheduler.leave();
    scheduler.submit(Arrival { client: SHORT.client, ..unlike(2, 10, 20) }).unwrap();
    let next = plan(&mut scheduler);
    assert_eq!(shape(&next.rows), [(2, 0, 10, true)], "the short one has the step that it was left for");
    scheduler.commit(&outcomes(&next.rows, true));
    let again = plan(&mut scheduler);
    assert_eq!(again.rows, left.rows);
    assert!(!scheduler.gives_way(&again, &SHORT));
    scheduler.commit(&outcomes(&again.rows, false));
    let further = plan(&mut scheduler);
    assert!(scheduler.gives_way(&further, &SHORT), "once it has moved, the next may be left");
}

#[test]
fn a_step_whose_state_changes_in_place_is_not_left() {
    let mut scheduler = Scheduler::new(Limits { states: 8, ..LIMITS });
    scheduler.submit(arrival(1, 400, 401)).unwrap();
    let first = plan(&mut scheduler);
    assert!(scheduler.gives_way(&first, &SHORT), "it begins from nothing");
    scheduler.commit(&outcomes(&first.rows, false));
    let mut in_place = Vec::new();
    for _ in 0..6 {
        let next = scheduler.plan(0, 8);
        let changes = next.rows.iter().any(|row| row.state.is_some_and(|state| state.from == Some(state.to)));
        assert_eq!(scheduler.gives_way(&next, &SHORT), !changes);
        in_place.push(changes);
        scheduler.commit(&outcomes(&next.rows, false));
    }
    assert!(in_place.contains(&true) && in_place.contains(&false), "{in_place:?}");
}
