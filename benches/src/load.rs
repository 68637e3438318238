//! The bridge under a crowd: a thousand streams that wait, a hundred that are written, and how soon it answers meanwhile
//! what asks no model. Every request has a connection of its own, as `curl` would.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::random::Recipe;
use futures::future::join_all;
use protocol::client::Client;
use protocol::model::ModelState;
use serde_json::{Value, json};
use tests::house::{House, Plan};
use tests::http::{Answer, Http};
use tests::{model, process};

use crate::sample::{ms, row};

/// Streams that wait.
const IDLE: usize = 1_000;

/// Streams that are opened at once until all are there.
const OPENED: usize = 50;

/// Streams that are written.
const ACTIVE: usize = 100;

/// Tokens of each answer of those; a new one follows at once.
const TOKENS: u32 = 400;

/// Exchanges that are measured for each path.
const EXCHANGES: usize = 500;

const PATHS: [&str; 4] = ["/health", "/ready", "/v1/models", "/api/health/status"];

/// Runs the measures.
pub async fn run() {
    // The defaults, but that the worker which is stopped below is not taken for one that hangs.
    let config = "[worker]\nsilence = \"1h\"\n";
    let mut house = House::with(Plan { config: config.to_owned(), ..Plan::default() });
    let http = house.http().await;
    let client = house.client().await;
    exchanges(&http, "alone").await;

    let idle = idle(&house, &client, &http).await;
    row(&format!("streams that wait: all {} opened", idle.len()), "s", vec![idle.took]);
    exchanges(&http, "beside 1,000 waiting streams").await;

    let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> =
        (0..ACTIVE).map(|at| tokio::spawn(write(http.clone(), at, over.clone(), written.clone()))).collect();
    // Every stream has its first answer under way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, start) = (written.load(Ordering::Relaxed), Instant::now());
    exchanges(&http, "beside those and 100 that are written").await;
    let frames = (written.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    row("100 written streams meanwhile, together", "frames/s", vec![frames]);
    over.store(true, Ordering::Relaxed);
    let failed = join_all(writers).await.into_iter().filter(|ended| ended.is_err()).count();
    row("errors among them", "", vec![failed as f64]);
    idle.end();
}

/// Measures every path, one exchange after the other.
async fn exchanges(http: &Http, when: &str) {
    for path in PATHS {
        let mut samples = Vec::with_capacity(EXCHANGES);
        for _ in 0..EXCHANGES {
            let start = Instant::now();
            let answer = http.get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            answer.text().await;
            samples.push(ms(start.elapsed()));
        }
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let p95 = sorted[sorted.len() * 95 / 100];
        row(&format!("GET {path} {when} (p95 {p95:.2} ms)"), "ms", samples);
    }
}

/// Streams whose model stands still.
struct Idle {
    worker: u32,
    answers: Vec<Answer>,
    took: f64,
}

impl Idle {
    fn len(&self) -> usize {
        self.answers.len()
    }

    fn end(self) {
        drop(self.answers);
        process::kill(self.worker);
    }
}

/// Opens the streams, and then stops their worker in its tracks: it takes no time from the others.
async fn idle(house: &House, client: &Client, http: &Http) -> Idle {
    model::add(house, client, "idle", &Recipe::tiny("llama", 1)).await;
    let body = body("idle", "Once upon a time", 4_000);
    let start = Instant::now();
    let mut answers = Vec::with_capacity(IDLE);
    while answers.len() < IDLE {
        let opened = join_all((0..OPENED).map(|_| http.post("/v1/completions", &body))).await;
        assert!(opened.iter().all(|answer| answer.status == 200), "the bridge takes {IDLE} streams");
        answers.extend(opened);
    }
    let took = start.elapsed().as_secs_f64();
    let worker = worker(client, "idle").await;
    process::pause(worker);
    Idle { worker, answers, took }
}

async fn worker(client: &Client, name: &str) -> u32 {
    let cards = client.models().await.unwrap();
    let card = cards.into_iter().find(|card| card.name == name).unwrap();
    match card.state {
        ModelState::Loaded(residence) => residence.pid,
        state => panic!("{name} is in memory, not {state:?}"),
    }
}

fn body(model: &str, prompt: &str, max_tokens: u32) -> Value {
    json!({ "model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": true, "stream": true })
}

/// Asks for answer after answer and reads each, until it is over.
async fn write(http: Http, at: usize, over: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let body = body("impetus-nano", &format!("Stream {at} says"), TOKENS);
    while !over.load(Ordering::Relaxed) {
        let mut answer = http.post("/v1/completions", &body).await;
        assert_eq!(answer.status, 200);
        while answer.frame().await.is_some() {
            written.fetch_add(1, Ordering::Relaxed);
        }
    }
}
