//! Text and its tokens through real sockets: what is counted is what an answer is charged for.

use engine::random::Recipe;
use serde_json::{Value, json};
use tests::house::House;
use tests::model;

fn messages(text: &str) -> Value {
    json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": text }])
}

#[tokio::test]
async fn a_count_is_what_an_answer_reports() {
    let mut house = House::start();
    let http = house.http().await;
    let talk = json!({"model": "impetus-nano", "messages": messages("What is Impetus? 🌦"), "max_tokens": 1});
    let used = http.post("/v1/chat/completions", &talk).await.json().await;
    let used = used["usage"]["prompt_tokens"].as_u64().unwrap();

    let asked = json!({"messages": messages("What is Impetus? 🌦")});
    let tokens = http.post("/tokenize", &asked).await.json().await;
    assert_eq!((tokens["count"].as_u64(), tokens["tokens"].as_array().unwrap().len() as u64), (Some(used), used));
    let prompt = http.post("/v1/apply-template", &asked).await.json().await["prompt"].clone();
    let again = http.post("/v1/tokenize", &json!({"content": prompt})).await.json().await;
    assert_eq!(again["tokens"], tokens["tokens"]);
    let text = http.post("/detokenize", &json!({"tokens": tokens["tokens"]})).await.json().await;
    assert_eq!(text["content"], prompt);

    let counted = json!({
        "model": "impetus-nano",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "What is Impetus? 🌦"}],
    });
    let counted = http.post("/v1/messages/count_tokens", &counted).await;
    assert!(counted.header("request-id").is_some());
    assert_eq!(counted.json().await, json!({"input_tokens": used}));
}

#[tokio::test]
async fn pieces_spell_the_text_and_half_characters_are_bytes() {
    let mut house = House::start();
    let http = house.http().await;
    let pieces = http.post("/tokenize", &json!({"content": "Grüße 🌦", "with_pieces": true})).await.json().await;
    let bytes = |token: &Value| match &token["piece"] {
        Value::String(text) => text.clone().into_bytes(),
        bytes => serde_json::from_value(bytes.clone()).unwrap(),
    };
    let spelled: Vec<u8> = pieces["tokens"].as_array().unwrap().iter().flat_map(bytes).collect();
    assert_eq!(String::from_utf8(spelled).unwrap(), "Grüße 🌦");
}

#[tokio::test]
async fn models_that_read_whole_texts_tell_tokens_too_but_have_no_prompts() {
    let mut house = House::start();
    let client = house.client().await;
    let recipe = Recipe::tiny_encoder("bert", 6).set("architectures", vec!["BertForSequenceClassification"]);
    model::add(&house, &client, "ranks", &recipe).await;
    let http = house.http().await;
    for name in ["impetus-nano-embed", "ranks"] {
        let ask = async |path: &str, more: Value| {
            let mut body = json!({ "model": name });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            http.post(path, &body).await
        };
        let plain = ask("/tokenize", json!({"content": "one two", "with_pieces": true})).await.json().await;
        assert!(plain["count"].as_u64().unwrap() > 0 && plain["tokens"][0]["piece"].is_string(), "{plain}");
        let whole = ask("/tokenize", json!({"prompt": "one two"})).await.json().await;
        assert!(whole["max_model_len"].is_u64(), "{whole}");
        let around = whole["count"].as_u64().unwrap() - plain["count"].as_u64().unwrap();
        assert_eq!(around, if name == "ranks" { 2 } else { 0 }, "what stands around a text counts: {whole}");
        let spelled = ask("/detokenize", json!({"tokens": whole["tokens"]})).await.json().await;
        assert!(spelled["content"].as_str().unwrap().contains("one"), "{spelled}");
        let refused = ask("/tokenize", json!({"messages": messages("Hi")})).await;
        assert_eq!((refused.status, refused.json().await["error"]["param"].as_str()), (400, Some("model")));
    }
    let used = json!({"model": "impetus-nano-embed", "input": "one two"});
    let used = http.post("/v1/embeddings", &used).await.json().await;
    let counted =
        http.post("/tokenize", &json!({"model": "impetus-nano-embed", "prompt": "one two"})).await.json().await;
    assert_eq!(used["usage"]["prompt_tokens"], counted["count"]);
}

#[tokio::test]
async fn questions_that_cannot_be_answered_name_what_is_wrong() {
    let mut house = House::start();
    let http = house.http().await;
    let cases = [
        ("/tokenize", json!({}), 400, "content"),
        ("/tokenize", json!({"content": "a", "messages": []}), 400, "content"),
        ("/tokenize", json!({"content": "a", "model": "nobody"}), 404, "model"),
        ("/tokenize", json!({"content": "a", "add_special": true, "parse_special": false}), 400, "parse_special"),
        ("/detokenize", json!({"tokens": [4_000_000_000_u32]}), 400, "tokens"),
        ("/detokenize", json!({"tokens": "a"}), 400, "tokens"),
        ("/apply-template", json!({"messages": []}), 400, "messages"),
        ("/apply-template", json!({"messages": [], "add_generation_prompt": "no"}), 400, "add_generation_prompt"),
    ];
    for (path, body, status, param) in cases {
        let answer = http.post(path, &body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert_eq!(answer.json().await["error"]["param"], param, "{path} {body}");
    }
    let refused = http.post("/v1/messages/count_tokens", &json!({"model": "impetus-nano", "messages": []})).await;
    assert_eq!((refused.status, &refused.json().await["type"]), (400, &json!("error")));
}

#[tokio::test]
async fn what_clients_of_vllm_ask_is_answered_in_its_words() {
    let mut house = House::start();
    let http = house.http().await;
    let tokens = |more: Value| {
        let http = &http;
        async move { http.post("/tokenize", &more).await.json().await }
    };
    let plain = tokens(json!({"content": "Impetus is"})).await;
    let asked = tokens(json!({"model": "impetus-nano", "prompt": "Impetus is", "add_special_tokens": false})).await;
    assert_eq!((&asked["tokens"], &asked["count"]), (&plain["tokens"], &plain["count"]));
    let models = http.get("/v1/models/impetus-nano").await.json().await;
    assert_eq!(asked["max_model_len"], models["max_model_len"]);
    let spelled = http.post("/detokenize", &json!({"tokens": plain["tokens"]})).await.json().await;
    assert_eq!((&spelled["prompt"], &spelled["content"]), (&json!("Impetus is"), &json!("Impetus is")));
}
