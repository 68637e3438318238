//! Two long trials that are no part of `make test`: a storm of a hundred kills under 32 streams, then ten minutes (or
//! `MINUTES`) of mixed work over socket and HTTP.
//!
//! `make soak` runs them. They fail if one stream differs from its undisturbed twin, or if a process grows: the storm
//! watches the daemon, the work watches daemon, bridge and worker from its first quarter to its last.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use engine::random::Recipe;
use futures::future::join_all;
use protocol::client::Client;
use protocol::generation::{Constraint, GenerateRequest, Priority};
use protocol::model::ModelState;
use serde_json::json;
use tests::answer::{Answer, ask, first_text};
use tests::house::{House, Plan, raw};
use tests::http::Http;
use tests::process::resident_kb;
use tests::{model, storm};

/// The most that a process may hold more at the end than before, in kilobytes.
const GROWTH_KB_MAX: u64 = 8 << 10;

/// Little enough room for what has ended that all of it is soon in use.
const KEPT: &str = "[transcripts]\nended_bytes_max = \"4MB\"\n";

/// Little enough cache that all of it is soon in use, on disk too.
const CACHE: &str = "[memory]\nkv_tokens = 8192\n[cache]\ndisk = \"64MB\"\n";

/// Requests at once.
const CROWD: u64 = 24;

#[tokio::main]
async fn main() {
    kills().await;
    let minutes = std::env::var("MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(10.0);
    work(Duration::from_secs_f64(minutes * 60.0)).await;
}

async fn kills() {
    let house = House::with(Plan { config: storm::CONFIG.to_owned() + KEPT, ..Plan::default() });
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 16).quantized(8, 64).endless()).await;
    let wait_max = Duration::from_millis(400);
    let plan = storm::Plan { streams: 32, tokens: 700, kills: 50, wait_max, seed: 0x5EED };
    let began = Instant::now();
    let first = storm::blow(&client, "m", plan).await;
    let before = resident_kb(house.daemon_pid()).unwrap_or(0);
    let rest = storm::blow(&client, "m", storm::Plan { kills: 50, seed: 0xCAFE, ..plan }).await;
    let after = resident_kb(house.daemon_pid()).unwrap_or(0);
    let (kills, streams) = (first.kills + rest.kills, first.streams + rest.streams);
    let differences: Vec<String> = first.differences.into_iter().chain(rest.differences).collect();
    println!(
        "{kills} kills under 32 streams in {:.0} s: {streams} streams read to their end, {} of them changed; the daemon \
         held {before} kB half way and {after} kB at the end",
        began.elapsed().as_secs_f32(),
        differences.len(),
    );
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(after < before + GROWTH_KB_MAX, "the daemon grew");
}

/// Kilobytes that daemon, bridge and worker hold.
type Held = [u64; 3];

async fn work(time: Duration) {
    let mut house = House::with(Plan { config: CACHE.to_owned() + KEPT, ..Plan::default() });
    let http = house.http().await;
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 17).quantized(8, 64).endless()).await;
    let undisturbed = round(&client, &http).await;
    let (began, mut rounds, mut held) = (Instant::now(), 0_u64, Vec::<(f64, Held)>::new());
    while began.elapsed() < time {
        assert!(round(&client, &http).await == undisturbed, "round {rounds} was answered otherwise");
        rounds += 1;
        held.push((began.elapsed().as_secs_f64() / time.as_secs_f64(), holds(&house, &client).await));
    }
    let most = |from: f64, to: f64| {
        let within = held.iter().filter(|(at, _)| (from..=to).contains(at));
        within.fold([0; 3], |most: Held, (_, held)| std::array::from_fn(|index| most[index].max(held[index])))
    };
    let (before, after) = (most(0.0, 0.25), most(0.75, 2.0));
    println!(
        "{rounds} rounds of {CROWD} requests in {:.0} s, all as undisturbed; daemon, bridge and worker held at most \
         {before:?} kB in the first quarter and {after:?} kB in the last",
        began.elapsed().as_secs_f32(),
    );
    let grew = before.iter().zip(&after).any(|(before, after)| *after > before + GROWTH_KB_MAX);
    assert!(!grew, "a process grew");
}

async fn holds(house: &House, client: &Client) -> Held {
    let card = client.models().await.unwrap().into_iter().find(|card| card.name == "m").unwrap();
    let worker = if let ModelState::Loaded(residence) = card.state { resident_kb(residence.pid) } else { None };
    let bridge = house.bridge_pid().and_then(resident_kb);
    [resident_kb(house.daemon_pid()), bridge, worker].map(Option::unwrap_or_default)
}

/// A crowd of every kind of work at once; what came of those that were not given up.
async fn round(client: &Client, http: &Http) -> Vec<String> {
    let answers = join_all((0..CROWD).map(|index| one(client, http, index))).await;
    answers.into_iter().flatten().collect()
}

async fn one(client: &Client, http: &Http, index: u64) -> Option<String> {
    let long = "a long beginning that many of them share, word for word, ".repeat(20);
    let request = |text: &str, tokens| {
        let mut request = raw(Some("m"), &format!("{text}{index}"), tokens);
        request.sampling.seed = Some(index);
        request.sampling.temperature = Some(0.8);
        request
    };
    let text = |answer: Answer| Some(answer.texts.join("|"));
    match index % 6 {
        0 => text(ask(client, request("plain ", 120)).await.unwrap()),
        1 => text(ask(client, GenerateRequest { choices: 3, ..request(&long, 60) }).await.unwrap()),
        2 => {
            let mut events = client.generate(request(&long, 2_000)).await.unwrap();
            first_text(&mut events).await;
            // Given up in the middle.
            None
        }
        3 => {
            let shape = Constraint::Regex("[a-f]{20,40}".to_owned());
            text(ask(client, GenerateRequest { constraint: Some(shape), ..request("shaped ", 90) }).await.unwrap())
        }
        4 => {
            let body = json!({
                "model": "m", "prompt": format!("{long}{index}"), "max_tokens": 80, "temperature": 0.8, "seed": index,
                "ignore_eos": true, "stream": true,
            });
            let events = http.post("/v1/completions", &body).await.events().await;
            let texts = events.iter().filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok());
            Some(texts.filter_map(|event| event["choices"][0]["text"].as_str().map(str::to_owned)).collect())
        }
        _ => text(ask(client, GenerateRequest { priority: Priority::Low, ..request("later ", 200) }).await.unwrap()),
    }
}
