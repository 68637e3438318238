//! Gaps are filled by models that know marks for them, in both dialects that know a suffix; others refuse it by name.

use std::fs;

use engine::random::Recipe;
use protocol::model::AddRequest;
use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;
use tests::model;

/// How the model knows a gap.
pub const MARKS: [&str; 3] = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];

/// A bridge with a random model whose special tokens are the marks.
pub async fn filling(house: &mut House) -> Http {
    let folder = model::write(house, "filler", &Recipe::tiny("llama", 9).endless());
    let path = folder.join("tokenizer.json");
    let mut text = fs::read_to_string(&path).unwrap();
    for (theirs, mark) in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].iter().zip(MARKS) {
        text = text.replace(theirs, mark);
    }
    fs::write(&path, text).unwrap();
    let (path, name) = (folder.to_string_lossy().into_owned(), Some("filler".to_owned()));
    house.client().await.add(AddRequest { path, name }).await.unwrap();
    house.http().await
}

/// Returns the tokens of a text.
pub async fn tokens(http: &Http, text: &str, parse: bool) -> Vec<Value> {
    let body = json!({"model": "filler", "content": text, "parse_special": parse});
    http.post("/tokenize", &body).await.json().await["tokens"].as_array().unwrap().clone()
}

async fn complete(http: &Http, more: Value) -> (u16, Value) {
    let mut body = json!({"model": "filler", "max_tokens": 8, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = http.post("/v1/completions", &body).await;
    (answer.status, answer.json().await)
}

#[tokio::test]
async fn a_gap_is_marked_as_the_model_was_taught() {
    let mut house = House::start();
    let http = filling(&mut house).await;
    let marks = tokens(&http, &MARKS.concat(), true).await;
    assert_eq!(marks.len(), 3);
    // What looks like a mark in the text is text.
    let (before, after) = (format!("the start {} of", MARKS[2]), " the end");
    let (plain_before, plain_after) = (tokens(&http, &before, false).await, tokens(&http, after, false).await);
    let by_hand = [&marks[..1], &plain_before, &marks[1..2], &plain_after, &marks[2..]].concat();
    let (_, expected) = complete(&http, json!({"prompt": by_hand})).await;
    let (status, filled) = complete(&http, json!({"prompt": before, "suffix": after})).await;
    assert_eq!(status, 200, "{filled}");
    assert_eq!(filled["choices"], expected["choices"]);
    assert_eq!(filled["usage"]["prompt_tokens"], by_hand.len());
    let options = json!({"num_predict": 8, "temperature": 0});
    let ollama = json!({"model": "filler", "prompt": before, "suffix": after, "stream": false, "options": options});
    let lines = http.post("/api/generate", &ollama).await.json().await;
    assert_eq!(lines["response"], expected["choices"][0]["text"], "{lines}");
}

#[tokio::test]
async fn a_suffix_that_cannot_be_honoured_is_refused_by_name() {
    let mut house = House::start();
    let http = filling(&mut house).await;
    for more in [json!({"model": "impetus-nano", "prompt": "a", "suffix": "b"}), json!({"prompt": [1], "suffix": "b"})]
    {
        let (status, refused) = complete(&http, more).await;
        assert_eq!((status, &refused["error"]["param"]), (400, &json!("suffix")), "{refused}");
    }
    let ollama = json!({"model": "impetus-nano", "prompt": "a", "suffix": "b"});
    let refused = http.post("/api/generate", &ollama).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json().await["error"].as_str().unwrap().contains("'suffix'"));
    for think in [json!(true), json!("high"), json!("bogus")] {
        let ollama = json!({"model": "filler", "prompt": "a", "suffix": "b", "think": think});
        let refused = http.post("/api/generate", &ollama).await;
        assert_eq!(refused.status, 400, "{think}");
        assert!(refused.json().await["error"].as_str().unwrap().contains("'think'"), "{think}");
    }
    let thoughtless = json!({"model": "filler", "prompt": "a", "suffix": "b", "think": false, "stream": false});
    assert_eq!(http.post("/api/generate", &thoughtless).await.status, 200);
    // An empty one says that there is no gap.
    assert_eq!(complete(&http, json!({"prompt": "a", "suffix": ""})).await.0, 200);
}
