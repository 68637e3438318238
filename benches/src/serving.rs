//! What one user feels of the others, and what is remembered between requests: through the socket, on the shape of
//! Qwen3-0.6B, 4-bit, random weights.
//!
//! Prompts are made-up tokens, different in every run, unless a measure is about repeating. The machine must be quiet.

use std::time::Instant;

use engine::random::Recipe;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use protocol::client::{Client, EventStream};
use protocol::generation::{GenerateRequest, Prompt};
use protocol::transcript::Event;
use tests::answer::ask;
use tests::house::{House, raw};
use tests::model::add;

use crate::sample::{ms, row};

const MODEL: &str = "shape";
const RUNS: u32 = 3;

/// Tokens of the long prompt that others wait beside, and of the prompts that are remembered.
const LONG: u32 = 30_000;
const REMEMBERED: u32 = 2_000;

/// Runs the measures.
pub async fn run() {
    let house = start().await;
    let client = house.client().await;
    prefix(&client).await;
    stall(&client).await;
}

async fn start() -> House {
    let house = House::start();
    let client = house.client().await;
    add(&house, &client, MODEL, &Recipe::qwen3_600m(1).quantized(4, 64)).await;
    for seed in 0..4 {
        ask(&client, request(prompt(seed, 300), 8)).await.unwrap();
    }
    house
}

/// A made-up prompt.
fn prompt(seed: u32, length: u32) -> Vec<u32> {
    let token = |at: u32| at.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 16;
    (0..length).map(|at| 1_000 + token(at + seed * 77) % 60_000).collect()
}

fn request(tokens: Vec<u32>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest { prompt: Prompt::Tokens(tokens), ..raw(Some(MODEL), "", max_tokens) }
}

/// Waits for the next token; `None` at the end.
async fn token(events: &mut EventStream) -> Option<()> {
    while let Some(event) = events.next().await {
        if let Event::Delta(_) = event.unwrap() {
            return Some(());
        }
    }
    None
}

/// Milliseconds to the first token.
async fn first(client: &Client, request: GenerateRequest) -> f64 {
    let start = Instant::now();
    let mut events = client.generate(request).await.unwrap();
    token(&mut events).await.unwrap();
    let first = ms(start.elapsed());
    while token(&mut events).await.is_some() {}
    first
}

async fn prefix(client: &Client) {
    let (mut cold, mut warm, mut more, mut shared) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let tokens = prompt(100 + run, REMEMBERED);
        cold.push(first(client, request(tokens.clone(), 4)).await);
        warm.push(first(client, request(tokens.clone(), 4)).await);
        let with = |seed, count| tokens.iter().copied().chain(prompt(seed, count)).collect::<Vec<u32>>();
        more.push(first(client, request(with(900 + run, 50), 4)).await);
        let four = (0..4).map(|index| first(client, request(with(950 + 10 * run + index, 20), 4)));
        shared.push(join_all(four).await.into_iter().fold(0.0, f64::max));
    }
    row("first token, 2,000 tokens cold", "ms", cold);
    row("first token, the same 2,000 tokens again", "ms", warm);
    row("first token, those and 50 new ones", "ms", more);
    row("worst first token of 4 at once that share those 2,000", "ms", shared);
    let mut restarted = Vec::new();
    for run in 0..RUNS {
        client.unload(MODEL).await.unwrap();
        ask(client, request(prompt(800 + run, 40), 2)).await.unwrap();
        restarted.push(first(client, request(prompt(100 + run, REMEMBERED), 4)).await);
    }
    row("first token, the same 2,000 tokens after a restart of the worker, from disk", "ms", restarted);
}

async fn stall(client: &Client) {
    let (mut before, mut during) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let mut stream = client.generate(request(prompt(200 + run, 60), 100)).await.unwrap();
        before.push(longest_gap(&mut stream, 40).await);
        let mut other = client.generate(request(prompt(300 + run, REMEMBERED), 2)).await.unwrap();
        during.push(longest_gap(&mut stream, 60).await);
        while token(&mut other).await.is_some() {}
    }
    row("longest gap of a stream that is alone", "ms", before);
    row("longest gap of a stream while a prompt of 2,000 tokens arrives", "ms", during);
}

async fn longest_gap(stream: &mut EventStream, tokens: u32) -> f64 {
    let (mut longest, mut last) = (0.0_f64, Instant::now());
    for _ in 0..tokens {
        if token(stream).await.is_none() {
            break;
        }
        longest = longest.max(ms(last.elapsed()));
        last = Instant::now();
    }
    longest
}

/// Runs those of a short prompt beside a long one, and beside an agent's fifty.
pub async fn beside() {
    let house = start().await;
    let (client, chat) = (house.client().await, house.client().await);
    let mut seed = 1_000;
    let mut short = async |by: &Client, times: u32| {
        let mut samples = Vec::new();
        for _ in 0..times {
            seed += 1;
            samples.push(first(by, request(prompt(seed, 100), 2)).await);
        }
        samples
    };
    row("first token, 100 tokens, nobody else", "ms", short(&chat, 9).await);
    let mut long = client.generate(request(prompt(400, LONG), 2)).await.unwrap();
    row("first token, 100 tokens, beside a prompt of 30,000", "ms", short(&chat, 15).await);
    assert!(token(&mut long).now_or_never().is_none(), "the long prompt was read too soon");
    drop(long);
    for (by, name, seed) in [
        (&chat, "first token, 100 tokens, beside an agent's 50 requests", 500),
        (&client, "the same, from the agent's own connection", 600),
    ] {
        let agent = (seed..seed + 50).map(|seed| ask(&client, request(prompt(seed, 200), 48)));
        let (samples, _) = tokio::join!(short(by, 7), join_all(agent));
        row(name, "ms", samples);
    }
}
