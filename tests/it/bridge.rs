//! The bridge as a program: where it listens, whom it trusts, and what it says when it cannot start.

use std::process::{Command, Output, Stdio};

use serde_json::json;
use tests::house::House;
use tests::programs::program;

/// Runs a bridge that cannot start, to its end.
fn bridge(house: &House, flags: &[&str]) -> Output {
    let mut command = Command::new(program("impetus-http"));
    command.arg("--socket").arg(house.socket()).args(flags).stdin(Stdio::null());
    command.output().expect("the bridge runs")
}

#[tokio::test]
async fn a_bridge_that_others_can_reach_needs_a_valid_key() {
    let house = House::start();
    let client = house.client().await;
    for card in client.keys().await.unwrap() {
        client.revoke_key(&card.id).await.unwrap();
    }
    let refused = bridge(&house, &["--listen", "0.0.0.0:0"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no valid API key") && said.contains("impetusctl key create"), "{said}");
}

#[tokio::test]
async fn names_and_pages_are_trusted_when_the_owner_says_so() {
    let mut house = House::start();
    let http = house.http_with(&["--allow-host", "box.lan", "--allow-origin", "https://chat.example"]).await;
    let ask = |host: &str, origin: &str| {
        let key = http.key();
        format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nx-api-key: {key}\r\n{origin}\r\n")
    };
    let own = http.authority().to_owned();
    for (host, origin, status) in [
        ("box.lan", "", 200),
        ("box.lan:8420", "Origin: https://chat.example\r\n", 200),
        (&*own, "Origin: http://box.lan\r\n", 200),
        ("other.lan", "", 403),
        ("desk.local", "", 200),
        (&*own, "Origin: http://chat.example\r\n", 403),
    ] {
        assert_eq!(http.raw(&ask(host, origin)).await.status, status, "{host} {origin}");
    }
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_out() {
    let mut house = House::start();
    let http = house.http().await;
    let made =
        http.post("/api/keys", &json!({ "label": "app", "role": "admin", "expires_in_s": 1 })).await.json().await;
    let guest = tests::http::Http::new(http.authority(), made["secret"].as_str().unwrap());
    let path = format!("/api/keys/{}", made["id"].as_str().unwrap());
    tests::wait::for_some("the key's end", || async { (guest.get("/v1/models").await.status == 401).then_some(()) })
        .await;
    assert_eq!(http.get(&path).await.json().await["state"], "expired");
}

#[test]
fn what_is_wrong_with_the_files_of_tls_is_said() {
    let house = House::start();
    let said = |flags: &[&str]| {
        let output = bridge(&house, &[&["--listen", "127.0.0.1:0"], flags].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = said(&["--tls-cert", "/absent/cert.pem", "--tls-key", "/absent/key.pem"]);
    assert!(code == Some(1) && words.contains("/absent/cert.pem cannot be read"), "{words}");
    let (code, words) = said(&["--tls-cert", "/absent/cert.pem"]);
    assert!(code == Some(2) && words.contains("--tls-key"), "{words}");
}

#[test]
fn a_bridge_that_is_to_share_limits_does_not_start_without_redis() {
    let house = House::start();
    for (url, expected) in [("redis://127.0.0.1:1", "does not answer"), ("redis+unix", "no URL of a Redis")] {
        let output = bridge(&house, &["--listen", "127.0.0.1:0", "--redis", url]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && words.contains(expected), "{words}");
    }
}
