//! Prompts that come back with the log-probabilities of their tokens, as those who score texts ask for them.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;

async fn complete(http: &Http, more: Value) -> Value {
    let mut body = json!({"model": "impetus-nano", "temperature": 0, "logprobs": 1, "echo": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = http.post("/v1/completions", &body).await;
    let (status, body) = (answer.status, answer.json().await);
    assert_eq!(status, 200, "{body}");
    body
}

fn list<'a>(choice: &'a Value, name: &str) -> &'a Vec<Value> {
    choice["logprobs"][name].as_array().unwrap()
}

#[tokio::test]
async fn a_prompts_tokens_are_as_likely_as_they_are_after_what_comes_before_them() {
    let mut house = House::start();
    let http = house.http().await;
    let content = json!({"content": "Impetus is a private service that every program can use."});
    let tokens = http.post("/tokenize", &content).await.json().await["tokens"].as_array().unwrap().clone();
    let short = &tokens[..3];
    // What lm-evaluation-harness sends.
    let both = complete(&http, json!({"prompt": [tokens, short], "max_tokens": 1, "seed": 1234})).await;
    let (whole, part) = (&both["choices"][0], &both["choices"][1]);
    for (choice, count) in [(whole, tokens.len()), (part, short.len())] {
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(list(choice, name).len(), count + 1, "{name}: the prompt's and one of the answer");
        }
        let nothing = (&choice["logprobs"]["token_logprobs"][0], &choice["logprobs"]["top_logprobs"][0]);
        assert_eq!(nothing, (&Value::Null, &Value::Null), "nothing comes before the first");
        let text = choice["text"].as_str().unwrap();
        for (token, offset) in list(choice, "tokens").iter().zip(list(choice, "text_offset")) {
            let rest: String = text.chars().skip(offset.as_u64().unwrap() as usize).collect();
            assert!(rest.starts_with(token.as_str().unwrap()), "{token} at {offset} of {text:?}");
        }
    }
    let drawn = list(whole, "top_logprobs")[tokens.len()].as_object().unwrap();
    assert!(drawn.values().eq([&list(whole, "token_logprobs")[tokens.len()]]), "the likeliest, to the last digit");
    assert_eq!(list(whole, "token_logprobs")[..3], list(part, "token_logprobs")[..3]);
    for (count, judged) in list(whole, "top_logprobs").iter().enumerate().skip(1) {
        let plain = json!({"prompt": tokens[..count], "max_tokens": 1, "echo": false});
        let drawn = complete(&http, plain).await;
        let likeliest = drawn["choices"][0]["logprobs"]["top_logprobs"][0].as_object().unwrap();
        let own = (&list(whole, "tokens")[count], &list(whole, "token_logprobs")[count]);
        assert!(likeliest.iter().all(|(token, logprob)| judged[token] == *logprob), "after {count} tokens");
        assert_eq!(judged[own.0.as_str().unwrap()], *own.1, "its own token is told too, after {count} tokens");
    }
}

#[tokio::test]
async fn a_prompt_alone_comes_back_as_it_was_sent() {
    let mut house = House::start();
    let http = house.http().await;
    let prompt = "Impetus — a house\n";
    let alone = complete(&http, json!({"prompt": prompt, "max_tokens": 0})).await;
    let choice = &alone["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(prompt), &json!("length")));
    let counts = |body: &Value| (body["usage"]["prompt_tokens"].clone(), body["usage"]["completion_tokens"].clone());
    assert_eq!(counts(&alone), (json!(list(choice, "tokens").len()), json!(0)));
    let more = complete(&http, json!({"prompt": prompt, "max_tokens": 4})).await;
    let answered = &more["choices"][0];
    assert!(answered["text"].as_str().unwrap().starts_with(prompt), "{more}");
    let said = list(choice, "tokens").len();
    assert_eq!(list(answered, "token_logprobs")[..said], *list(choice, "token_logprobs"));
    assert_eq!(list(answered, "text_offset")[said], json!(prompt.chars().count()), "the answer begins after it");
    let refused = json!({"model": "impetus-nano", "prompt": prompt, "max_tokens": 0});
    let refused = http.post("/v1/completions", &refused).await;
    assert_eq!((refused.status, &refused.json().await["error"]["param"]), (400, &json!("max_tokens")));
}

#[tokio::test]
async fn a_judged_prompt_comes_before_each_of_its_choices_and_the_same_in_a_stream() {
    let mut house = House::start();
    let http = house.http().await;
    let more = json!({"prompt": ["Impetus — a house", "It is"], "max_tokens": 3, "n": 2, "temperature": 1, "seed": 7});
    let whole = complete(&http, more.clone()).await;
    let mut body = json!({"model": "impetus-nano", "logprobs": 1, "echo": true, "stream": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let chunks = http.post("/v1/completions", &body).await.events().await;
    let (mut texts, mut entries) = ([const { String::new() }; 4], [const { Vec::new() }; 4]);
    for chunk in chunks.iter().filter(|chunk| *chunk != "[DONE]") {
        let choice = &serde_json::from_str::<Value>(chunk).unwrap()["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        texts[index].push_str(choice["text"].as_str().unwrap());
        if choice["logprobs"].is_object() {
            let rows =
                list(choice, "tokens").iter().zip(list(choice, "token_logprobs")).zip(list(choice, "text_offset"));
            entries[index].extend(rows.map(|((token, logprob), offset)| json!([token, logprob, offset])));
        }
    }
    for index in 0..4 {
        let choice = &whole["choices"][index];
        assert_eq!(choice["text"], texts[index], "choice {index}");
        assert!(texts[index].starts_with(if index < 2 { "Impetus — a house" } else { "It is" }));
        let rows = list(choice, "tokens").iter().zip(list(choice, "token_logprobs")).zip(list(choice, "text_offset"));
        let rows: Vec<Value> = rows.map(|((token, logprob), offset)| json!([token, logprob, offset])).collect();
        assert_eq!(entries[index], rows, "choice {index}");
        assert_eq!(rows[0][1], Value::Null, "nothing comes before the first");
    }
}

#[tokio::test]
async fn a_prompt_of_token_ids_is_echoed_as_what_it_spells() {
    let mut house = House::start();
    let http = house.http().await;
    let tokens = http.post("/tokenize", &json!({"content": "Grüße 🌦"})).await.json().await["tokens"].clone();
    let plain = complete(&http, json!({"prompt": tokens, "max_tokens": 2, "logprobs": null})).await;
    assert!(plain["choices"][0]["text"].as_str().unwrap().starts_with("Grüße 🌦"), "{plain}");
    assert_eq!(plain["choices"][0]["logprobs"], Value::Null);
}
