//! More work than the cache holds blocks for: everybody gives way and comes back, and nothing is lost. And of work that is given
//! up at whatever moment, nothing is left.

use pipe::{Open, ToWorker, WorkId};
use protocol::generation::{Constraint, GenerateRequest, Priority};

use super::kit::{Daemon, Folder, open, request, shelved, submit_as};

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

const CANCELS: u64 = 10_000;
/// Requests that are sent: up to half are refused, as they come faster than prompts are read.
const SENT: u64 = 3 * CANCELS;
/// Requests that are alive at a time: more than may run, and more than there are blocks for.
const ALIVE: u64 = 24;

/// One that would go on for long: fetched from disk or not, shaped or not, of one choice or three.
fn endless(id: u64) -> GenerateRequest {
    let text = format!("{} {id}", "words that many begin with ".repeat(1 + id as usize % 9));
    let constraint = id.is_multiple_of(7).then(|| Constraint::Regex("[a-z ]{1000}".to_owned()));
    GenerateRequest { choices: if id.is_multiple_of(5) { 3 } else { 1 }, constraint, ..request(&text, 1_000) }
}

#[test]
fn ten_thousand_that_are_given_up_at_random_moments_leave_nothing_held() {
    let folder = Folder::new("cancels", |recipe| recipe.endless());
    let mut daemon = Daemon::start(Open { waiting_max: 256, ..shelved(&folder, 60) });
    let (mut alive, mut random) = (Vec::new(), 0x5EED_u64);
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for id in 0..SENT {
        daemon.send(submit_as(id % 4, id, &endless(id), Vec::new()));
        alive.push(id);
        // Some while they are written, most wherever they are: in the queue, at a prompt, on the disk, at a shape.
        if draw(2) == 0 {
            let (told, _) = daemon.next_told();
            alive.retain(|id| *id != told);
            daemon.send(ToWorker::Cancel(WorkId(told)));
        }
        while alive.len() > draw(ALIVE) as usize {
            let next = alive.swap_remove(draw(alive.len() as u64) as usize);
            daemon.send(ToWorker::Cancel(WorkId(next)));
        }
    }
    alive.into_iter().for_each(|id| daemon.send(ToWorker::Cancel(WorkId(id))));
    let mut last = SENT;
    loop {
        daemon.send(submit_as(0, last, &request("the last", 1), Vec::new()));
        match daemon.next_told() {
            (told, true) if told >= SENT => break,
            // Prompts that nobody waits for any more still wait to be read.
            _ => last += 1,
        }
    }
    let pulse = daemon.idle_pulse();
    assert!(pulse.measures.requests > CANCELS, "only {} were taken in", pulse.measures.requests);
    assert_eq!((pulse.running, pulse.waiting, pulse.blocks_used), (0, 0, 0), "nothing is held when all is over");
}
