//! The HTTP bridge through real sockets: answers, streams, refusals.

use serde_json::{Value, json};
use tests::answer::first_text;
use tests::house::{House, Plan, raw};
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
async fn every_chunk_counts_tokens_where_that_is_asked_for() {
    let mut house = House::start();
    let http = house.http().await;
    let raw = json!({"model": "impetus-nano", "prompt": "Impetus is", "max_tokens": 8, "ignore_eos": true});
    for (path, body) in [("/v1/chat/completions", chat("What is Impetus?")), ("/v1/completions", raw)] {
        let options = json!({"include_usage": true, "continuous_usage_stats": true});
        let events = http.post(path, &with(body.clone(), json!({"stream": true, "stream_options": options}))).await;
        let usages: Vec<Value> =
            events.events().await.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
        let counted = |chunk: &Value| chunk["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(usages.iter().is_sorted_by_key(counted), "{usages:?}");
        let last = &usages.last().unwrap()["usage"];
        assert!(usages.len() > 1 && counted(&usages[usages.len() - 2]) == last["completion_tokens"], "{usages:?}");
        assert!(usages.iter().all(|chunk| chunk["usage"]["prompt_tokens"] == last["prompt_tokens"]), "{usages:?}");
        assert_eq!(
            last["total_tokens"].as_u64(),
            Some(counted(usages.last().unwrap()) + last["prompt_tokens"].as_u64().unwrap())
        );
        let alone = json!({"stream": true, "stream_options": {"continuous_usage_stats": true}});
        let events = http.post(path, &with(body.clone(), alone)).await.events().await;
        let chunks: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
        assert!(chunks.iter().all(|chunk| chunk["choices"] != json!([]) && chunk["usage"].is_object()), "{chunks:?}");
        let options = json!({"include_usage": false, "continuous_usage_stats": true});
        let none = http.post(path, &with(body, json!({"stream": true, "stream_options": options}))).await;
        assert!(none.events().await.iter().all(|event| !event.contains("usage")), "who wants none gets none");
    }
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
async fn no_log_probability_tells_what_a_stop_string_took_away() {
    let mut house = House::start();
    let http = house.http().await;
    let whole = http.post("/v1/chat/completions", &with(chat("What is Impetus?"), json!({"logprobs": true}))).await;
    let whole = whole.json().await;
    let entries = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let tokens: Vec<&str> = entries.iter().map(token).collect();
    // So that it begins with a token and ends within one.
    let stop = tokens[5..7].concat() + &tokens[7][..1];
    let stopping = with(chat("What is Impetus?"), json!({"logprobs": true, "stop": [stop]}));
    let stopped = http.post("/v1/chat/completions", &stopping).await.json().await;
    let choice = &stopped["choices"][0];
    assert_eq!(choice["message"]["content"], tokens[..5].concat());
    assert_eq!(choice["logprobs"]["content"], json!(entries[..5]));
    let events = http.post("/v1/chat/completions", &with(stopping, json!({"stream": true}))).await.events().await;
    let chunks: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let said = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(said.collect::<String>(), tokens[..5].concat());
    let told = chunks.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array()).flatten();
    assert_eq!(told.map(token).collect::<Vec<_>>(), tokens[..5]);
    let raw = json!({"model": "impetus-nano", "prompt": "Impetus is", "temperature": 0, "logprobs": 1});
    let whole = http.post("/v1/completions", &raw).await.json().await;
    let tokens: Vec<&str> =
        whole["choices"][0]["logprobs"]["tokens"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let stopped = http.post("/v1/completions", &with(raw, json!({"stop": tokens[3..5].concat()}))).await.json().await;
    let choice = &stopped["choices"][0];
    assert_eq!((&choice["text"], &choice["logprobs"]["tokens"]), (&json!(tokens[..3].concat()), &json!(tokens[..3])));
}

fn token(entry: &Value) -> &str {
    entry["token"].as_str().unwrap()
}

#[tokio::test]
async fn an_answer_says_what_it_found_cached_and_why_not_more() {
    let mut house = House::start();
    let http = house.http().await;
    let path = "/v1/chat/completions";
    let asked = |end: &str| {
        let long = "a beginning that all of them have, word for word, ".repeat(6);
        let rest = "and then it goes on for all of them alike, ".repeat(6);
        with(chat(&format!("{long}{end} {rest}")), json!({ "max_tokens": 1 }))
    };
    let details =
        async |end: &str| http.post(path, &asked(end)).await.json().await["usage"]["prompt_tokens_details"].clone();
    let cold = json!({"cached_tokens": 0, "cache_missed": {"reason": "new", "position": 0}});
    assert_eq!(details("this one").await, cold);
    let other = details("that one").await;
    let from = other["cache_missed"]["position"].as_u64().unwrap();
    let differs = json!({"cached_tokens": from, "cache_missed": {"reason": "differs", "position": from}});
    assert_eq!(other, differs);
    let streamed = with(asked("that one"), json!({"stream": true, "stream_options": {"include_usage": true}}));
    let events = http.post(path, &streamed).await.events().await;
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    let details = &last["usage"]["prompt_tokens_details"];
    let all = last["usage"]["prompt_tokens"].as_u64().unwrap() - 1;
    assert!(details["cache_missed"].is_null() && details["cached_tokens"] == all, "{last}");
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
    let abilities = http.get("/api/v1/models/impetus-nano/capabilities").await.json().await;
    assert_eq!((&abilities["tools"], &abilities["vision"]), (&json!(true), &json!(false)));
    assert_eq!(http.get("/v1/models/nobody/capabilities").await.status, 404);
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
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true,
            "schema": {"type": "array", "uniqueItems": true}}}}),
            400,
            "response_format",
        ),
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
    let long = http.post("/v1/chat/completions", &chat(&"word ".repeat(120_000))).await.json().await;
    assert_eq!(long["error"]["code"], "context_length_exceeded", "{long}");
    assert!(long["error"]["message"].as_str().unwrap().contains("maximum context length is"));
}

#[tokio::test]
async fn a_full_house_says_when_to_come_back_and_too_large_a_model_what_it_would_take() {
    let config = "[requests]\nactive_max = 1\n".to_owned();
    let mut house = House::with(Plan { config, ..Plan::default() });
    let http = house.http().await;
    let client = house.client().await;
    let mut events = client.generate(raw(None, "It goes on", 30_000)).await.unwrap();
    first_text(&mut events).await;
    let full = http.post("/v1/chat/completions", &chat("And I?")).await;
    let retry: u64 = full.header("retry-after").unwrap().parse().unwrap();
    assert_eq!((full.status, retry > 0), (503, true));
    assert_eq!(full.json().await["error"]["code"], "busy");

    let config = "[memory]\nbudget = \"1MB\"\n".to_owned();
    let mut house = House::with(Plan { config, ..Plan::default() });
    let http = house.http().await;
    let refused = http.post("/v1/chat/completions", &chat("Hello")).await;
    assert_eq!(refused.status, 507);
    let error = refused.json().await["error"].clone();
    let message = error["message"].as_str().unwrap();
    for part in ["impetus-nano needs at least", "weights", "+ KV cache", "+ overhead", "models may take 1 MB"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(error["code"], "INSUFFICIENT_MEMORY");
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
    assert_eq!(http.get("/v1/completions").await.status, 405);
    let rebound = "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(http.raw(rebound).await.status, 403);
    let (ours, ends) = (format!("Host: {}\r\n", http.authority()), "Connection: close\r\n\r\n");
    for (line, hosts, status) in [
        ("GET /v1/models", String::new(), 400),
        ("GET /v1/models", format!("{ours}{ours}"), 400),
        ("GET /v1/models", format!("{ours}Host: evil.example\r\n"), 400),
        ("GET http://evil.example/v1/models", ours.clone(), 403),
        ("GET /v1/models", ours.clone(), 401),
        ("GET /v1/models", "Host: host.docker.internal:8420\r\n".to_owned(), 401),
    ] {
        assert_eq!(http.raw(&format!("{line} HTTP/1.1\r\n{hosts}{ends}")).await.status, status, "{line} {hosts}");
    }
    let key = format!("Authorization: Bearer {}\r\n", http.key());
    let packed = format!("POST /v1/embeddings HTTP/1.1\r\n{ours}{key}Content-Encoding: gzip\r\nContent-Length: 2\r\n");
    assert_eq!(http.raw(&format!("{packed}{ends}xx")).await.status, 415);
    assert_eq!(http.raw(&format!("{packed}{ends}xx").replace("gzip", "Identity")).await.status, 400, "it is read");
    let wrong = format!(
        "GET /v1/models HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer imp_wrong\r\nConnection: close\r\n\r\n",
        http.authority()
    );
    assert_eq!(http.raw(&wrong).await.status, 401);
    let large = |bytes: usize| {
        let head = format!("GET /api/tags HTTP/1.1\r\nHost: {}\r\nX-Padding: ", http.authority());
        format!("{head}{}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n", "x".repeat(bytes), http.key())
    };
    assert_eq!(http.raw(&large(60 << 10)).await.status, 200);
    for bytes in [64 << 10, 80 << 10, 100 << 10] {
        let refused = http.raw(&large(bytes)).await;
        assert_eq!(refused.status, 431, "{bytes}");
        assert!(refused.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
        assert!(refused.json().await["error"].to_string().contains("head of the request"));
    }
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

#[tokio::test]
async fn several_prompts_are_several_choices() {
    let mut house = House::start();
    let http = house.http().await;
    let ask = |prompt: Value| json!({"prompt": prompt, "model": "impetus-nano", "max_tokens": 4, "temperature": 0});
    let alone = http.post("/v1/completions", &ask(json!("Hello"))).await.json().await;
    let body = with(ask(json!(["Impetus is", "Hello"])), json!({"n": 2, "echo": true}));
    let together = http.post("/api/v1/completions", &body).await.json().await;
    // Clients whose base URL ends before `/v1` ask here.
    assert_eq!(http.post("/completions", &body).await.json().await["choices"], together["choices"]);
    let choices = together["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4, "{together}");
    let text = alone["choices"][0]["text"].as_str().unwrap();
    assert_eq!(choices[3]["text"], format!("Hello{text}"));
    let events = http.post("/v1/completions", &with(body, json!({"stream": true}))).await.events().await;
    let mut streamed = vec![String::new(); 4];
    for event in &events[..events.len() - 1] {
        let choice = &serde_json::from_str::<Value>(event).unwrap()["choices"][0];
        streamed[choice["index"].as_u64().unwrap() as usize].push_str(choice["text"].as_str().unwrap());
    }
    assert!(choices.iter().zip(streamed).all(|(choice, text)| choice["text"] == text), "{together}");
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let mut house = House::start();
    let http = house.http().await;
    for path in ["/health", "/v1/models", "/v1/nothing", "/v1/models/nobody", "/v1/models/%ff"] {
        let answer = http.get(path).await;
        let (refused, id) = (answer.status >= 400, answer.header("x-request-id").unwrap().to_owned());
        let digits = id.strip_prefix("req_").unwrap();
        assert!(digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let body = answer.json().await;
        assert!(!refused || body["request_id"] == id, "{path}: {body}");
    }
}

#[tokio::test]
async fn web_pages_of_others_are_refused() {
    let mut house = House::start();
    let http = house.http().await;
    let from = |origin: &str| {
        let key = format!("Authorization: Bearer {}\r\nConnection: close", http.key());
        format!("GET /v1/models HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\n{key}\r\n\r\n", http.authority())
    };
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", ""] {
        assert_eq!(http.raw(&from(origin)).await.status, 403, "{origin}");
    }
    assert_eq!(http.raw(&from("http://localhost:3000")).await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_has_all_come() {
    let mut house = House::start();
    let http = house.http().await;
    let body = format!("{{\"prompt\": \"{}\"}}", "x".repeat(17 << 20));
    let answer = http.post_text("/v1/completions", &body).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json().await["status"], 413);
    let head = format!("POST /v1/completions HTTP/1.1\r\nHost: {}\r\n", http.authority());
    let announced = format!("Authorization: Bearer {}\r\nContent-Length: 99999999999\r\n\r\n", http.key());
    assert_eq!(http.raw(&format!("{head}{announced}")).await.status, 413);
    // Without a key nothing of the body is waited for.
    assert_eq!(http.raw(&format!("{head}Content-Length: 100\r\n\r\n")).await.status, 401);
}

#[tokio::test]
async fn whoever_is_refused_unread_may_send_all_of_it_and_ask_again() {
    let mut house = House::start();
    let http = house.http().await;
    let (host, key) = (format!("Host: {}\r\n", http.authority()), format!("Authorization: Bearer {}\r\n", http.key()));
    let body = "x".repeat(8 << 20);
    let sent =
        format!("Content-Length: {}\r\n\r\n{body}GET /health HTTP/1.1\r\n{host}Connection: close\r\n\r\n", body.len());
    let chat = "/v1/chat/completions";
    for (path, head, status) in [
        (chat, format!("{host}Authorization: Bearer imp_wrong\r\n"), 401),
        (chat, format!("Host: evil.example\r\n{key}"), 403),
        (chat, format!("{host}{key}Content-Encoding: gzip\r\n"), 415),
        ("/v1/nothing", format!("{host}{key}"), 404),
        ("/v1/models", format!("{host}{key}"), 405),
    ] {
        let answer = http.raw(&format!("POST {path} HTTP/1.1\r\n{head}{sent}")).await;
        assert_eq!((answer.status, answer.header("connection")), (status, None), "{path}");
        let rest = answer.text().await;
        assert!(rest.contains("HTTP/1.1 200 OK"), "{status}, then {rest}");
    }
    // Whoever waits to be told to go on is told no, and sends nothing.
    let asks = format!("POST {chat} HTTP/1.1\r\n{host}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    let refused = http.raw(&asks).await;
    assert_eq!((refused.status, refused.header("connection")), (401, Some("close")));
}

#[tokio::test]
async fn silent_connections_leave_room_for_one_that_speaks() {
    let mut house = House::start();
    let http = house.http().await;
    let mut silent = Vec::new();
    // Fewer than the descriptors that macOS gives a process by default.
    for _ in 0..150 {
        silent.push(tokio::net::TcpStream::connect(http.authority()).await.expect("the bridge listens"));
    }
    assert_eq!(http.get("/v1/models").await.status, 200);
    assert_eq!(silent.len(), 150);
}
