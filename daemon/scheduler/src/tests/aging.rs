//! How long prompts that were admitted wait to be read, beside others of every priority.

use super::*;

fn crowded() -> Scheduler {
    Scheduler::new(Limits { blocks: 400, sequences_max: 16, waiting_max: 1_000, ..LIMITS })
}

/// Computes a step at a time; returns how many tokens of a sequence it reads.
fn read(scheduler: &mut Scheduler, id: u64, now_ms: u64) -> usize {
    let plan = scheduler.plan(now_ms, 64);
    scheduler.commit(&outcomes(&plan.rows, true));
    plan.rows.iter().filter(|row| row.id.0 == id).map(|row| row.tokens.len()).sum()
}

#[test]
fn an_admitted_prompt_that_others_pass_over_counts_for_more_after_ten_seconds() {
    let most = |rival| {
        let mut scheduler = crowded();
        scheduler.submit(Arrival { priority: Priority::Low, ..unlike(1, 9_000, 9_001) }).unwrap();
        assert_eq!(read(&mut scheduler, 1, 0), 64, "alone it is read at once");
        let times = (1..600).map(|step| step * 100);
        let mut unread: (u64, u64) = (0, 0);
        for now_ms in times {
            // Two others are busy all the time, and each of their prompts takes all of a step.
            let newest =
                Arrival { priority: rival, client: ClientId(1 + now_ms % 200), now_ms, ..unlike(now_ms, 64, 65) };
            scheduler.submit(newest).unwrap();
            match read(&mut scheduler, 1, now_ms) {
                0 => unread.1 = unread.1.max(now_ms - unread.0),
                _ => unread.0 = now_ms,
            }
        }
        unread.1
    };
    assert!(most(Priority::Normal) <= LEVEL_MS + 500);
    assert!(most(Priority::High) <= 2 * LEVEL_MS + 500);
}

/// A long prompt that has waited for half a minute, and is now being read.
fn after_long_waiting(priority: Priority) -> (Scheduler, u64) {
    let mut scheduler = crowded();
    scheduler.submit(Arrival { priority, ..unlike(1, 3_000, 3_001) }).unwrap();
    let now_ms = 3 * LEVEL_MS;
    assert_eq!(read(&mut scheduler, 1, now_ms), 64);
    (scheduler, now_ms)
}

#[test]
fn a_short_prompt_does_not_wait_for_all_of_a_long_one_that_had_to_wait() {
    for priority in [Priority::Low, Priority::Normal] {
        let (mut scheduler, now_ms) = after_long_waiting(priority);
        scheduler.submit(Arrival { client: ClientId(2), now_ms, ..unlike(2, 120, 121) }).unwrap();
        let steps: Vec<usize> = (0..3).map(|_| read(&mut scheduler, 2, now_ms)).collect();
        assert_eq!(steps.iter().sum::<usize>(), 120, "{steps:?}");
    }
}

#[test]
fn a_step_is_left_for_a_short_prompt_also_where_the_long_one_had_to_wait() {
    let (mut scheduler, now_ms) = after_long_waiting(Priority::Low);
    let newcomer = Newcomer { client: ClientId(2), priority: Priority::Normal, tokens: 10, pending: 10 };
    let plan = scheduler.plan(now_ms, 64);
    assert!(scheduler.gives_way(&plan, &newcomer));
    assert!(!scheduler.gives_way(&plan, &Newcomer { priority: Priority::Low, ..newcomer }));
}

#[test]
fn whoever_waits_for_what_another_computes_does_not_age() {
    let mut scheduler = crowded();
    (1..4).for_each(|id| scheduler.submit(arrival(id, 2_000, 2_001)).unwrap());
    for step in 0..30 {
        let plan = scheduler.plan(step * LEVEL_MS / 2, 64);
        assert_eq!(plan.rows.iter().map(|row| row.id.0).collect::<Vec<_>>(), [1], "only the first reads");
        scheduler.commit(&outcomes(&plan.rows, false));
    }
    assert!(scheduler.running.iter().all(|sequence| sequence.level == Priority::Normal as u8));
}
