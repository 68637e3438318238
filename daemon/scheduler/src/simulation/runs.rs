//! Many runs of the simulation, short and long, each from its seed.

use super::*;

const SEEDS: u64 = 5_600;
const ARRIVALS_MAX: u64 = 32;

/// Prints the seed if the simulation panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with seed {}", self.0);
        }
    }
}

fn run(seed: u64, arrivals_max: u64) -> Tally {
    let _seed = Seed(seed);
    let mut simulation = Simulation::new(seed);
    while simulation.arrived < arrivals_max || !simulation.asked.is_empty() {
        simulation.now_ms += simulation.random.below(3_000);
        let burst = if simulation.random.chance(20) { simulation.random.below(5) } else { 0 };
        for _ in 0..burst.min(arrivals_max.saturating_sub(simulation.arrived)) {
            simulation.arrive();
        }
        if simulation.random.chance(2) {
            simulation.cancel();
        }
        simulation.step();
    }
    assert_eq!(simulation.scheduler.stats().blocks_used, 0, "nothing is held when all is done");
    assert!(simulation.scheduler.plan(simulation.now_ms, 1).rows.is_empty());
    assert!(simulation.scheduler.places.is_empty() && simulation.scheduler.forks.is_empty(), "nobody is remembered");
    Tally { lasted_ms: simulation.now_ms, preemptions: simulation.scheduler.stats().preemptions, ..simulation.tally }
}

#[test]
fn random_traffic_keeps_every_invariant() {
    let mut sum = Tally::default();
    for seed in 0..SEEDS {
        let tally = run(seed, ARRIVALS_MAX);
        sum.steps += tally.steps;
        sum.preemptions += tally.preemptions;
        sum.reused += tally.reused;
        sum.finished += tally.finished;
        sum.forked += tally.forked;
        sum.copied += tally.copied;
        sum.accepted += tally.accepted;
        sum.rejected += tally.rejected;
        sum.restored += tally.restored;
        sum.restored_states += tally.restored_states;
        sum.set_aside += tally.set_aside;
        sum.ahead += tally.ahead;
        sum.judged += tally.judged;
        sum.left += tally.left;
        sum.waited_most = sum.waited_most.max(tally.waited_most);
    }
    println!("{sum:?}");
    // The traffic must reach the states that it is meant to try.
    assert!(sum.steps > 1_000_000, "{sum:?}");
    assert!(sum.preemptions > SEEDS && sum.reused > SEEDS * 32 && sum.finished > SEEDS * 8, "{sum:?}");
    assert!(sum.forked > SEEDS / 2 && sum.copied > SEEDS / 2 && sum.restored > SEEDS / 4, "{sum:?}");
    assert!(sum.restored_states > SEEDS / 16 && sum.set_aside > SEEDS, "{sum:?}");
    assert!(sum.accepted > SEEDS * 64 && sum.rejected > SEEDS * 64 && sum.ahead > SEEDS * 64, "{sum:?}");
    assert!(sum.judged > SEEDS * 64 && sum.left > SEEDS, "{sum:?}");
}

#[test]
fn a_day_of_traffic_through_one_scheduler_leaves_nothing_behind() {
    for seed in 0..3 {
        let tally = run(seed, 48_000);
        println!("{tally:?}");
        assert!(tally.lasted_ms > 24 * 3_600_000 && tally.finished > 2_000, "{tally:?}");
    }
}
