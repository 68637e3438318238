//! A long storm: 32 streams at once and a hundred kills of their worker, over a model with a little work in it.
//!
//! `make soak` runs it; it takes a few minutes at most and is no part of `make test`, which runs a small one. It fails if
//! one stream differs from its undisturbed twin, or if the daemon's memory grows.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use engine::random::Recipe;
use tests::house::{House, Plan};
use tests::process::resident_kb;
use tests::{model, storm};

/// The most that the daemon may hold more after the storm than after its first round, in kilobytes.
const GROWTH_KB_MAX: u64 = 8 << 10;

#[tokio::main]
async fn main() {
    let house = House::with(Plan { config: storm::CONFIG.to_owned(), ..Plan::default() });
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 16).quantized(8, 64).endless()).await;
    let wait_max = Duration::from_millis(400);
    let plan = storm::Plan { streams: 32, tokens: 700, kills: 10, wait_max, seed: 0x5EED };
    let began = Instant::now();
    let first = storm::blow(&client, "m", plan).await;
    let before = resident_kb(house.daemon_pid()).unwrap_or(0);
    let rest = storm::blow(&client, "m", storm::Plan { kills: 90, seed: 0xCAFE, ..plan }).await;
    let after = resident_kb(house.daemon_pid()).unwrap_or(0);
    let (kills, streams) = (first.kills + rest.kills, first.streams + rest.streams);
    let differences: Vec<String> = first.differences.into_iter().chain(rest.differences).collect();
    println!(
        "{kills} kills under 32 streams in {:.0} s: {streams} streams read to their end, {} of them changed; the daemon \
         held {before} kB and then {after} kB",
        began.elapsed().as_secs_f32(),
        differences.len(),
    );
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(after < before + GROWTH_KB_MAX, "the daemon grew");
}
