//! Anthropic's dialect through real sockets: messages, their events, refusals in their shape.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;

const PATH: &str = "/v1/messages";

fn ask(more: Value) -> Value {
    let mut body = json!({
        "model": "impetus-nano",
        "max_tokens": 60,
        "temperature": 0,
        "messages": [{ "role": "user", "content": "What is Impetus?" }],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn weather() -> Value {
    json!({"tools": [{
        "name": "get_weather",
        "description": "Get the weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }], "messages": [{"role": "user", "content": "What is the weather in Paris?"}]})
}

/// Reads a stream's events; each must be named as its `type` says.
async fn events(http: &Http, body: Value) -> Vec<Value> {
    let answer = http.post(PATH, &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let text = answer.text().await;
    let read = |frame: &str| {
        let (name, data) = frame.split_once("\ndata: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
        value
    };
    text.split("\n\n").filter(|frame| !frame.is_empty()).map(read).collect()
}

#[tokio::test]
async fn a_streamed_message_says_what_a_whole_one_says() {
    let mut house = House::start();
    let http = house.http().await;
    let whole = http.post(PATH, &ask(json!({}))).await;
    assert!(whole.header("request-id").is_some_and(|id| id.starts_with("req_")));
    let whole = whole.json().await;
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"))
    );
    let text = whole["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("Impetus"), "{whole}");
    let events = events(&http, ask(json!({"stream": true}))).await;
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).cloned().collect::<Vec<_>>();
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!((&first["type"], &last["type"]), (&json!("message_start"), &json!("message_stop")));
    assert_eq!(first["message"]["content"], json!([]));
    assert_eq!((of("ping").len(), of("content_block_start").len(), of("content_block_stop").len()), (1, 1, 1));
    let streamed: String =
        of("content_block_delta").iter().map(|event| event["delta"]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(streamed, text);
    let usage = |usage: &Value| {
        let read = |name: &str| usage[name].as_u64().unwrap();
        (read("input_tokens") + read("cache_read_input_tokens"), read("output_tokens"))
    };
    assert_eq!(usage(&of("message_delta")[0]["usage"]), usage(&whole["usage"]));
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_is_read() {
    let mut house = House::start();
    let http = house.http().await;
    let whole = http.post(PATH, &ask(weather())).await.json().await;
    assert_eq!(whole["stop_reason"], "tool_use", "{whole}");
    let call = whole["content"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&call["type"], &call["name"], &call["input"]),
        (&json!("tool_use"), &json!("get_weather"), &json!({"city": "Paris"}))
    );
    let mut streaming = ask(weather());
    streaming["stream"] = json!(true);
    let events = events(&http, streaming).await;
    let began = events.iter().find(|event| event["content_block"]["type"] == "tool_use").unwrap();
    assert_eq!(began["content_block"]["input"], json!({}));
    let arguments: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"city": "Paris"}));
    let mut answered = ask(weather());
    let result = json!({"type": "tool_result", "tool_use_id": call["id"], "content": "sunny, 20 degrees"});
    let turns = answered["messages"].as_array_mut().unwrap();
    turns.push(json!({"role": "assistant", "content": whole["content"]}));
    turns.push(json!({"role": "user", "content": [result]}));
    let answer = http.post(PATH, &answered).await.json().await;
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("20 degrees"), "{answer}");
}

#[tokio::test]
async fn a_call_that_its_limit_cuts_before_its_name_is_known_is_no_text() {
    let mut house = House::start();
    let http = house.http().await;
    for limit in [4, 8, 12] {
        let mut cut = ask(weather());
        cut["max_tokens"] = json!(limit);
        let whole = http.post(PATH, &cut).await.json().await;
        assert_eq!((&whole["stop_reason"], &whole["content"]), (&json!("max_tokens"), &json!([])), "{limit}: {whole}");
        cut["stream"] = json!(true);
        let events = events(&http, cut).await;
        assert!(events.iter().all(|event| event["type"] != "content_block_delta"), "{limit}: {events:?}");
    }
}

#[tokio::test]
async fn an_answer_says_why_it_ended() {
    let mut house = House::start();
    let http = house.http().await;
    let stopped = http.post(PATH, &ask(json!({"stop_sequences": ["private"]}))).await.json().await;
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!("private")));
    let cut = http.post(PATH, &ask(json!({"max_tokens": 2}))).await.json().await;
    assert_eq!((&cut["stop_reason"], &cut["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(2)));
}

#[tokio::test]
async fn what_coding_agents_send_is_understood() {
    let mut house = House::start();
    let http = house.http().await;
    let agent = ask(json!({
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is Impetus?"}]},
            {"role": "system", "content": "The user is at a terminal."},
        ],
        "max_tokens": 64_000,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "someone"},
        "stop_sequences": ["."],
    }));
    let request = format!(
        "POST {PATH}?beta=true HTTP/1.1\r\nHost: {}\r\nx-api-key: {}\r\nanthropic-version: 2023-06-01\r\n\
         anthropic-beta: some-2026-01-01\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{agent}",
        http.authority(),
        http.key(),
        agent.to_string().len(),
    );
    let answer = http.raw(&request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json().await["type"], "message");
}

#[tokio::test]
async fn an_agents_next_turn_is_read_from_the_cache_though_its_account_differs() {
    let mut house = House::start();
    let http = house.http().await;
    let instructions = "You are an agent that writes code and tells what it does. ".repeat(8);
    let mut turn = 0;
    let mut usage_of = async |date: &str| {
        turn += 1;
        let account = format!("x-anthropic-billing-header: cc_version=2.1.100.7b4; cc_entrypoint=cli; cch=eb6c{turn};");
        let text = |text: &str| json!({"type": "text", "text": text});
        let system = json!([text(&account), text(&format!("{instructions}Today is {date}. {instructions}"))]);
        http.post(PATH, &ask(json!({"system": system, "max_tokens": 1}))).await.json().await["usage"].clone()
    };
    let cold = usage_of("Monday").await;
    assert_eq!(cold["cache_missed"], json!({"reason": "new", "position": 0}));
    let again = usage_of("Monday").await;
    let (cached, read) = (again["cache_read_input_tokens"].as_u64().unwrap(), again["input_tokens"].as_u64().unwrap());
    assert!(read == 1 && cached + read == cold["input_tokens"].as_u64().unwrap(), "{again}");
    assert_eq!(again["cache_missed"], Value::Null);
    // What is for the model is never left out: a day later all is read from there on, and the answer says from where.
    let later = usage_of("Tuesday").await;
    assert_eq!(later["cache_missed"]["reason"], "differs");
    let (cached, from) = (&later["cache_read_input_tokens"], later["cache_missed"]["position"].as_u64().unwrap());
    assert_eq!(cached.as_u64().unwrap(), from);
}

#[tokio::test]
async fn refusals_are_in_anthropics_shape() {
    let mut house = House::start();
    let http = house.http().await;
    let long = "word ".repeat(120_000);
    let cases = [
        (json!({"model": "nobody"}), 404, "not_found_error", "nobody"),
        (json!({"max_tokens": null}), 400, "invalid_request_error", "max_tokens"),
        (json!({"max_tokens": 0}), 400, "invalid_request_error", "max_tokens"),
        (json!({"temperature": 1.5}), 400, "invalid_request_error", "temperature"),
        (json!({"telepathy": true}), 400, "invalid_request_error", "telepathy"),
        (json!({"stop_sequences": vec!["a"; 17]}), 400, "invalid_request_error", "stop_sequences"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 10}}), 400, "invalid_request_error", "budget_tokens"),
        (json!({"output_config": {"format": {}}}), 400, "invalid_request_error", "output_config.format"),
        (
            json!({"context_management": {"edits": [{"type": "clear_tool_uses"}]}}),
            400,
            "invalid_request_error",
            "edits",
        ),
        (json!({"tools": [{"type": "web_search_20250305", "name": "w"}]}), 400, "invalid_request_error", "web_search"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            400,
            "invalid_request_error",
            "image",
        ),
        (json!({"messages": [{"role": "user", "content": long}]}), 400, "invalid_request_error", "prompt is too long"),
    ];
    for stream in [false, true] {
        for (more, status, kind, named) in &cases {
            let mut body = ask(more.clone());
            body["stream"] = json!(stream);
            let answer = http.post(PATH, &body).await;
            assert_eq!(answer.status, *status, "{named}");
            let answer = answer.json().await;
            assert_eq!((&answer["type"], &answer["error"]["type"]), (&json!("error"), &json!(kind)), "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(named), "{answer}");
            assert!(answer["request_id"].as_str().unwrap().starts_with("req_"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_refused_thread_says_that_the_whole_conversation_may_be_sent() {
    let mut house = House::start();
    let http = house.http().await;
    let refused = http.post(PATH, &ask(json!({"thread": {"type": "create"}}))).await;
    assert_eq!(refused.status, 400);
    let details = json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]});
    assert_eq!(refused.json().await["error"]["details"], details);
    let other = http.post(PATH, &ask(json!({"telepathy": true}))).await.json().await;
    assert_eq!(other["error"].get("details"), None);
}

#[tokio::test]
async fn models_are_shown_in_anthropics_words_to_whoever_speaks_them() {
    let mut house = House::start();
    let http = house.http().await;
    let get = async |method: &str, path: &str, lines: String| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", http.authority());
        http.raw(&format!("{head}{lines}\r\n")).await
    };
    let version = "anthropic-version: 2023-06-01\r\n";
    let key = format!("x-api-key: {}\r\n{version}", http.key());
    for (method, path, lines, status, kind) in [
        ("GET", "/v1/models/nope", key.clone(), 404, "not_found_error"),
        ("GET", "/v1/models?limit=0", key.clone(), 400, "invalid_request_error"),
        ("PUT", "/v1/models", key.clone(), 405, "invalid_request_error"),
        ("GET", "/v1/models", format!("x-api-key: imp_wrong\r\n{version}"), 401, "authentication_error"),
    ] {
        let answer = get(method, path, lines).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.header("request-id").is_some_and(|id| id.starts_with("req_")), "{method} {path}");
        assert_eq!(answer.json().await["error"]["type"], kind, "{method} {path}");
    }
    for path in ["/v1/models", "/v1/models/impetus-nano"] {
        let answer = get("GET", path, key.clone()).await;
        assert!(answer.status == 200 && answer.header("request-id").is_some(), "{path}");
    }
    let plain = http.get("/v1/models/nope").await;
    assert_eq!(plain.header("request-id"), None);
    assert_eq!(plain.json().await["error"]["code"], "MODEL_NOT_FOUND");
}

#[tokio::test]
async fn the_door_speaks_anthropics_shape_too() {
    let mut house = House::start();
    let http = house.http().await;
    let send = |line: String| {
        let http = http.clone();
        async move {
            http.raw(&format!("POST {PATH} HTTP/1.1\r\n{line}Content-Length: 0\r\nConnection: close\r\n\r\n")).await
        }
    };
    let host = format!("Host: {}\r\n", http.authority());
    let cases = [
        (host.clone(), 401, "authentication_error"),
        (format!("{host}x-api-key: imp_wrong\r\n"), 401, "authentication_error"),
        ("Host: evil.example\r\n".to_owned(), 403, "permission_error"),
        (format!("{host}x-api-key: {}\r\n", http.key()), 400, "invalid_request_error"),
    ];
    for (lines, status, kind) in cases {
        let answer = send(lines).await;
        assert_eq!(answer.status, status, "{kind}");
        let body = answer.json().await;
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
    }
    let large = http.post_text(PATH, &" ".repeat((16 << 20) + 1)).await;
    assert_eq!(large.status, 413);
    assert_eq!(large.json().await["error"]["type"], "request_too_large");
    let wrong = http.get(PATH).await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.json().await["type"], "error");
}
