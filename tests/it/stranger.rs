//! What a hostile stranger tried and what once broke: clients that leave in the middle, kills under load, bytes that
//! are no text. Each test pins one finding of the first acceptance.

use std::io::Write as _;
use std::process::Stdio;

use engine::random::Recipe;
use futures::future::join_all;
use protocol::wire::PREFACE_BYTES;
use serde_json::json;
use tests::answer::ask;
use tests::ctl::{command, run, said};
use tests::house::{House, Plan, raw};
use tests::process::kill;
use tests::{model, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::faults::worker_pid;

#[tokio::test]
async fn work_that_is_refused_while_its_client_leaves_is_forgotten() {
    let house = House::start();
    let client = house.client().await;
    let request = json!({ "model": "nobody", "prompt": { "Text": "hello" } });
    let call = json!({ "Request": { "id": 1, "deadline_ms": 30_000, "verb": { "Begin": { "request": request } } } });
    for _ in 0..5 {
        let mut stream = UnixStream::connect(house.socket()).await.unwrap();
        let mut bytes = b"IMPT\x01\x00\x01\x00".to_vec();
        for id in 1..=20 {
            let mut call = call.clone();
            call["Request"]["id"] = json!(id);
            let body = call.to_string();
            bytes.extend((body.len() as u32).to_be_bytes());
            bytes.extend(body.as_bytes());
        }
        stream.write_all(&bytes).await.unwrap();
        // The first byte of an answer: the requests were heard, and most are still to be answered.
        stream.read_exact(&mut [0; PREFACE_BYTES + 1]).await.unwrap();
    }
    wait::for_some("every transcript's end", || async {
        let status = client.status().await.unwrap();
        (status.connections == 1 && status.active == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn kills_under_many_streams_change_no_answer() {
    let house = House::with(Plan { config: "[worker]\nresubmits_max = 100\n".to_owned(), ..Plan::default() });
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 21).quantized(4, 64).endless()).await;
    let request = |index: u32| {
        let mut request = raw(Some("m"), &"a tale of kills ".repeat(1 + 9 * index as usize), 900);
        request.sampling.temperature = Some(index as f32 * 0.2);
        request.sampling.repetition_penalty = (index % 2 == 1).then_some(1.2);
        request.choices = 1 + (index % 3) as u16;
        request
    };
    let all = || join_all((0..8).map(|index| ask(&client, request(index))));
    let undisturbed = all().await;
    let kills = async {
        let mut dead = None;
        for _ in 0..4 {
            let next = wait::for_some("the next worker", || async {
                Some(worker_pid(&client, "m").await).filter(|pid| Some(*pid) != dead)
            });
            let pid = next.await;
            kill(pid);
            dead = Some(pid);
        }
    };
    let (disturbed, ()) = tokio::join!(all(), kills);
    for (before, after) in undisturbed.into_iter().zip(disturbed) {
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(after.texts, before.texts);
        assert_eq!(after.finished.usage.completion_tokens, before.finished.usage.completion_tokens);
    }
}

#[test]
fn a_folder_without_a_model_is_invalid_input() {
    let house = House::start();
    let folder = house.home().join("empty");
    std::fs::create_dir(&folder).unwrap();
    let answer = run(&house, &["models", "add", folder.to_str().unwrap()]);
    assert_eq!(answer.code, 7, "{answer:?}");
    assert!(answer.err.contains("config.json is missing"), "{answer:?}");
}

#[test]
fn bytes_that_are_no_text_are_invalid_input() {
    let house = House::start();
    for arguments in [&["run", "-"][..], &["chat"]] {
        let mut child = command(&house, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"\xff\xfe\n").unwrap();
        let answer = said(child.wait_with_output().unwrap());
        assert_eq!(answer.code, 7, "{answer:?}");
        assert!(answer.err.contains("not UTF-8"), "{answer:?}");
    }
}

#[test]
fn a_negative_number_is_refused_as_a_number() {
    let house = House::start();
    let answer = run(&house, &["run", "--temperature", "-1", "hello"]);
    assert_eq!(answer.code, 7, "{answer:?}");
    assert!(answer.err.contains("temperature is -1"), "{answer:?}");
}

#[test]
fn a_second_daemon_on_the_same_home_is_refused_whatever_its_socket() {
    let house = House::start();
    let second = std::process::Command::new(tests::programs::program("impetusd"))
        .arg("--socket")
        .arg(house.home().join("other"))
        .env("IMPETUS_HOME", house.home())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(69));
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(message.contains("another impetusd uses"), "{message}");
}

#[tokio::test]
async fn an_unknown_member_of_a_request_is_refused_by_name() {
    use tokio::io::AsyncReadExt;
    let house = House::start();
    let request = json!({ "prompt": { "Text": "hello" }, "temperature": 0 });
    let call = json!({ "Request": { "id": 1, "deadline_ms": 30_000, "verb": { "Begin": { "request": request } } } });
    let mut bytes = b"IMPT\x01\x00\x01\x00".to_vec();
    let body = call.to_string();
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body.as_bytes());
    let mut stream = UnixStream::connect(house.socket()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; 4096];
    let mut held = 0;
    while !String::from_utf8_lossy(&answer[..held]).contains("temperature") {
        let count = tokio::time::timeout(wait::LIMIT, stream.read(&mut answer[held..])).await.unwrap().unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer[..held]));
        held += count;
    }
}
