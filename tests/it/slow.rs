//! Clients that hardly read: they hold nobody up, and all that they were sent is there when they do read.

use engine::random::Recipe;
use protocol::client::Client;
use protocol::model::ModelState;
use serde_json::{Value, json};
use tests::answer::ask;
use tests::house::{House, raw};
use tests::http::Http;
use tests::{model, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Tokens of a slow reader's answer: with their likelihoods they are more bytes than the system takes in for it.
const TOKENS: u32 = 1_800;
const READERS: u32 = 8;

/// A streamed answer that is read byte by byte.
async fn begin(http: &Http, index: u32) -> TcpStream {
    let body = json!({
        "model": "m", "prompt": format!("slow reader {index}"), "max_tokens": TOKENS, "temperature": 0,
        "ignore_eos": true, "stream": true, "logprobs": 5, "n": 2,
    })
    .to_string();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut stream = socket.connect(http.authority().parse().unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        http.authority(),
        http.key(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(timeout(wait::LIMIT, stream.read_u8()).await.unwrap().unwrap(), b'H');
    stream
}

/// Returns how many tokens came of each choice of a stream.
fn tokens(stream: &str) -> [usize; 2] {
    let mut counts = [0; 2];
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        let choice = &chunk["choices"][0];
        let tokens = choice["logprobs"]["tokens"].as_array().map_or(0, Vec::len);
        counts[choice["index"].as_u64().unwrap() as usize] += tokens;
    }
    counts
}

/// Waits until the model has written everything that was asked for.
async fn rests(client: &Client) {
    wait::for_some("the model to rest", || async {
        let card = client.models().await.unwrap().into_iter().find(|card| card.name == "m")?;
        let ModelState::Loaded(residence) = card.state else { return None };
        (residence.running + residence.waiting == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn readers_of_a_byte_at_a_time_hold_nobody_up_and_lose_nothing() {
    let mut house = House::start();
    let http = house.http().await;
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 21).endless()).await;
    let quick = |index: u32| raw(Some("m"), &format!("a quick one, number {index}"), 30);
    let mut undisturbed = Vec::new();
    for index in 0..4 {
        undisturbed.push(ask(&client, quick(index)).await.unwrap());
    }
    let mut readers = Vec::new();
    for index in 0..READERS {
        readers.push(begin(&http, index).await);
    }
    for _ in 0..3 {
        for (index, before) in undisturbed.iter().enumerate() {
            assert_eq!(ask(&client, quick(index as u32)).await.unwrap().texts, before.texts);
            for reader in &mut readers {
                timeout(wait::LIMIT, reader.read_u8()).await.expect("a byte is there").unwrap();
            }
        }
    }
    // Nobody reads, and the model still comes to its end.
    rests(&client).await;
    for mut reader in readers {
        let mut bytes = Vec::new();
        // So small a window opens again by the system's own timers, which have doubled up to two minutes while nobody read.
        timeout(4 * wait::LIMIT, reader.read_to_end(&mut bytes)).await.expect("the rest comes").unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("data: [DONE]"), "{}", &text[text.len().saturating_sub(300)..]);
        assert_eq!(text.matches("\"finish_reason\":\"length\"").count(), 2, "both choices are there to their end");
        assert_eq!(tokens(&text), [TOKENS as usize; 2]);
        assert!(bytes.len() > 400_000, "{} bytes are less than a buffer holds", bytes.len());
    }
}
