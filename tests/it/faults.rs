//! Killed processes, broken folders and broken sockets: nothing lost, nothing hangs, and the error says what to do.

use std::fs;
use std::path::Path;

use engine::random::Recipe;
use protocol::client::Client;
use protocol::model::{AddRequest, ModelState};
use protocol::{Error, ErrorKind};
use tests::answer::{ask, first_text, whole};
use tests::house::{House, Plan, question, raw};
use tests::process::{go_on, kill, pause, runs};
use tests::{model, storm, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub async fn worker_pid(client: &Client, name: &str) -> u32 {
    wait::for_some("the worker", || async {
        let card = client.models().await.unwrap().into_iter().find(|card| card.name == name)?;
        match card.state {
            ModelState::Loaded(residence) => Some(residence.pid),
            _ => None,
        }
    })
    .await
}

#[tokio::test]
async fn a_worker_killed_in_mid_stream_changes_no_answer() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 11).quantized(4, 64).endless()).await;
    let request = |temperature| {
        let mut request = raw(Some("m"), "a long story about nothing", 1500);
        request.sampling.temperature = Some(temperature);
        request
    };
    for temperature in [0.0, 1.0] {
        let undisturbed = ask(&client, request(temperature)).await.unwrap();
        let mut events = client.generate(request(temperature)).await.unwrap();
        let first = first_text(&mut events).await;
        kill(worker_pid(&client, "m").await);
        let rest = whole(events, 1).await.unwrap();
        assert_eq!(format!("{first}{}", rest.text()), undisturbed.text());
        assert_eq!(rest.finished.usage.completion_tokens, undisturbed.finished.usage.completion_tokens);
    }
}

#[tokio::test]
async fn workers_killed_again_and_again_under_many_streams_change_no_answer() {
    let house = House::with(Plan { config: storm::CONFIG.to_owned(), ..Plan::default() });
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 16).endless()).await;
    let wait_max = std::time::Duration::from_millis(30);
    let plan = storm::Plan { streams: 12, tokens: 500, kills: 8, wait_max, seed: 0x5EED };
    let report = storm::blow(&client, "m", plan).await;
    assert!(report.differences.is_empty(), "{:#?}", report.differences);
    assert!(report.kills == 8 && report.streams >= 12, "{report:?}");
}

#[tokio::test]
async fn a_killed_daemon_takes_its_workers_along_and_loses_no_model() {
    let mut house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("llama", 12)).await;
    let key = client.first_key().await.unwrap();
    let before = ask(&client, raw(Some("m"), "hello", 8)).await.unwrap();
    let worker = worker_pid(&client, "m").await;
    house.kill_daemon();
    wait::until("the worker follows its daemon", || !runs(worker));
    assert!(client.status().await.is_err());
    house.restart_daemon();
    let client = house.client().await;
    let after = ask(&client, raw(Some("m"), "hello", 8)).await.unwrap();
    assert_eq!(after.texts, before.texts);
    assert_eq!(client.first_key().await.unwrap(), key);
}

/// Adds a model whose folder was spoilt first, and returns the refusal.
async fn refusal(house: &House, client: &Client, name: &str, spoil: impl FnOnce(&Path)) -> Error {
    let folder = model::write(house, name, &Recipe::tiny("qwen3", 13));
    spoil(&folder);
    let path = folder.to_string_lossy().into_owned();
    match client.add(AddRequest { path, name: Some(name.to_owned()) }).await {
        Ok(_) => panic!("{name} was accepted"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn broken_model_folders_are_refused_by_name() {
    let house = House::start();
    let client = house.client().await;
    let weights = "model.safetensors";
    let truncated = refusal(&house, &client, "truncated", |folder| {
        let path = folder.join(weights);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    })
    .await;
    assert!(truncated.message.contains(weights), "{truncated:?}");
    let garbage =
        refusal(&house, &client, "garbage", |folder| fs::write(folder.join(weights), [0xff; 64]).unwrap()).await;
    assert!(garbage.message.contains(weights), "{garbage:?}");
    let tokenizer =
        refusal(&house, &client, "tokenizer", |folder| fs::remove_file(folder.join("tokenizer.json")).unwrap()).await;
    assert!(tokenizer.message.contains("tokenizer.json"), "{tokenizer:?}");
    let config =
        refusal(&house, &client, "config", |folder| fs::write(folder.join("config.json"), "{not json").unwrap()).await;
    assert!(config.message.contains("config.json"), "{config:?}");
    let unknown = refusal(&house, &client, "unknown", |folder| {
        let path = folder.join("config.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"qwen3\"", "\"perceiver\"");
        fs::write(&path, text).unwrap();
    })
    .await;
    assert!(unknown.message.contains("perceiver"), "{unknown:?}");
    assert_eq!(unknown.kind, ErrorKind::Unsupported);
    let missing = refusal(&house, &client, "missing", |folder| fs::remove_dir_all(folder).unwrap()).await;
    assert!(missing.message.contains("missing"), "{missing:?}");
    assert!(ask(&client, question(None, "Hello", 4)).await.is_ok(), "the daemon still serves");
}

#[tokio::test]
async fn a_model_that_breaks_after_it_was_added_fails_its_requests_clearly() {
    let house = House::start();
    let client = house.client().await;
    let card = model::add(&house, &client, "m", &Recipe::tiny("qwen3", 14)).await;
    fs::write(Path::new(&card.path).join("model.safetensors"), b"nothing").unwrap();
    let error = ask(&client, raw(Some("m"), "hello", 8)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotLoaded, "{error:?}");
    assert!(error.message.contains("model.safetensors"), "{error:?}");
}

#[tokio::test]
async fn an_unknown_model_is_named() {
    let house = House::start();
    let client = house.client().await;
    let error = ask(&client, question(Some("impetus-nanu"), "Hello", 4)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotFound);
    assert!(error.message.contains("impetus-nanu"), "{error:?}");
}

#[tokio::test]
async fn a_stopped_daemon_lets_running_work_end() {
    let mut house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 15).endless()).await;
    let mut events = client.generate(raw(Some("m"), "some words", 3_500)).await.unwrap();
    first_text(&mut events).await;
    // Whatever else the machine does, the answer does not end before the daemon was asked.
    let worker = worker_pid(&client, "m").await;
    pause(worker);
    client.stop(protocol::status::StopRequest { drain_ms: 60_000 }).await.unwrap();
    let refused = client.begin(raw(Some("m"), "more", 4)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Closing);
    go_on(worker);
    let rest = whole(events, 1).await.unwrap();
    assert_eq!(rest.finished.usage.completion_tokens, 3_500);
    drop(client);
    assert!(house.daemon_ended());
}

#[tokio::test]
async fn what_a_model_has_read_survives_a_stop_in_the_middle_of_its_work() {
    let mut house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 18).endless()).await;
    let mut request = raw(Some("m"), &"a long story that many will hear ".repeat(20), 3_000);
    let mut events = client.generate(request.clone()).await.unwrap();
    first_text(&mut events).await;
    client.stop(protocol::status::StopRequest { drain_ms: 20 }).await.unwrap();
    drop((events, client));
    assert!(house.daemon_ended());
    house.restart_daemon();
    request.stop.max_tokens = Some(4);
    let usage = ask(&house.client().await, request).await.unwrap().finished.usage;
    assert_eq!(usage.cached_tokens, (usage.prompt_tokens - 1) / 32 * 32);
}

async fn exchange(house: &House, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(house.socket()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut is as good an answer as one that is closed.
    let _ = tokio::time::timeout(wait::LIMIT, stream.read_to_end(&mut answer)).await.expect("the daemon closes");
    answer
}

#[tokio::test]
async fn broken_sockets_do_not_disturb_the_daemon() {
    let house = House::start();
    let client = house.client().await;
    let old = exchange(&house, b"IMPT\xff\x7f\x01\x00").await;
    let text = String::from_utf8_lossy(&old);
    assert!(text.contains("Incompatible") && text.contains("32767") && text.contains('1'), "{text}");
    exchange(&house, b"GET / HTTP/1.1\r\n\r\n").await;
    exchange(&house, b"IM").await;
    exchange(&house, b"").await;
    exchange(&house, b"IMPT\x01\x00\x01\x00\xff\xff\xff\xff garbage").await;
    exchange(&house, b"IMPT\x01\x00\x01\x00\x00\x00\x00\x02{}").await;
    exchange(&house, b"IMPT\x01\x00\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff").await;
    assert!(client.status().await.is_ok());
    assert!(house.client().await.status().await.is_ok());
}

#[tokio::test]
async fn a_daemon_whose_log_nobody_reads_answers() {
    let house = House::with(Plan { unread_log: true, ..Plan::default() });
    let client = house.client().await;
    assert!(ask(&client, question(None, "hello", 4)).await.is_ok());
    assert!(ask(&client, question(None, "hello again", 4)).await.is_ok());
}
