//! What clients of llama-server ask in its own words: `/completion`, `/infill` and `/props`, and its members of chats.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;

use crate::infill::{MARKS, filling, tokens};

async fn ask(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, &body).await;
    let (status, answer) = (answer.status, answer.json().await);
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

fn completion(more: Value) -> Value {
    let mut body = json!({"model": "impetus-nano", "prompt": "Impetus is", "n_predict": 6, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_completion_tells_its_tokens_why_it_ended_and_how_long_it_took() {
    let mut house = House::start();
    let http = house.http().await;
    let told = ask(&http, "/completion", completion(json!({"return_tokens": true, "n_probs": 2, "seed": 7}))).await;
    assert_eq!((&told["stop"], &told["stop_type"], &told["truncated"]), (&json!(true), &json!("limit"), &json!(false)));
    assert_eq!((&told["tokens_predicted"], &told["timings"]["predicted_n"]), (&json!(6), &json!(6)));
    assert!(told["timings"]["prompt_n"].as_u64().unwrap() > 0 && told["timings"]["prompt_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(told["generation_settings"]["n_predict"], 6);
    assert_eq!((&told["generation_settings"]["seed"], &told["prompt"]), (&json!(7), &json!("Impetus is")));
    let spelled = ask(&http, "/detokenize", json!({"tokens": told["tokens"]})).await;
    assert_eq!(spelled["content"], told["content"]);
    let likely = told["completion_probabilities"].as_array().unwrap();
    assert_eq!(likely.len(), 6);
    assert!(likely.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2 && token["id"].is_u64()));
    let openai = json!({"model": "impetus-nano", "prompt": "Impetus is", "max_tokens": 6, "temperature": 0});
    assert_eq!(ask(&http, "/v1/completions", openai).await["choices"][0]["text"], told["content"]);
    let few =
        ask(&http, "/completion", completion(json!({"response_fields": ["content", "timings/predicted_n"]}))).await;
    assert_eq!(few, json!({"content": told["content"], "timings/predicted_n": 6}));
    let word = ask(&http, "/completion", completion(json!({"n_predict": 40, "stop": ["private"]}))).await;
    assert_eq!((&word["stop_type"], &word["stopping_word"]), (&json!("word"), &json!("private")), "{word}");
}

#[tokio::test]
async fn a_prompt_is_the_same_in_every_form_and_a_list_is_answered_with_a_list() {
    let mut house = House::start();
    let http = house.http().await;
    let alone = ask(&http, "/completion", completion(json!({}))).await["content"].clone();
    let tokens = ask(&http, "/tokenize", json!({"content": "Impetus is", "add_special": true})).await["tokens"].clone();
    let forms = [json!({"prompt_string": "Impetus is"}), tokens.clone()];
    for form in &forms {
        assert_eq!(ask(&http, "/completion", completion(json!({ "prompt": form }))).await["content"], alone, "{form}");
    }
    let list = ask(&http, "/completion", completion(json!({"prompt": ["Impetus is", forms[0], tokens]}))).await;
    let texts: Vec<_> = list.as_array().unwrap().iter().map(|one| &one["content"]).collect();
    assert_eq!(texts, [&alone; 3]);
    let first = tokens[0].clone();
    let mixed = ask(&http, "/completion", completion(json!({"prompt": [first, "is"]}))).await;
    assert!(mixed["content"].is_string() && mixed["tokens_evaluated"].as_u64().unwrap() >= 2, "{mixed}");
}

#[tokio::test]
async fn a_stream_of_a_completion_says_the_same_and_ends_with_what_it_came_to() {
    let mut house = House::start();
    let http = house.http().await;
    let whole = ask(&http, "/completion", completion(json!({}))).await;
    let text = http.post("/completion", &completion(json!({"stream": true}))).await.text().await;
    let pieces: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|piece| serde_json::from_str(piece).unwrap())
        .collect();
    let (last, before) = pieces.split_last().unwrap();
    let said: String = before.iter().map(|piece| piece["content"].as_str().unwrap()).collect();
    assert_eq!(json!(said), whole["content"]);
    assert!(before.iter().all(|piece| piece["stop"] == false && !piece["tokens"].as_array().unwrap().is_empty()));
    assert_eq!((&last["stop"], &last["content"], &last["stop_type"]), (&json!(true), &json!(""), &json!("limit")));
    assert_eq!(last["timings"]["predicted_n"], 6);
}

#[tokio::test]
async fn what_a_completion_cannot_honour_is_refused_by_name() {
    let mut house = House::start();
    let http = house.http().await;
    for (name, wrong) in [
        ("prompt", json!([])),
        ("prompt", json!({"prompt_string": "a", "multimodal_data": ["x"]})),
        ("n_probs", json!(21)),
        ("post_sampling_probs", json!(true)),
        ("samplers", json!(["top_k"])),
        ("grammar", json!("root ::= (")),
        ("stream_options", json!({"include_usage": true})),
    ] {
        let refused = http.post("/completion", &completion(json!({ name: wrong }))).await;
        assert_eq!((refused.status, refused.json().await["error"]["param"].as_str()), (400, Some(name)), "{wrong}");
    }
}

#[tokio::test]
async fn an_editor_has_a_gap_filled_that_begins_as_it_says() {
    let mut house = House::start();
    let http = filling(&mut house).await;
    let marks = tokens(&http, &MARKS.concat(), true).await;
    let (before, after, begun) = ("fn a() {", "}", " let");
    let plain = async |text: &str| tokens(&http, text, false).await;
    let file = "--- b.rs\nfn b() {}\n";
    let by_hand = [
        &marks[..1],
        &plain(&format!("{file}{before}")).await,
        &marks[1..2],
        &plain(after).await,
        &marks[2..],
        &plain(begun).await,
    ]
    .concat();
    let settings = json!({"model": "filler", "n_predict": 8, "temperature": 0});
    let mut gap = json!({"input_prefix": before, "input_suffix": after, "prompt": begun,
                         "input_extra": [{"filename": "b.rs", "text": "fn b() {}"}]});
    gap.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let filled = ask(&http, "/infill", gap).await;
    let mut expected = json!({ "prompt": by_hand });
    expected.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    assert_eq!(filled["content"], ask(&http, "/completion", expected).await["content"]);
    assert_eq!(filled["tokens_evaluated"], by_hand.len());
    let unable = json!({"model": "impetus-nano", "input_prefix": "a", "input_suffix": "b"});
    assert_eq!(http.post("/infill", &unable).await.status, 400);
}

#[tokio::test]
async fn a_model_is_told_before_anything_is_asked_of_it() {
    let mut house = House::start();
    let http = house.http().await;
    for path in ["/props", "/props?model=impetus-nano"] {
        let props = http.get(path).await.json().await;
        assert_eq!(props["model_alias"], "impetus-nano", "{props}");
        assert!(props["default_generation_settings"]["n_ctx"].as_u64().unwrap() > 1000, "{props}");
        assert!(props["chat_template"].as_str().unwrap().contains("im_start"));
    }
    assert_eq!(http.get("/props?model=nobody").await.status, 404);
}

#[tokio::test]
async fn a_chat_may_be_held_to_a_grammar_or_a_schema_as_llama_server_takes_them() {
    let mut house = House::start();
    let http = house.http().await;
    let chat = |more: Value| {
        let mut body = json!({"model": "impetus-nano", "messages": [{"role": "user", "content": "Hi"}],
                              "n_predict": 40, "cache_prompt": true, "id_slot": -1, "repeat_penalty": 1.1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let said = async |body: Value| {
        let answer = ask(&http, "/v1/chat/completions", body).await;
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        said(chat(json!({"grammar": "root ::= \"a\"{5} more\nmore ::= \"b\" | \"(\" more \")\""}))).await[..5],
        *"aaaaa"
    );
    assert_eq!(said(chat(json!({"json_schema": {"const": "42"}}))).await, "\"42\"");
    let outputs = json!({"grammar": "root ::= \"yes\" | \"no\""});
    assert!(["yes", "no"].contains(&said(chat(json!({ "structured_outputs": outputs }))).await.as_str()));
    let refused = http.post("/v1/chat/completions", &chat(json!({"grammar": "root ::= this is (no grammar"}))).await;
    assert_eq!((refused.status, refused.json().await["error"]["param"].as_str()), (400, Some("grammar")));
}

#[tokio::test]
async fn answers_name_the_build_and_tell_how_long_they_took() {
    let mut house = House::start();
    let http = house.http().await;
    let body = json!({"model": "impetus-nano", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4});
    let whole = ask(&http, "/v1/chat/completions", body.clone()).await;
    assert!(whole["system_fingerprint"].as_str().unwrap().starts_with("build-"), "{whole}");
    assert!(whole["timings"]["predicted_n"] == 4 && whole["timings"]["prompt_per_second"].is_f64());
    let mut streamed = body;
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let text = http.post("/v1/chat/completions", &streamed).await.text().await;
    let chunks: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    assert!(chunks.iter().all(|chunk| chunk["system_fingerprint"] == whole["system_fingerprint"]));
    let timed: Vec<_> = chunks.iter().filter(|chunk| chunk["timings"].is_object()).collect();
    assert!(timed.len() == 1 && timed[0]["choices"] == json!([]), "{text}");
}
