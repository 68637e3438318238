//! What dialects' own documents allow and refuse: numbers at their ends, queries, the names of what is at fault.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn asked(more: Value) -> Value {
    let mut body = json!({"model": "impetus-nano", "max_tokens": 12,
                          "messages": [{"role": "user", "content": "What is Impetus?"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn answered(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, &body).await;
    let (status, answer) = (answer.status, answer.json().await);
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

/// Returns the parameter that a refusal of this body names.
async fn fault(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, &body).await;
    let (status, answer) = (answer.status, answer.json().await);
    assert_eq!(status, 400, "{path} {body}: {answer}");
    answer["error"]["param"].clone()
}

#[tokio::test]
async fn a_nucleus_of_nothing_is_the_likeliest_token_in_every_dialect() {
    let mut house = House::start();
    let http = house.http().await;
    let greedy = answered(&http, CHAT, asked(json!({"temperature": 0}))).await;
    let greedy = &greedy["choices"][0]["message"]["content"];
    for seed in [1, 2] {
        let drawn = answered(&http, CHAT, asked(json!({"temperature": 1.5, "top_p": 0, "seed": seed}))).await;
        assert_eq!(&drawn["choices"][0]["message"]["content"], greedy);
    }
    let drawn = answered(&http, "/v1/messages", asked(json!({"temperature": 1, "top_p": 0}))).await;
    assert_eq!(&drawn["content"][0]["text"], greedy);
    let options = json!({"temperature": 1.5, "top_p": 0, "num_predict": 12});
    let more = json!({"options": options, "stream": false, "max_tokens": null});
    let drawn = answered(&http, "/api/chat", asked(more)).await;
    assert_eq!(&drawn["message"]["content"], greedy);
    let whole = json!({"options": {"temperature": 0, "num_predict": 0}, "stream": false, "max_tokens": null});
    assert_eq!(answered(&http, "/api/chat", asked(whole)).await["done_reason"], "stop", "0 is no limit, as in Ollama");
    assert_eq!(fault(&http, CHAT, asked(json!({"top_p": -0.1}))).await, "top_p");
}

#[tokio::test]
async fn a_whole_number_may_be_written_with_a_fraction_of_nothing() {
    let mut house = House::start();
    let http = house.http().await;
    let answer = answered(&http, CHAT, asked(json!({"max_tokens": 4.0, "n": 2.0, "top_k": 1.0, "seed": 7.0}))).await;
    assert_eq!((answer["choices"].as_array().unwrap().len(), &answer["usage"]["completion_tokens"]), (2, &json!(8)));
    let answer = answered(&http, "/v1/messages", asked(json!({"max_tokens": 4.0}))).await;
    assert_eq!(answer["usage"]["output_tokens"], 4);
    let body = json!({"model": "impetus-nano", "input": "Hi", "max_output_tokens": 4.0});
    assert_eq!(answered(&http, "/v1/responses", body).await["usage"]["output_tokens"], 4);
    assert_eq!(fault(&http, CHAT, asked(json!({"max_tokens": 4.5}))).await, "max_tokens");
}

#[tokio::test]
async fn a_shape_that_cannot_be_held_is_refused_under_the_name_it_was_asked_by() {
    let mut house = House::start();
    let http = house.http().await;
    let outputs = |shape: Value| asked(json!({ "structured_outputs": shape }));
    assert_eq!(fault(&http, CHAT, outputs(json!({"choice": []}))).await, "structured_outputs");
    let wrong = http.post(CHAT, &outputs(json!({"regex": "([a"}))).await.json().await;
    assert_eq!(wrong["error"]["param"], "structured_outputs");
    assert!(wrong["error"]["message"].as_str().unwrap().contains("unclosed"), "{wrong}");
    let text = json!({"model": "impetus-nano", "prompt": "Hi", "structured_outputs": {"regex": "([a"}});
    assert_eq!(fault(&http, TEXT, text).await, "structured_outputs");
    let format = |schema: Value| {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        asked(json!({ "response_format": format, "stream": true }))
    };
    let endless = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}});
    assert_eq!(fault(&http, CHAT, format(endless)).await, "response_format");
    let pattern =
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "([a"}}, "required": ["a"]});
    assert_eq!(fault(&http, CHAT, format(pattern)).await, "response_format");
}

#[tokio::test]
async fn a_refusal_tells_the_range_that_holds_here() {
    let mut house = House::start();
    let http = house.http().await;
    let says = async |path: &str, more: Value| {
        let body = if path.starts_with("/v1/chat") || path.starts_with("/api") { asked(more) } else { more };
        let answer = http.post(path, &body).await.json().await;
        answer["error"]["message"].as_str().or(answer["error"].as_str()).unwrap_or_default().to_owned()
    };
    for wrong in [-1, 21, 256] {
        for (path, body) in [
            (CHAT, json!({"logprobs": true, "top_logprobs": wrong})),
            (TEXT, json!({"model": "impetus-nano", "prompt": "Hi", "logprobs": wrong})),
            ("/v1/responses", json!({"model": "impetus-nano", "input": "Hi", "top_logprobs": wrong})),
            ("/api/chat", json!({"logprobs": true, "top_logprobs": wrong, "max_tokens": null})),
        ] {
            let told = says(path, body).await;
            assert!(told.contains("from 0 to 20"), "{path} {wrong}: {told}");
        }
    }
    let none = json!({"model": "impetus-nano-embed", "input": "a", "dimensions": 0});
    assert!(says("/v1/embeddings", none).await.contains("at least 1"));
    let shown = http.get("/v1/models/nobody").await.json().await;
    let chat = http.post(CHAT, &asked(json!({"model": "nobody"}))).await.json().await;
    assert_eq!(shown["error"]["message"], chat["error"]["message"], "an unknown model is said in one way");
}

#[tokio::test]
async fn an_echo_needs_no_answer_and_no_log_probabilities() {
    let mut house = House::start();
    let http = house.http().await;
    for prompt in [json!("Impetus is"), json!(["Impetus is", "Hello"])] {
        let count = prompt.as_array().map_or(1, Vec::len);
        let body = json!({"model": "impetus-nano", "prompt": prompt, "echo": true, "max_tokens": 0});
        let answer = answered(&http, TEXT, body.clone()).await;
        assert_eq!(answer["choices"].as_array().unwrap().len(), count);
        let first = &answer["choices"][0];
        assert_eq!((&first["text"], &first["logprobs"]), (&json!("Impetus is"), &Value::Null), "{answer}");
        assert_eq!(answer["usage"]["completion_tokens"], 0);
        let mut streamed = body;
        streamed["stream"] = json!(true);
        let events = http.post(TEXT, &streamed).await.events().await;
        let chunks = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let texts = chunks.filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned()));
        assert!(texts.collect::<String>().starts_with("Impetus is"));
    }
    let silent = json!({"model": "impetus-nano", "prompt": "Impetus is", "max_tokens": 0});
    assert_eq!(fault(&http, TEXT, silent).await, "max_tokens");
}

#[tokio::test]
async fn lists_are_shown_in_parts_and_no_query_is_passed_over() {
    let mut house = House::start();
    let http = house.http().await;
    let list = async |path: &str| http.get(path).await.json().await;
    let all = list("/v1/models").await;
    let [first, second] = [0, 1].map(|at| all["data"][at]["id"].as_str().unwrap().to_owned());
    assert_eq!((&all["has_more"], &all["last_id"]), (&json!(false), &json!(second)));
    let page = list("/v1/models?limit=1").await;
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"], page["data"][1].is_null()),
        (&json!(first), &json!(true), true)
    );
    let rest = list(&format!("/v1/models?limit=1&after_id={first}&beta=true&client_version=1&api-version=2")).await;
    assert_eq!((&rest["first_id"], &rest["has_more"]), (&json!(second), &json!(false)));
    let before = list(&format!("/v1/models?before_id={second}")).await;
    assert_eq!((&before["last_id"], &before["has_more"]), (&json!(first), &json!(false)));
    let keys = list("/api/keys?limit=1").await;
    assert_eq!((keys["data"].as_array().unwrap().len(), &keys["has_more"]), (1, &json!(false)));
    for label in ["a", "b"] {
        http.post("/api/keys", &json!({"label": label, "role": "user"})).await.json().await;
    }
    let ids =
        |list: &Value| -> Vec<Value> { list["data"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect() };
    let keys = list("/api/keys?limit=2").await;
    let rest = list(&format!("/api/keys?after={}", keys["next_cursor"].as_str().unwrap())).await;
    assert_eq!((ids(&rest).len(), &rest["has_more"]), (1, &json!(false)));
    assert_eq!([ids(&keys), ids(&rest)].concat(), ids(&list("/api/keys").await));
    assert_eq!(list("/api/models?limit=1").await["next_cursor"], json!(first));
    for (path, param) in [
        ("/v1/models?limit=0", "limit"),
        ("/v1/models?limit=abc", "limit"),
        ("/v1/models?after_id=nobody", "after_id"),
        ("/v1/models?colour=red", "colour"),
        ("/v1/models?limit=1&limit=2", "limit"),
        ("/models?colour=red", "colour"),
        ("/api/keys?after=zzz", "after"),
        ("/api/keys?colour=red", "colour"),
        ("/api/models?colour=red", "colour"),
    ] {
        let answer = http.get(path).await;
        assert_eq!((answer.status, &answer.json().await["error"]["param"]), (400, &json!(param)), "{path}");
    }
    for path in ["tags", "ps", "version", "memory", "hardware/info", "health/status"] {
        let answer = http.get(&format!("/api/{path}?foo=1")).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().await.contains("'foo'"), "{path}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_called_as_its_endpoint_calls_it() {
    let mut house = House::start();
    let http = house.http().await;
    let long = "word ".repeat(90_000);
    let turn = json!([{"role": "user", "content": long}]);
    for (path, body, param) in [
        (CHAT, json!({"messages": turn}), "messages"),
        (TEXT, json!({"prompt": long}), "prompt"),
        (TEXT, json!({"prompt": [long, "a"]}), "prompt"),
        ("/v1/responses", json!({"input": long}), "input"),
        ("/v1/embeddings", json!({"model": "impetus-nano-embed", "input": long}), "input"),
    ] {
        let answer = http.post(path, &body).await.json().await;
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("context_length_exceeded"), &json!(param)), "{answer}");
        assert!(!error["message"].as_str().unwrap().contains("inputs"), "{answer}");
    }
    for (path, body, begins) in [
        ("/api/chat", json!({"model": "impetus-nano", "messages": turn}), "messages: "),
        ("/api/generate", json!({"model": "impetus-nano", "prompt": long}), "This model's maximum context length"),
        ("/api/embed", json!({"model": "impetus-nano-embed", "input": long, "truncate": false}), "input: "),
    ] {
        let answer = http.post(path, &body).await.json().await;
        assert!(answer["error"].as_str().unwrap().starts_with(begins), "{answer}");
    }
}

#[tokio::test]
async fn more_tokens_than_any_context_holds_are_as_many_as_there_is_room_for() {
    let mut house = House::start();
    let http = house.http().await;
    let many = 10_000_000_000_u64;
    for (path, body) in [
        (CHAT, asked(json!({"max_tokens": many}))),
        (CHAT, asked(json!({"max_tokens": null, "max_completion_tokens": many}))),
        ("/v1/messages", asked(json!({"max_tokens": many}))),
        ("/v1/responses", json!({"input": "What is Impetus?", "max_output_tokens": many})),
    ] {
        answered(&http, path, body).await;
    }
}

#[tokio::test]
async fn what_is_not_offered_is_refused_in_words() {
    let mut house = House::start();
    let http = house.http().await;
    for path in ["/v1/rag", "/v1/rag/search", "/api/v1/rag/collections/a"] {
        let answer = http.post(path, &json!({"query": "a"})).await;
        assert_eq!(answer.status, 404, "{path}");
        let error = answer.json().await["error"].clone();
        assert!(error["message"].as_str().unwrap().starts_with("Retrieval is not offered"), "{error}");
    }
    let tool = |kind: &str| json!({"type": kind, "name": "run"});
    let body = |tools: Value, choice: Value| json!({"model": "impetus-nano", "input": "Hi", "max_output_tokens": 2, "tools": tools, "tool_choice": choice});
    let custom = body(json!([tool("custom")]), json!("auto"));
    assert_eq!(fault(&http, "/v1/responses", custom).await, "tools[0].type");
    let built_in = body(json!([{"type": "web_search"}]), json!("auto"));
    assert_eq!(answered(&http, "/v1/responses", built_in).await["tools"], json!([]));
    let chosen = http.post("/v1/responses", &body(json!([]), tool("custom"))).await.json().await;
    let message = chosen["error"]["message"].as_str().unwrap();
    assert!(message.contains("of type 'custom'") && !message.contains("Some("), "{message}");
}

#[tokio::test]
async fn a_mark_before_a_text_and_a_request_of_http_1_0_are_read() {
    let mut house = House::start();
    let http = house.http().await;
    let marked = format!("\u{feff}{}", asked(json!({"max_tokens": 1})));
    assert_eq!(http.post_text(CHAT, &marked).await.status, 200);
    let older = |lines: &str| format!("GET /v1/models HTTP/1.0\r\nAuthorization: Bearer {}\r\n{lines}\r\n", http.key());
    assert_eq!(http.raw(&older("")).await.status, 200);
    assert_eq!(http.raw(&older("Host: evil.example\r\n")).await.status, 403);
    assert_eq!(http.raw(&older("").replace("1.0", "1.1")).await.status, 400);
}

#[tokio::test]
async fn the_daemons_state_says_to_each_key_what_it_may_know() {
    let mut house = House::start();
    let admin = house.http().await;
    let mut keys = Vec::new();
    for wish in [
        json!({"label": "eyes", "role": "readonly"}),
        json!({"label": "b", "role": "user", "models": ["impetus-nano-embed"]}),
    ] {
        let made = admin.post("/api/keys", &wish).await.json().await;
        keys.push(Http::new(admin.authority(), made["secret"].as_str().unwrap()));
    }
    // Once it answers, it knows its models.
    assert_eq!(admin.get("/v1/models").await.status, 200);
    let status = async |http: &Http| http.get("/api/health/status").await.json().await;
    let (all, eyes, held) = (status(&admin).await, status(&keys[0]).await, status(&keys[1]).await);
    assert!(all["home"].as_str().unwrap().starts_with('/') && all["default_model"] == "impetus-nano", "{all}");
    assert_eq!((&eyes["home"], &eyes["socket"], &eyes["logs"]), (&json!(""), &json!(""), &json!("")));
    assert_eq!((&eyes["default_model"], &held["default_model"]), (&json!("impetus-nano"), &Value::Null));
    assert!(!held.to_string().contains("\"impetus-nano\""), "{held}");
}
