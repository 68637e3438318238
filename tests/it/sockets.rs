//! Sockets that speak HTTP badly, or not at all: each is answered or closed in bounded time, nothing that a client sends is
//! told to be the server's fault, and whoever speaks properly is served as before.

use serde_json::json;
use tests::house::House;
use tests::http::Http;
use tests::wait::{self, LIMIT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends bytes, then closes this half if that is wanted, and returns all that comes until the other half is closed.
async fn said(http: &Http, bytes: &[u8], closes: bool) -> String {
    let work = async {
        let mut stream = TcpStream::connect(http.authority()).await.unwrap();
        // A refusal may close the socket before all of it was sent, or read.
        let _ = stream.write_all(bytes).await;
        if closes {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(LIMIT, work).await.expect("the bridge answers and closes")
}

/// Returns the statuses of all answers.
fn statuses(answers: &str) -> Vec<u16> {
    let status = |line: &str| line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    // A body has no line break at its end.
    answers.replace("}HTTP/", "}\nHTTP/").lines().filter_map(status).collect()
}

/// What of a request is told, and how it is answered.
fn broken(http: &Http) -> Vec<(String, &'static [u16])> {
    let (host, key) = (format!("Host: {}\r\n", http.authority()), format!("Authorization: Bearer {}\r\n", http.key()));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{host}{key}Connection: close\r\n\r\n");
    let post = |about: &str| format!("POST /v1/completions HTTP/1.1\r\n{host}{key}{about}");
    let chunked = |chunks: &str| post(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    vec![
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), &[200]),
        (format!("GET /health HTTP/1.0\r\n{host}\r\n"), &[200]),
        (format!("GET /health HTTP/3.0\r\n{host}\r\n"), &[400]),
        ("GET /\r\n\r\n".to_owned(), &[400]),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), &[400]),
        ("\r\n".repeat(60_000), &[431]),
        (get("/v1/models\0"), &[400]),
        (get("/v1/models/%00"), &[404]),
        (get("/v1/responses/%2e%2e%2f"), &[404]),
        (get("*"), &[404]),
        (get(&format!("/{}", "a".repeat(70_000))), &[414]),
        (format!("GET /health HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), &[400]),
        (format!("GET /health HTTP/1.1\r\n{host}X: a\0\r\n\r\n"), &[400]),
        (format!("GET /health HTTP/1.1\r\n{host}{}\r\n", "X: a\r\n".repeat(120)), &[431]),
        (chunked("zz\r\nhello\r\n"), &[400]),
        (chunked("-1\r\nhello\r\n"), &[400]),
        (chunked("fffffffffffffffff\r\nhello\r\n"), &[400]),
        (chunked("5\r\nhelloXX0\r\n\r\n"), &[400]),
        (chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000))), &[400]),
        (chunked(&format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(5_000))), &[400]),
        (post("Transfer-Encoding: gzip\r\n\r\nhello"), &[400]),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), &[400]),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), &[400]),
        (post("Content-Length: -1\r\n\r\nhello"), &[400]),
        (post("Content-Length: 18446744073709551617\r\n\r\nhello"), &[400]),
        (post(&format!("Connection: close\r\nContent-Length: 90000\r\n\r\n{}", "[".repeat(90_000))), &[400]),
    ]
}

#[tokio::test]
async fn broken_heads_and_bodies_are_the_clients_fault_and_end_their_connection() {
    let mut house = House::start();
    let http = house.http().await;
    for (request, expected) in broken(&http) {
        let answer = said(&http, request.as_bytes(), false).await;
        assert_eq!(statuses(&answer), expected, "{:?}: {answer:?}", &request[..request.len().min(300)]);
    }
    let noise: Vec<u8> = (0..4_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(statuses(&said(&http, &noise, false).await), [400]);
    assert_eq!(http.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn a_wish_for_another_protocol_is_no_reason_to_fail() {
    let mut house = House::start();
    let http = house.http().await;
    let host = format!("Host: {}\r\n", http.authority());
    // Whoever takes HTTP/2 for granted is told what is spoken here, in one piece or in two.
    for preface in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "PRI * HTTP/2.0\r\n"] {
        let prior = said(&http, preface.as_bytes(), false).await;
        assert!(statuses(&prior) == [400] && prior.contains("Send HTTP/1.1"), "{prior}");
    }
    for upgrade in ["h2c", "websocket", "irc"] {
        let wish =
            format!("Connection: Upgrade, close\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
        let answer = said(&http, format!("GET /health HTTP/1.1\r\n{host}{wish}").as_bytes(), false).await;
        assert_eq!(statuses(&answer), [200], "{upgrade}");
    }
    let through =
        said(&http, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n", false);
    assert_eq!(statuses(&through.await), [403]);
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_in_their_order() {
    let mut house = House::start();
    let http = house.http().await;
    let host = format!("Host: {}\r\n", http.authority());
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\n{host}{more}\r\n");
    let pieces =
        [get("/health", ""), get("/v1/nothing", ""), get("/v1/models", ""), get("/health", "Connection: close\r\n")];
    assert_eq!(statuses(&said(&http, pieces.concat().as_bytes(), false).await), [200, 404, 401, 200]);
}

#[tokio::test]
async fn whoever_closes_their_half_is_answered() {
    let mut house = House::start();
    let http = house.http().await;
    let (host, key) = (format!("Host: {}\r\n", http.authority()), format!("Authorization: Bearer {}\r\n", http.key()));
    let get = format!("GET /v1/models HTTP/1.1\r\n{host}{key}\r\n");
    assert_eq!(statuses(&said(&http, get.as_bytes(), true).await), [200]);
    let body = json!({"model": "impetus-nano", "prompt": "Hi", "max_tokens": 2}).to_string();
    let head = format!("POST /v1/completions HTTP/1.1\r\n{host}{key}Content-Length: {}\r\n", body.len());
    let post = format!("{head}Connection: close\r\n\r\n{body}");
    assert_eq!(statuses(&said(&http, post.as_bytes(), true).await), [200]);
    let both = [get.as_bytes(), get.as_bytes(), post.as_bytes()].concat();
    assert_eq!(statuses(&said(&http, &both, true).await), [200, 200, 200]);
    let (cut, _) = post.split_at(post.len() - 5);
    assert_eq!(statuses(&said(&http, cut.as_bytes(), true).await), [400]);
    assert_eq!(said(&http, b"GET /v1/mod", true).await, "");
}

#[tokio::test]
async fn whoever_leaves_before_a_whole_answer_is_made_ends_its_work() {
    let mut house = House::start();
    let http = house.http().await;
    let client = house.client().await;
    let body =
        json!({"model": "impetus-nano", "prompt": "On and on", "max_tokens": 60_000, "ignore_eos": true}).to_string();
    let (host, key) = (http.authority(), http.key());
    let head = format!("POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n");
    let mut stream = TcpStream::connect(http.authority()).await.unwrap();
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    wait::for_some("the work", || async { (client.status().await.unwrap().active == 1).then_some(()) }).await;
    drop(stream);
    let logged = wait::for_some("the request in the log", || async {
        let log = http.get("/api/requests?status=cancelled").await.json().await;
        log["data"].get(0).cloned()
    })
    .await;
    assert!(logged["completion_tokens"].as_u64().unwrap() < 60_000, "{logged}");
}
