//! Answers that go on with what was begun: in every dialect, an answer goes on as if the model had said its beginning.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// The question, and the beginning of an answer if there is one.
fn talk(begun: Option<&str>) -> Value {
    let mut messages = vec![json!({"role": "user", "content": "What is Impetus?"})];
    messages.extend(begun.map(|begun| json!({"role": "assistant", "content": begun})));
    json!(messages)
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn chat(begun: Option<&str>, more: Value) -> Value {
    with(json!({"model": "impetus-nano", "messages": talk(begun), "temperature": 0, "max_tokens": 80}), more)
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// Cuts the model's own answer after some words.
async fn cut(http: &Http) -> (String, String) {
    let answer = http.post(CHAT, &chat(None, json!({}))).await.json().await;
    let whole = content(&answer);
    let at = whole.match_indices(' ').nth(2).expect("it has some words").0;
    (whole[..at].to_owned(), whole[at..].to_owned())
}

#[tokio::test]
async fn every_dialect_goes_on_with_a_begun_answer_and_says_only_the_rest() {
    let mut house = House::start();
    let http = house.http().await;
    let (begun, rest) = cut(&http).await;
    let on = json!({"continue_final_message": true, "add_generation_prompt": false});
    let answer = http.post(CHAT, &chat(Some(&begun), on.clone())).await.json().await;
    assert_eq!(content(&answer), rest);
    let chunks = http.post(CHAT, &chat(Some(&begun), with(on.clone(), json!({"stream": true})))).await.events().await;
    let said = |chunk: &String| serde_json::from_str::<Value>(chunk).unwrap_or_default();
    let said: String =
        chunks.iter().filter_map(|it| said(it)["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!(said, rest);
    let echoed = with(on.clone(), json!({"echo": true}));
    let answer = http.post(CHAT, &chat(Some(&begun), echoed)).await.json().await;
    assert_eq!(content(&answer), format!("{begun}{rest}"));
    let mut marked = chat(Some(&begun), json!({}));
    marked["messages"][1]["prefix"] = json!(true);
    assert_eq!(content(&http.post(CHAT, &marked).await.json().await), rest);
    // Whoever does not say so asks for another turn.
    assert_ne!(content(&http.post(CHAT, &chat(Some(&begun), json!({}))).await.json().await), rest);

    let answer = http.post(MESSAGES, &chat(Some(&begun), json!({}))).await.json().await;
    assert_eq!(answer["content"], json!([{"type": "text", "text": rest}]));
    let asked = json!({"model": "impetus-nano", "messages": talk(Some(&begun)), "options": {"temperature": 0}, "stream": false});
    assert_eq!(http.post("/api/chat", &asked).await.json().await["message"]["content"], rest);
}

#[tokio::test]
async fn a_begun_answer_is_counted_rendered_stopped_and_held_to_a_shape_from_where_it_goes_on() {
    let mut house = House::start();
    let http = house.http().await;
    let (begun, rest) = cut(&http).await;
    let count = json!({"model": "impetus-nano", "messages": talk(Some(&begun))});
    let counted = http.post("/v1/messages/count_tokens", &count).await.json().await;
    let answer = http.post(MESSAGES, &chat(Some(&begun), json!({}))).await.json().await;
    let read = |name: &str| answer["usage"][name].as_u64().unwrap();
    assert_eq!(counted["input_tokens"], read("input_tokens") + read("cache_read_input_tokens"));
    let on = json!({"continue_final_message": true});
    let rendered = http.post("/apply-template", &with(count, on.clone())).await.json().await;
    let prompt = rendered["prompt"].as_str().unwrap();
    assert!(prompt.ends_with(&format!("assistant\n{begun}")), "{prompt}");
    let closed = json!({"messages": talk(Some(&begun)), "add_generation_prompt": false});
    let closed = http.post("/apply-template", &closed).await.json().await;
    assert!(closed["prompt"].as_str().unwrap().ends_with(&format!("{begun}<|im_end|>\n")), "{closed}");
    let stop = rest.split_whitespace().nth(1).unwrap();
    let stopped = http.post(CHAT, &chat(Some(&begun), with(on.clone(), json!({"stop": stop})))).await.json().await;
    assert_eq!(content(&stopped), rest.split(stop).next().unwrap());
    // What was begun is no part of the answer, so it neither stops it nor breaks its shape.
    let stop = begun.split_whitespace().next().unwrap();
    let stopped = http.post(CHAT, &chat(Some(&begun), with(on.clone(), json!({"stop": stop})))).await.json().await;
    assert!(rest.starts_with(content(&stopped)) && !content(&stopped).is_empty(), "{stopped}");
    let shape = with(on, json!({"response_format": {"type": "json_object"}, "max_tokens": 200}));
    let held = http.post(CHAT, &chat(Some(&begun), shape)).await.json().await;
    assert!(content(&held).starts_with('{'), "{held}");
}

#[tokio::test]
async fn a_session_keeps_a_begun_answer_and_its_rest_as_one_message() {
    let mut house = House::start();
    let http = house.http().await;
    let (begun, rest) = cut(&http).await;
    let on = json!({"continue_final_message": true, "session_id": "talk"});
    http.post(CHAT, &chat(Some(&begun), on.clone())).await.json().await;
    let kept = http.get("/api/sessions/talk").await.json().await;
    let kept: Vec<_> = kept["messages"].as_array().unwrap().iter().map(|message| &message["content"]).collect();
    assert_eq!(kept, [&json!("What is Impetus?"), &json!(format!("{begun}{rest}"))]);
    let nothing =
        json!({"model": "impetus-nano", "messages": [], "session_id": "talk", "continue_final_message": true});
    assert_eq!(http.post(CHAT, &nothing).await.status, 400);
}

#[tokio::test]
async fn what_cannot_be_continued_is_refused_by_name() {
    let mut house = House::start();
    let http = house.http().await;
    let on = json!({"continue_final_message": true});
    let opened = json!({"continue_final_message": true, "add_generation_prompt": true});
    let called = json!([{"role": "assistant", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]}]);
    let earlier = json!([{"role": "assistant", "content": "a", "prefix": true}, {"role": "user", "content": "b"}]);
    let format = json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}});
    for (path, body, param) in [
        (CHAT, chat(None, on.clone()), "messages"),
        (CHAT, chat(Some("It"), opened), "add_generation_prompt"),
        (CHAT, chat(None, with(on, json!({"messages": called}))), "messages"),
        (CHAT, chat(None, json!({"messages": earlier})), "messages[0].prefix"),
        (CHAT, chat(Some("It"), json!({"echo": true})), "echo"),
        (MESSAGES, chat(Some("It is "), json!({})), "trailing whitespace"),
        (MESSAGES, chat(Some("It"), format), "output_config.format"),
    ] {
        let answer = http.post(path, &body).await;
        assert_eq!(answer.status, 400, "{body}");
        let refusal = answer.json().await;
        let error = &refusal["error"];
        let named = error["param"] == param || error["message"].as_str().unwrap().contains(param);
        assert!(named, "{body}: {refusal}");
    }
    // An empty beginning is none.
    let fresh = http.post(MESSAGES, &chat(None, json!({}))).await.json().await;
    assert_eq!(http.post(MESSAGES, &chat(Some(""), json!({}))).await.json().await["content"], fresh["content"]);
}
