//! What each hop costs: the bundled model through the engine alone, through the socket, and through HTTP.

use std::time::Instant;

use engine::{Keep, Model, Options, Precision, Row, Wanted};
use protocol::client::Client;
use serde_json::json;
use tests::answer::{first_text, whole};
use tests::house::{House, raw};
use tests::http::Http;

use crate::sample::{ms, row};

/// Tokens of one answer.
const TOKENS: u32 = 256;

/// Answers that are measured per hop, taken in turns.
const RUNS: usize = 15;

/// First tokens that are measured per hop, taken in turns.
const FIRST_TOKENS: usize = 200;

const PROMPT: &str = "Impetus is a private service";

/// Runs the measures.
pub async fn run() {
    let mut house = House::start();
    let http = house.http().await;
    let client = house.client().await;
    let folder = tempfile::tempdir().unwrap();
    engine::bundled::install(folder.path()).unwrap();
    let mut model = open(&folder.path().join("impetus-nano"));
    let (mut alone, mut socket, mut bridge) = (Vec::new(), Vec::new(), Vec::new());
    over_socket(&client, TOKENS).await;
    for _ in 0..RUNS {
        alone.push(engine_alone(&mut model));
        socket.push(over_socket(&client, TOKENS).await.0);
        bridge.push(over_http(&http, TOKENS).await.0);
    }
    let (mut socket_first, mut bridge_first) = (Vec::new(), Vec::new());
    for _ in 0..FIRST_TOKENS {
        socket_first.push(over_socket(&client, 2).await.1);
        bridge_first.push(over_http(&http, 2).await.1);
    }
    row("impetus-nano, 256 tokens: engine alone", "tok/s", alone);
    row("impetus-nano, 256 tokens: through the socket", "tok/s", socket);
    row("impetus-nano, 256 tokens: through HTTP", "tok/s", bridge);
    row("first token through the socket", "ms", socket_first);
    row("first token through HTTP", "ms", bridge_first);
}

fn open(folder: &std::path::Path) -> Model {
    // As the daemon places a model of this size.
    let options = Options { threads: 1, blocks: 64, precision: Precision::Fast, keep: Keep::Bf16 };
    Model::open(folder, &options, &mut |_, _| {}).unwrap()
}

/// Greedy decoding with nothing around it.
fn engine_alone(model: &mut Model) -> f64 {
    let blocks: Vec<u32> = (0..32).collect();
    let mut logits = Vec::new();
    let mut tokens = vec![1, 2, 3, 4, 5, 6, 7, 8];
    let mut at = 0;
    let mut start = Instant::now();
    for step in 0..=TOKENS {
        let rows = [Row { tokens: &tokens, start: at, blocks: &blocks, logits: Wanted::Last }];
        model.forward(&rows, &mut logits).unwrap();
        at += tokens.len() as u32;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        tokens = vec![best as u32];
        if step == 0 {
            start = Instant::now();
        }
    }
    f64::from(TOKENS) / start.elapsed().as_secs_f64()
}

/// Returns tokens per second and milliseconds to the first text.
async fn over_socket(client: &Client, tokens: u32) -> (f64, f64) {
    let start = Instant::now();
    let mut events = client.generate(raw(None, PROMPT, tokens)).await.unwrap();
    first_text(&mut events).await;
    let first = start.elapsed();
    whole(events, 1).await.unwrap();
    (f64::from(tokens) / start.elapsed().as_secs_f64(), ms(first))
}

/// Returns tokens per second and milliseconds to the first frame.
async fn over_http(http: &Http, tokens: u32) -> (f64, f64) {
    let body = json!({
        "model": "impetus-nano", "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true,
    });
    let start = Instant::now();
    let mut answer = http.post("/v1/completions", &body).await;
    answer.frame().await.unwrap();
    let first = start.elapsed();
    while answer.frame().await.is_some() {}
    (f64::from(tokens) / start.elapsed().as_secs_f64(), ms(first))
}
