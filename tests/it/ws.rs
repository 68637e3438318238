//! Watching the daemon over a WebSocket: what is told, to whom, to how many, and when a socket ends.

use std::time::{Duration, Instant};

use engine::random::Recipe;
use serde_json::{Value, json};
use tests::house::{House, Plan};
use tests::http::Http;
use tests::hub::Hub;
use tests::ws::{Frame, Ws};
use tests::{model, wait};

async fn key(admin: &Http, wish: Value) -> (String, Http) {
    let key = admin.post("/api/keys", &wish).await.json().await;
    (key["id"].as_str().unwrap().to_owned(), Http::new(admin.authority(), key["secret"].as_str().unwrap()))
}

fn prompt() -> Value {
    json!({"model": "impetus-nano", "prompt": "xyzzy", "max_tokens": 2, "ignore_eos": true})
}

/// Waits for news of a model in a state.
async fn state(ws: &mut Ws, name: &str, state: &str) -> Value {
    loop {
        let message = ws.next_of("model").await;
        if message["model"]["id"] == name && message["model"]["state"] == state {
            return message;
        }
    }
}

#[tokio::test]
async fn an_administrator_watches_figures_models_and_requests_without_what_was_said() {
    let mut house = House::start();
    let http = house.http().await;
    let mut ws = Ws::connect(&http, "/api/ws", "").await.unwrap();
    let hello = ws.next_of("hello").await;
    assert_eq!(hello["channels"], json!(["metrics", "models", "downloads", "requests"]));
    ws.say(&json!({"type": "subscribe", "channels": ["models", "requests", "metrics"]})).await;
    assert_eq!(ws.next_of("subscribed").await["channels"], json!(["metrics", "models", "requests"]));
    let models = ws.next_of("models").await;
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "impetus-nano"), "{models}");
    assert_eq!(http.post("/v1/completions", &prompt()).await.status, 200);
    state(&mut ws, "impetus-nano", "loading").await;
    let loaded = state(&mut ws, "impetus-nano", "loaded").await;
    assert!(loaded["model"]["loaded"]["kv_bytes"].as_u64().unwrap() > 0, "{loaded}");
    let request = ws.next_of("request").await;
    assert_eq!(
        (&request["request"]["model"], &request["request"]["completion_tokens"]),
        (&json!("impetus-nano"), &json!(2))
    );
    assert!(!request.to_string().contains("xyzzy"), "{request}");
    let logged = http.get("/api/requests").await.json().await;
    assert_eq!(logged["data"][0]["id"], request["request"]["id"], "the number is the log's");
    let figures = ws.next_of("metrics").await;
    assert!(figures["active_connections"] == 1 && figures["memory"]["budget_bytes"].as_u64().unwrap() > 0, "{figures}");
    ws.say(&json!({"type": "unsubscribe", "channels": ["models", "requests"]})).await;
    assert_eq!(ws.next_of("subscribed").await["channels"], json!(["metrics"]));
    let metrics = http.get("/api/metrics").await.text().await;
    assert!(metrics.contains("impetus_active_connections 1\n"), "{metrics}");
    drop(ws);
    wait::for_some("the socket is counted out", || async {
        http.get("/api/metrics").await.text().await.contains("impetus_active_connections 0\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_download_is_watched_from_its_begin_to_its_end() {
    let hub = Hub::start();
    let mut house = House::with(Plan { environment: hub.environment(), ..Plan::default() });
    let http = house.http().await;
    let mut ws = Ws::connect(&http, "/api/ws?channels=downloads,models", "").await.unwrap();
    ws.next_of("models").await;
    assert_eq!(http.post("/api/models/pull", &json!({"model": "org/tiny", "stream": false})).await.status, 200);
    let far = ws.next_of("download").await;
    assert_eq!((&far["subject"], &far["unit"]), (&json!("org/tiny"), &json!("bytes")));
    state(&mut ws, "org/tiny", "available").await;
    let ended = ws.next_of("downloaded").await;
    assert_eq!(ended, json!({"type": "downloaded", "subject": "org/tiny", "error": null}));
    http.post("/api/models/pull", &json!({"model": "org/absent"})).await.text().await;
    assert_eq!(ws.next_of("downloaded").await["error"]["code"], "not_found");
    assert_eq!(http.send("DELETE", "/api/delete", &json!({"model": "org/tiny"})).await.status, 200);
    assert_eq!(ws.next_of("forgotten").await["model"], "org/tiny");
}

#[tokio::test]
async fn keys_origins_and_roles_are_judged_as_for_any_request() {
    let mut house = House::start();
    let http = house.http().await;
    let anyone = Http::new(http.authority(), "imp_guess");
    assert_eq!(Ws::connect(&anyone, "/api/ws", "").await.err(), Some(401));
    assert_eq!(Ws::connect(&http, "/api/ws", "Origin: https://evil.example\r\n").await.err(), Some(403));
    assert_eq!(Ws::connect(&http, "/api/ws?channels=weather", "").await.err(), Some(400));
    assert!(Ws::connect(&http, "/api/ws?channels=", "").await.is_ok(), "none are wished for");
    assert!(Ws::connect(&http, "/api/ws", "Origin: http://localhost:3000\r\n").await.is_ok());
    let plain = http.get("/api/ws").await;
    assert_eq!((plain.status, plain.json().await["error"]["code"].clone()), (400, json!("INVALID_REQUEST")));
    let (_, reader) = key(&http, json!({"label": "eyes", "role": "readonly"})).await;
    assert_eq!(Ws::connect(&reader, "/api/ws?channels=requests", "").await.err(), Some(403));
    let wish = json!({"label": "other", "role": "readonly", "models": ["impetus-nano-embed"]});
    let (id, other) = key(&http, wish).await;
    let mut ws = Ws::connect(&other, "/api/ws?channels=models", "").await.unwrap();
    assert_eq!(ws.next_of("hello").await["channels"], json!(["metrics", "models", "downloads"]));
    let seen = ws.next_of("models").await;
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "{seen}");
    ws.say(&json!({"type": "subscribe", "channels": ["requests"]})).await;
    assert_eq!(ws.next_of("error").await["error"]["code"], "forbidden");
    ws.say(&json!({"type": "shout"})).await;
    assert_eq!(ws.next_of("error").await["error"]["code"], "INVALID_REQUEST");
    ws.say(&json!({"type": "ping"})).await;
    ws.next_of("pong").await;
    assert_eq!(http.post("/v1/completions", &prompt()).await.status, 200);
    assert_eq!(http.post("/v1/embeddings", &json!({"model": "impetus-nano-embed", "input": "a"})).await.status, 200);
    let first = ws.next_of("model").await;
    assert_eq!(first["model"]["id"], "impetus-nano-embed", "models that a key may not use are not told");
    http.delete(&format!("/api/keys/{id}")).await;
    assert_eq!(end(&mut ws).await, Frame::Close(1008), "a revoked key watches no more");
}

/// Skips what is told until the end.
async fn end(ws: &mut Ws) -> Frame {
    loop {
        match ws.next().await {
            Frame::Text(_) | Frame::Ping => {}
            end => return end,
        }
    }
}

#[tokio::test]
async fn a_client_that_ends_is_answered() {
    let mut house = House::start();
    let http = house.http().await;
    for (word, code) in [(&1000_u16.to_be_bytes()[..], 1000), (b"", 1005)] {
        let mut ws = Ws::connect(&http, "/api/ws?channels=metrics", "").await.unwrap();
        ws.next_of("hello").await;
        ws.send(8, word).await;
        assert_eq!((end(&mut ws).await, ws.next().await), (Frame::Close(code), Frame::Gone));
    }
    wait::for_some("the sockets are counted out", || async {
        http.get("/api/metrics").await.text().await.contains("impetus_active_connections 0\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_sees_no_more_figures() {
    let mut house = House::start();
    let http = house.http().await;
    let (id, reader) = key(&http, json!({"label": "eyes", "role": "readonly"})).await;
    let mut ws = Ws::connect(&reader, "/api/ws?channels=metrics", "").await.unwrap();
    ws.next_of("metrics").await;
    let since = Instant::now();
    http.delete(&format!("/api/keys/{id}")).await;
    assert_eq!(end(&mut ws).await, Frame::Close(1008));
    assert!(since.elapsed() < Duration::from_secs(10), "news of something else would have told it later");
}

#[tokio::test]
async fn messages_out_of_bounds_end_their_socket_only() {
    let mut house = House::start();
    let http = house.http().await;
    let mut good = Ws::connect(&http, "/api/ws", "").await.unwrap();
    good.next_of("hello").await;
    let mut bad = Ws::connect(&http, "/api/ws", "").await.unwrap();
    bad.next_of("hello").await;
    bad.send(2, b"bytes").await;
    assert_eq!(bad.next_of("error").await["error"]["code"], "INVALID_REQUEST");
    bad.send(1, &[b'x'; 60_000]).await;
    assert_eq!(bad.next().await, Frame::Close(1009));
    for (opcode, length) in [(2, 4_097), (1, 70_000)] {
        let mut bad = Ws::connect(&http, "/api/ws", "").await.unwrap();
        bad.next_of("hello").await;
        bad.send(opcode, &vec![b'x'; length]).await;
        assert_eq!(bad.next().await, Frame::Close(1009), "{length}");
    }
    good.say(&json!({"type": "ping"})).await;
    good.next_of("pong").await;
}

#[tokio::test]
async fn frames_that_are_none_end_their_socket_only() {
    let mut house = House::start();
    let http = house.http().await;
    let mut good = Ws::connect(&http, "/api/ws", "").await.unwrap();
    good.next_of("hello").await;
    // A kind that there is not, text that is none, a ping that is too long, and the end of what was never begun.
    for (opcode, payload, code) in [(3, &b"x"[..], 1002), (1, b"\xff\xfe", 1007), (9, &[0; 126], 1002), (0, b"x", 1002)]
    {
        let mut bad = Ws::connect(&http, "/api/ws", "").await.unwrap();
        bad.next_of("hello").await;
        bad.send(opcode, payload).await;
        assert_eq!(bad.next().await, Frame::Close(code), "{opcode}");
    }
    good.send(1, &[b'['; 4_000]).await;
    assert_eq!(good.next_of("error").await["error"]["code"], "INVALID_REQUEST");
    good.say(&json!({"type": "ping"})).await;
    good.next_of("pong").await;
}

#[tokio::test]
async fn five_hundred_watch_at_once() {
    let mut house = House::start();
    let http = house.http().await;
    let client = house.client().await;
    let mut watchers = Vec::new();
    for _ in 0..500 {
        watchers.push(Ws::connect(&http, "/api/ws?channels=models", "").await.unwrap());
    }
    for watcher in &mut watchers {
        watcher.next_of("models").await;
    }
    model::add(&house, &client, "tiny", &Recipe::tiny("llama", 5)).await;
    for watcher in &mut watchers {
        state(watcher, "tiny", "available").await;
    }
    assert_eq!(http.post("/api/models/load", &json!({"model": "tiny"})).await.status, 200);
    for watcher in &mut watchers {
        state(watcher, "tiny", "loaded").await;
    }
    assert!(http.get("/api/metrics").await.text().await.contains("impetus_active_connections 500\n"));
}

#[tokio::test]
async fn a_socket_that_is_not_read_is_closed_and_disturbs_nobody() {
    let mut house = House::start();
    let http = house.http().await;
    let mut lazy = Ws::connect(&http, "/api/ws", "").await.unwrap();
    let mut good = Ws::connect(&http, "/api/ws", "").await.unwrap();
    // More than any system keeps for a reader that does not read: each of these is answered with every model.
    let flood = tokio::spawn(async move {
        for _ in 0..20_000 {
            lazy.say(&json!({"type": "subscribe", "channels": ["models"]})).await;
        }
        lazy
    });
    wait::for_some("the idle reader is closed", || async {
        http.get("/api/metrics").await.text().await.contains("impetus_active_connections 1\n").then_some(())
    })
    .await;
    good.say(&json!({"type": "ping"})).await;
    good.next_of("pong").await;
    flood.abort();
}
