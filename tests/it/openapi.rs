//! The OpenAPI document beside the bridge it describes: every endpoint is there, asks for a key where the document says
//! so, and takes the document's own examples.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::house::House;
use tests::http::Http;
use tests::programs::root;

/// Every operation of the document: method, path and what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_ascii_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

async fn document(http: &Http) -> Value {
    let request = format!("GET /openapi.json HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", http.authority());
    let answer = http.raw(&request).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json().await
}

/// Fills the parameters in a path.
fn filled(path: &str) -> String {
    path.split(['{', '}']).enumerate().map(|(at, part)| if at % 2 == 1 { "x" } else { part }).collect()
}

#[tokio::test]
async fn every_endpoint_of_the_document_is_there_and_asks_for_a_key_where_it_says_so() {
    let mut house = House::start();
    let http = house.http().await;
    let document = document(&http).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let operations = operations(&document);
    assert!(operations.len() > 40, "{}", operations.len());
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations {
        let request = format!("{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close", filled(&path), http.authority());
        let keyless = http.raw(&format!("{request}\r\n\r\n")).await.status;
        let open = operation["security"] == serde_json::json!([]);
        assert_eq!(keyless == 401, !open, "{method} {path}: {keyless}");
        assert!(![404, 405].contains(&keyless), "{method} {path}: {keyless}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{path}");
        let told = operation["summary"].is_string() && operation["tags"][0].is_string();
        assert!(told && operation["responses"]["4XX"].is_object(), "{method} {path}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let named = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(named, path.matches('{').count(), "{path}");
    }
    let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (_, path, operation) in self::operations(&document) {
        assert!(tags.contains(&&operation["tags"][0]), "{path} has a tag that is not described");
    }
}

#[tokio::test]
async fn the_examples_of_the_document_are_taken() {
    // A hub, a downloaded model, a reranker, a model that fills gaps, an uploaded file, a stored answer or the key of the
    // example is not here.
    const ELSEWHERE: &[&str] = &[
        "/api/pull",
        "/api/models/pull",
        "/api/delete",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/infill",
        "/v1/batches",
        "/v1/chat/completions/{id}",
        "/api/sessions/{id}",
        "/api/keys/{id}/rotate",
        "/api/auth/login",
    ];
    let mut house = House::start();
    let http = house.http().await;
    let document = document(&http).await;
    let mut tried = 0;
    for (method, path, operation) in operations(&document) {
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        if example.is_null() || ELSEWHERE.contains(&path.as_str()) {
            continue;
        }
        let answer = http.send(&method, &filled(&path), example).await;
        let status = answer.status.to_string();
        let body = answer.text().await;
        assert!(operation["responses"].get(&status).is_some() && status.starts_with('2'), "{path}: {status} {body}");
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let mut house = House::start();
    let http = house.http().await;
    let document = document(&http).await;
    let mut references = BTreeSet::new();
    gather(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn counts_that_may_be_minus_one_are_documented_so() {
    let mut house = House::start();
    let document = document(&house.http().await).await;
    for (schema, member) in [
        ("ChatRequest", "max_tokens"),
        ("ChatRequest", "max_completion_tokens"),
        ("ChatRequest", "top_k"),
        ("CompletionRequest", "max_tokens"),
        ("ResponseRequest", "max_output_tokens"),
    ] {
        let least = &document["components"]["schemas"][schema]["properties"][member]["minimum"];
        assert_eq!(least.as_f64(), Some(-1.0), "{schema}.{member}: {least}");
    }
}

fn gather(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| gather(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| gather(value, references)),
        _ => {}
    }
}

#[tokio::test]
async fn the_explorer_needs_no_other_machine() {
    let mut house = House::start();
    let http = house.http().await;
    for (path, kind) in [("/docs", "text/html"), ("/docs/page.js", "text/javascript"), ("/docs/page.css", "text/css")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", http.authority());
        let answer = http.raw(&request).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{path}");
        let policy = answer.header("content-security-policy").unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let text = answer.text().await;
        assert!(!text.contains("http://") && !text.contains("https://"), "{path} names another machine");
        assert!(!text.contains("innerHTML"), "{path} makes markup of text");
    }
}

#[test]
fn the_router_has_no_way_in_beside_the_table_of_endpoints() {
    let folder = root().join("clients/http/src");
    let mut files = vec![folder];
    let mut offences = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("src/openapi.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("mod tests {").next().unwrap();
            if product.contains(".route(") && !path.ends_with("tests.rs") {
                offences.push(path);
            }
        }
    }
    assert!(offences.is_empty(), "routes that the document does not know: {offences:?}");
}
