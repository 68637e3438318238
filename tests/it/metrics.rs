//! What a scraper of metrics finds.

use serde_json::{Value, json};
use tests::house::House;
use tests::http::Http;
use tests::{process, wait};

async fn key(admin: &Http, wish: Value) -> (String, Http) {
    let key = admin.post("/api/keys", &wish).await.json().await;
    (key["id"].as_str().unwrap().to_owned(), Http::new(admin.authority(), key["secret"].as_str().unwrap()))
}

/// Returns the value of the series whose line begins so.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn a_readonly_key_scrapes_what_was_asked_by_model_and_key() {
    let mut house = House::start();
    let http = house.http().await;
    let (id, user) = key(&http, json!({"label": "app", "role": "user"})).await;
    let (_, scraper) = key(&http, json!({"label": "prometheus", "role": "readonly", "reads_per_minute": 0})).await;
    let (_, other) = key(&http, json!({"label": "other", "role": "user", "models": ["impetus-nano-embed"]})).await;
    let prompt = json!({"model": "impetus-nano", "prompt": "Once", "max_tokens": 5, "ignore_eos": true});
    assert_eq!(user.post("/v1/completions", &prompt).await.status, 200);
    assert_eq!(user.post("/v1/completions", &json!({"model": "absent", "prompt": "Once"})).await.status, 404);
    assert_eq!(http.post("/v1/embeddings", &json!({"model": "impetus-nano-embed", "input": "a"})).await.status, 200);
    let text = wait::for_some("the worker's pulse", || async {
        let answer = scraper.get("/api/metrics").await;
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = answer.text().await;
        (value(&text, "impetus_time_to_first_token_seconds_count{model=\"impetus-nano\"}") == Some(1.0)).then_some(text)
    })
    .await;
    let by = format!("model=\"impetus-nano\",key=\"{id}\"");
    assert_eq!(value(&text, &format!("impetus_tokens_generated_total{{{by}}}")), Some(5.0), "{text}");
    assert_eq!(value(&text, &format!("impetus_requests_total{{verb=\"generate\",{by},status=\"ok\"}}")), Some(1.0));
    let absent = format!("impetus_requests_total{{verb=\"generate\",key=\"{id}\",status=\"model_not_found\"}}");
    assert_eq!(value(&text, &absent), Some(1.0), "a name that is no model's is no label: {text}");
    let timed = format!("impetus_inference_duration_seconds_count{{{by}}}");
    let admins = text.lines().find(|line| line.starts_with("impetus_embedding_duration_seconds_count{")).unwrap();
    assert!(admins.contains("model=\"impetus-nano-embed\",key=\"key_") && admins.ends_with(" 1"), "{admins}");
    for (series, least) in [
        (timed.as_str(), 1.0),
        ("impetus_rag_search_duration_seconds_count", 0.0),
        ("impetus_model_memory_bytes{model=\"impetus-nano\"}", 1e6),
        ("impetus_model_loaded{model=\"impetus-nano\"}", 1.0),
        ("impetus_steps_total{model=\"impetus-nano\"}", 1.0),
        ("impetus_queue_duration_seconds_bucket{model=\"impetus-nano\",le=\"+Inf\"}", 1.0),
        ("impetus_memory_budget_bytes", 1e6),
    ] {
        assert!(value(&text, series).is_some_and(|value| value >= least), "{series} in {text}");
    }
    assert!(text.contains("# TYPE impetus_rag_search_duration_seconds histogram"));
    assert!(text.contains("impetus_active_connections 0\n"));
    let seen = other.get("/api/metrics").await.text().await;
    assert!(seen.contains("impetus-nano-embed") && !seen.contains("\"impetus-nano\""), "{seen}");
    let open = Http::new(http.authority(), "");
    assert_eq!(open.get("/api/metrics").await.status, 401);
}

#[tokio::test]
async fn counts_outlive_the_worker_that_made_them() {
    let mut house = House::start();
    let http = house.http().await;
    let prompt = json!({"model": "impetus-nano", "prompt": "Once", "max_tokens": 3, "ignore_eos": true});
    let scrape = || async { http.get("/api/metrics").await.text().await };
    let tokens = "impetus_worker_tokens_total{model=\"impetus-nano\"}";
    assert_eq!(http.post("/v1/completions", &prompt).await.status, 200);
    wait::for_some("three tokens", || async { (value(&scrape().await, tokens) == Some(3.0)).then_some(()) }).await;
    let worker = http.get("/api/models/impetus-nano").await.json().await["loaded"]["pid"].as_u64().unwrap();
    process::kill(worker as u32);
    let deaths = "impetus_worker_deaths_total{model=\"impetus-nano\"}";
    wait::for_some("its death", || async { (value(&scrape().await, deaths) == Some(1.0)).then_some(()) }).await;
    assert_eq!(http.post("/v1/completions", &prompt).await.status, 200);
    wait::for_some("six tokens", || async { (value(&scrape().await, tokens) == Some(6.0)).then_some(()) }).await;
}
