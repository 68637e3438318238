//! The HTTP bridge through real sockets: answers, streams, refusals.

use serde_json::{Value, json};
use tests::house::House;
use tests::wait;

fn chat(text: &str) -> Value {
    json!({ "model": "impetus-nano", "messages": [{ "role": "user", "content": text }], "temperature": 0, "max_tokens": 60 })
}

fn with(mut body: Value, more: Value) -> Value {
    let members = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(members);
    body
}

#[tokio::test]
async fn a_stream_says_what_a_whole_answer_says() {
    let mut house = House::start();
    let http = house.http().await;
    let whole = http.post("/v1/chat/completions", &chat("What is Impetus?")).await;
    assert_eq!(whole.status, 200);
    let whole = whole.json().await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(text.contains("Impetus"), "{whole}");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let streaming = with(chat("What is Impetus?"), json!({"stream": true, "stream_options": {"include_usage": true}}));
    let stream = http.post("/v1/chat/completions", &streaming).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = stream.events().await;
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let streamed: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, text);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert!(others.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
}

#[tokio::test]
async fn raw_completions_continue_and_report_logprobs() {
    let mut house = House::start();
    let http = house.http().await;
    let body =
        json!({"model": "impetus-nano", "prompt": "Impetus is", "max_tokens": 5, "temperature": 0, "logprobs": 2});
    let answer = http.post("/v1/completions", &body).await.json().await;
    assert_eq!(answer["object"], "text_completion");
    let logprobs = &answer["choices"][0]["logprobs"];
    let count = answer["usage"]["completion_tokens"].as_u64().unwrap() as usize;
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), count);
    assert_eq!(logprobs["text_offset"][0], 0);
}

#[tokio::test]
async fn health_needs_no_key_and_models_do() {
    let mut house = House::start();
    let http = house.http().await;
    for path in ["/health", "/ready", "/api/health/live", "/api/health/ready"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", http.authority());
        assert_eq!(http.raw(&request).await.status, 200, "{path}");
    }
    let models = http.get("/v1/models").await.json().await;
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "impetus-nano"));
    assert_eq!(http.get("/v1/models/impetus-nano").await.json().await["object"], "model");
    assert_eq!(http.get("/api/health/status").await.json().await["pid"], house.daemon_pid());
    let keyless = format!("GET /v1/models HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", http.authority());
    assert_eq!(http.raw(&keyless).await.status, 401);
}

#[tokio::test]
async fn refusals_name_the_parameter_and_keep_their_status() {
    let mut house = House::start();
    let http = house.http().await;
    let cases = [
        (json!({"model": "nobody"}), 404, "model"),
        (json!({"temperature": 3}), 400, "temperature"),
        (json!({"temperature": "hot"}), 400, "temperature"),
        (json!({"telepathy": true}), 400, "telepathy"),
        (json!({"messages": []}), 400, "messages"),
        (json!({"messages": [{"role": "king", "content": "x"}]}), 400, "messages[0].role"),
        (json!({"top_logprobs": 3}), 400, "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), 400, "top_logprobs"),
        (json!({"n": 0}), 400, "n"),
        (json!({"n": 1000}), 400, "n"),
        (json!({"logit_bias": {"5": 101}}), 400, "logit_bias"),
        (json!({"stream_options": {"include_usage": true}}), 400, "stream_options"),
        (json!({"response_format": {"type": "json_object"}}), 400, "response_format"),
        (json!({"tool_choice": "required"}), 400, "tool_choice"),
    ];
    for stream in [false, true] {
        for (more, status, param) in &cases {
            let streaming = json!({ "stream": stream });
            if stream && more.get("stream_options").is_some() {
                continue;
            }
            let answer = http.post("/v1/chat/completions", &with(with(chat("Hi"), streaming), more.clone())).await;
            assert_eq!(answer.status, *status, "{more}");
            let body = answer.json().await;
            assert_eq!(body["error"]["param"], *param, "{more}: {body}");
            for key in ["message", "type", "param", "code"] {
                assert!(body["error"].get(key).is_some(), "{more}: {body}");
            }
        }
    }
    let long = http.post("/v1/chat/completions", &chat(&"word ".repeat(60_000))).await.json().await;
    assert_eq!(long["error"]["code"], "context_length_exceeded", "{long}");
    assert!(long["error"]["message"].as_str().unwrap().contains("maximum context length is"));
}

#[tokio::test]
async fn broken_requests_are_answered() {
    let mut house = House::start();
    let http = house.http().await;
    for body in ["", "{", "[]", "\"text\"", "{\"messages\": 1}"] {
        let answer = http.post_text("/v1/chat/completions", body).await;
        assert_eq!(answer.status, 400, "{body:?}");
        assert!(answer.json().await["error"]["message"].is_string());
    }
    assert_eq!(http.get("/v1/nothing").await.status, 404);
    assert_eq!(http.get("/v1/chat/completions").await.status, 405);
    let rebound = "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(http.raw(rebound).await.status, 403);
    let wrong = format!(
        "GET /v1/models HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer imp_wrong\r\nConnection: close\r\n\r\n",
        http.authority()
    );
    assert_eq!(http.raw(&wrong).await.status, 401);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_work() {
    let mut house = House::start();
    let http = house.http().await;
    let client = house.client().await;
    let endless = with(chat("Tell me everything"), json!({"stream": true, "max_tokens": 20_000, "ignore_eos": true}));
    let mut stream = http.post("/v1/chat/completions", &endless).await;
    stream.frame().await.expect("the stream begins");
    drop(stream);
    wait::for_some("the work's end", || async { (client.status().await.unwrap().active == 0).then_some(()) }).await;
}
