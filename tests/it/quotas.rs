//! What a key may use, over HTTP: of a day's tokens, which are bounded whatever is asked at once, and of the places that all keys
//! share. Several prompts are one request.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::house::{House, Plan};
use tests::http::Http;
use tests::wait;

const CHAT: &str = "/v1/chat/completions";

/// Makes a key with such limits; returns its id and a way to speak with it.
async fn key(admin: &Http, limits: Value) -> (String, Http) {
    let mut wish = json!({"label": "app", "role": "user", "inference_per_minute": 0});
    wish.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let made = admin.post("/api/keys", &wish).await.json().await;
    (made["id"].as_str().unwrap().to_owned(), Http::new(admin.authority(), made["secret"].as_str().unwrap()))
}

fn chat(max_tokens: u32) -> Value {
    json!({"model": "impetus-nano", "messages": [{"role": "user", "content": "hi"}], "max_tokens": max_tokens,
           "ignore_eos": true})
}

async fn spent(admin: &Http, id: &str) -> (u64, u64) {
    let card = admin.get(&format!("/api/keys/{id}")).await.json().await;
    let count = |name: &str| card["spent_today"][name].as_u64().unwrap();
    (count("requests"), count("tokens"))
}

#[tokio::test]
async fn a_key_that_asks_for_all_places_leaves_some_to_others_and_to_administrators() {
    let config = "[requests]\nactive_max = 4\n".to_owned();
    let mut house = House::with(Plan { config, ..Plan::default() });
    let admin = house.http().await;
    let mut streams = Vec::new();
    let endless = json!({"model": "impetus-nano", "prompt": "On and on", "max_tokens": 60_000, "ignore_eos": true,
                         "stream": true});
    let mut asks = async |http: &Http| {
        let answer = http.post("/v1/completions", &endless).await;
        let (status, retry) = (answer.status, answer.header("retry-after").map(str::to_owned));
        streams.push(answer);
        (status, retry)
    };
    let ((_, greedy), (_, other)) = (key(&admin, json!({})).await, key(&admin, json!({})).await);
    let (taken, refused) = ((200, None), |status| (status, Some("1".to_owned())));
    for expected in [taken.clone(), taken.clone(), refused(429)] {
        assert_eq!(asks(&greedy).await, expected);
    }
    for expected in [taken.clone(), refused(429)] {
        assert_eq!(asks(&other).await, expected);
    }
    for expected in [taken.clone(), refused(503)] {
        assert_eq!(asks(&admin).await, expected);
    }
}

#[tokio::test]
async fn an_answer_ends_with_its_keys_tokens() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, app) = key(&admin, json!({"tokens_per_day": 100})).await;
    let answer = app.post(CHAT, &chat(5_000)).await.json().await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    assert_eq!((&answer["usage"]["total_tokens"], spent(&admin, &id).await), (&json!(100), (1, 100)));
    let refused = app.post(CHAT, &chat(1)).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    // What begins with more than is left is refused with the figures, and counts for nothing.
    let (id, app) = key(&admin, json!({"tokens_per_day": 10})).await;
    let refused = app.post(CHAT, &chat(1)).await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
    assert!(refused.text().await.contains("10 tokens left"));
    let texts: Vec<&str> = vec!["a few words of text"; 10];
    let embed = json!({"model": "impetus-nano-embed", "input": texts});
    assert_eq!(app.post("/v1/embeddings", &embed).await.status, 429);
    assert_eq!(spent(&admin, &id).await, (0, 0));
    let embed = json!({"model": "impetus-nano-embed", "input": "a"});
    let tokens = app.post("/v1/embeddings", &embed).await.json().await["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(spent(&admin, &id).await, (1, tokens));
}

#[tokio::test]
async fn requests_at_once_share_what_their_key_has_left() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, app) = key(&admin, json!({"tokens_per_day": 1_000})).await;
    let body = chat(300);
    let statuses = join_all((0..8).map(|_| async { app.post(CHAT, &body).await.status })).await;
    let answered = statuses.iter().filter(|status| **status == 200).count() as u64;
    assert!(answered >= 3 && statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let (requests, tokens) = spent(&admin, &id).await;
    assert!(requests == answered && tokens <= 1_000, "{requests} {tokens} {statuses:?}");
    // What a client that hangs up has not used is free again.
    let (id, app) = key(&admin, json!({"tokens_per_day": 1_500})).await;
    let mut long = chat(1_400);
    long["stream"] = json!(true);
    let mut stream = app.post(CHAT, &long).await;
    stream.frame().await;
    drop(stream);
    wait::for_some("the end of the first", || async { (spent(&admin, &id).await.1 > 0).then_some(()) }).await;
    assert_eq!(app.post(CHAT, &chat(10)).await.status, 200);
}

#[tokio::test]
async fn several_prompts_are_one_request_of_the_day() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, app) = key(&admin, json!({"requests_per_day": 2, "tokens_per_day": 2_000})).await;
    let prompts: Vec<&str> = vec!["Impetus is"; 10];
    let body = json!({"model": "impetus-nano", "prompt": prompts, "max_tokens": 2});
    for _ in 0..2 {
        assert_eq!(app.post("/v1/completions", &body).await.status, 200);
    }
    assert_eq!(spent(&admin, &id).await.0, 2);
    assert_eq!(app.post("/v1/completions", &body).await.status, 429);
}

#[tokio::test]
async fn several_prompts_that_their_key_has_no_tokens_for_are_refused_before_any_is_spent() {
    let mut house = House::start();
    let admin = house.http().await;
    let (id, app) = key(&admin, json!({"tokens_per_day": 100})).await;
    let mut body = json!({"model": "impetus-nano", "prompt": ["a", "b", "c"], "best_of": 4, "max_tokens": 50});
    let refused = app.post("/v1/completions", &body).await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
    assert!(refused.text().await.contains("100 tokens of today left"));
    assert_eq!(spent(&admin, &id).await, (0, 0));
    body["best_of"] = json!(1);
    body["max_tokens"] = json!(5);
    assert_eq!(app.post("/v1/completions", &body).await.status, 200, "nothing is spent later either");
    assert_eq!(spent(&admin, &id).await.0, 1);
}
