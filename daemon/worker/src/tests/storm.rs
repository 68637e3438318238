//! More work than the cache holds blocks for: everybody gives way and comes back, and nothing is lost.

use pipe::{Open, ToWorker, WorkId};
use protocol::generation::{GenerateRequest, Priority};

use super::kit::{Daemon, Folder, open, request, submit_as};

const REQUESTS: u64 = 40;

fn asked(id: u64) -> GenerateRequest {
    let priorities = [Priority::Low, Priority::Normal, Priority::High];
    let mut asked = request(&"words that many begin with ".repeat(1 + id as usize % 7), 30 + (id as u32 * 13) % 90);
    asked.sampling.seed = Some(id);
    asked.priority = priorities[id as usize % 3];
    asked.choices = if id.is_multiple_of(5) { 3 } else { 1 };
    asked
}

/// What came of all requests that were not cancelled, and how often a sequence gave way.
fn storm(open: Open) -> (Vec<Vec<Vec<u32>>>, u64) {
    let mut daemon = Daemon::start(open);
    for id in 0..REQUESTS {
        daemon.send(submit_as(id % 4, id, &asked(id), Vec::new()));
        if id % 6 == 5 {
            daemon.send(ToWorker::Cancel(WorkId(id)));
        }
    }
    let answered = (0..REQUESTS).filter(|id| id % 6 != 5);
    let answers = answered.map(|id| daemon.answer(id).tokens).collect();
    daemon.send(submit_as(0, REQUESTS, &request("the last", 1), Vec::new()));
    daemon.see_delta(REQUESTS);
    let pulse = daemon.idle_pulse();
    assert_eq!((pulse.running, pulse.waiting, pulse.blocks_used), (0, 0, 0), "nothing is held when all is done");
    (answers, pulse.measures.preemptions)
}

#[test]
fn a_storm_on_a_cache_of_few_blocks_loses_nothing() {
    let folder = Folder::new("storm", |recipe| recipe.endless());
    let with = |blocks: u64| Open { kv_bytes: blocks * folder.block_bytes(), waiting_max: 64, ..open(&folder) };
    let (calm, undisturbed) = storm(with(2_000));
    let (stormy, gave_way) = storm(with(13));
    assert_eq!(calm, stormy);
    assert!(gave_way > undisturbed + 10, "{undisturbed} and {gave_way} gave way");
}
