//! The daemon itself: how soon it answers, how much it holds, how long a word over the socket takes.

use std::time::Instant;

use protocol::client::{Client, Patience};
use protocol::transcript::TranscriptId;
use tests::answer::first_text;
use tests::house::{House, question};
use tests::wait;

use crate::sample::{ms, row, us};

/// Starts of the daemon that are measured.
const STARTS: usize = 20;

/// Calls over the socket that are measured.
const CALLS: usize = 5_000;

/// Runs the measures.
pub async fn run() {
    let (mut handshakes, mut first_tokens, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        tests::programs::program("impetusd");
        let start = Instant::now();
        let house = House::start();
        let client = Client::connect(&house.socket(), "benches/0", Patience(wait::LIMIT)).await.unwrap();
        handshakes.push(ms(start.elapsed()));
        let mut events = client.generate(question(None, "What is Impetus?", 8)).await.unwrap();
        first_text(&mut events).await;
        first_tokens.push(ms(start.elapsed()));
        resident.push(client.status().await.unwrap().memory.daemon_bytes as f64 / 1e6);
    }
    row("impetusd: exec to handshake", "ms", handshakes);
    row("impetusd: exec to first token of the bundled model (worker start and load included)", "ms", first_tokens);
    row("impetusd: resident memory after that", "MB", resident);

    let house = House::start();
    let client = house.client().await;
    let mut trips = Vec::new();
    for _ in 0..CALLS {
        let start = Instant::now();
        // An unknown transcript is the least work a verb can be.
        let _ = client.cancel(TranscriptId(u64::MAX)).await;
        trips.push(us(start.elapsed()));
    }
    row("socket round trip of the smallest verb", "µs", trips);
}
