//! What guessing ahead gains: what a step costs that checks guesses, and how fast text is written that was seen before.
//!
//! Random weights copy nothing, so the model here has attention that gives nothing: each token alone decides the next,
//! and a prompt that holds the model's own text is copied word for word, whatever else it holds. Work per token is that of
//! Qwen3-0.6B's shape. Every few words of the prompt one is another, as in code that is edited.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use engine::Keep;
use engine::random::Recipe;
use protocol::client::Client;
use protocol::generation::{GenerateRequest, Prompt};
use protocol::model::AddRequest;
use serde_json::Value;
use tests::answer::ask;
use tests::house::{House, Plan, raw};

use crate::sample::row;
use crate::shape::{Shape, recipe};

const MODEL: &str = "copyist";
const RUNS: usize = 5;

/// Tokens of the text that is copied.
const TEXT: usize = 240;

/// One word in so many is another in the prompt.
const EDIT_EVERY: usize = 24;

/// Runs the measures.
pub async fn run() {
    costs();
    let (house, plain) = (start("").await, start("[worker]\ndraft_tokens_max = 0\n").await);
    let clients = [house.client().await, plain.client().await];
    let text = chain(&clients[0]).await;
    let edited = |every: usize| {
        let edit = |(at, token): (usize, &u32)| if at % every == every - 1 { 70_000 + at as u32 } else { *token };
        let prompt: Vec<u32> = text.iter().enumerate().map(edit).chain([text[0]]).collect();
        greedy(prompt, TEXT as u32 - 1)
    };
    let mut fresh = greedy((0..300).map(|at| 9_000 + at * 7).collect(), 200);
    fresh.sampling.temperature = Some(1.0);
    for (name, request) in [
        ("copied whole", edited(usize::MAX)),
        ("copied with an edit every 24 tokens", edited(EDIT_EVERY)),
        ("copied with an edit every 8 tokens", edited(8)),
        ("that never repeats", fresh),
    ] {
        compare(&clients, name, &request).await;
    }
}

/// What one step costs that checks so many tokens of one sequence.
fn costs() {
    let mut shape = Shape::open(&recipe(4).temporary().unwrap(), Keep::Bf16);
    for context in [200, 2000] {
        shape.prefill(0, context);
        for width in [1, 2, 3, 4, 6, 8, 12, 16] {
            let steps = shape.check(context, width, 15);
            row(&format!("a step of {width} tokens of one sequence at a context of {context}"), "ms", steps);
        }
    }
}

async fn start(config: &str) -> House {
    let house = House::with(Plan { config: config.to_owned(), ..Plan::default() });
    let client = house.client().await;
    let folder = house.home().join("folders").join(MODEL);
    Recipe::qwen3_600m(1).quantized(4, 64).set("tie_word_embeddings", false).endless().write(&folder).unwrap();
    deafen(&folder.join("model.safetensors"));
    let path = folder.to_string_lossy().into_owned();
    client.add(AddRequest { path, name: Some(MODEL.to_owned()) }).await.unwrap();
    house
}

/// Makes nothing of what attention gives: the scales and biases of its outputs become zero.
fn deafen(path: &Path) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut length = [0; 8];
    file.read_exact(&mut length).unwrap();
    let mut header = vec![0; u64::from_le_bytes(length) as usize];
    file.read_exact(&mut header).unwrap();
    let tensors: Value = serde_json::from_slice(&header).unwrap();
    for (name, tensor) in tensors.as_object().unwrap() {
        if name.contains("o_proj") && !name.ends_with("weight") {
            let place = |at: usize| tensor["data_offsets"][at].as_u64().unwrap() + 8 + header.len() as u64;
            blank(&mut file, place(0), place(1));
        }
    }
}

fn blank(file: &mut File, from: u64, to: u64) {
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0; (to - from) as usize]).unwrap();
}

fn greedy(prompt: Vec<u32>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest { prompt: Prompt::Tokens(prompt), ..raw(Some(MODEL), "", max_tokens) }
}

/// A text of the model's own, in which no token comes twice.
async fn chain(client: &Client) -> Vec<u32> {
    for first in 5_000..5_050 {
        let asked = GenerateRequest { logprobs: Some(0), ..greedy(vec![first], TEXT as u32) };
        let answer = ask(client, asked).await.unwrap();
        let tokens: Vec<u32> = answer.logprobs[0].iter().map(|entry| entry.token).collect();
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() == TEXT {
            return tokens;
        }
    }
    panic!("the model repeats itself too soon");
}

async fn compare(clients: &[Client; 2], name: &str, request: &GenerateRequest) {
    let (mut rates, mut gains, mut shares) = ([Vec::new(), Vec::new()], Vec::new(), Vec::new());
    for run in 0..RUNS {
        let mut request = request.clone();
        request.sampling.seed = Some(run as u64);
        for (client, rates) in clients.iter().zip(&mut rates) {
            let finished = ask(client, request.clone()).await.unwrap().finished;
            rates.push(f64::from(finished.usage.completion_tokens - 1) * 1e6 / finished.timing.decode_us as f64);
            let guessed = finished.speculation;
            shares.extend((guessed.drafted > 0).then(|| f64::from(guessed.accepted) / f64::from(guessed.drafted)));
        }
        gains.push(rates[0][run] / rates[1][run]);
    }
    let [with, without] = rates;
    row(&format!("text {name}, with guesses"), "tok/s", with);
    row(&format!("text {name}, without guesses"), "tok/s", without);
    row(&format!("text {name}: gain"), "×", gains);
    if !shares.is_empty() {
        row(&format!("text {name}: share of right guesses"), "", shares);
    }
}
