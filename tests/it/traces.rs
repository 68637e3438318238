//! One request seen by a collector: from its client through the bridge and the daemon to the worker, in one trace.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::collector::Collector;
use tests::ctl::run;
use tests::house::{House, Plan};
use tests::hub::Hub;
use tests::wait;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn ask(authority: &str, key: &str, flags: &str, body: &Value) -> String {
    ask_at("/v1/chat/completions", authority, key, flags, body)
}

fn ask_at(path: &str, authority: &str, key: &str, flags: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {key}\r\n\
         traceparent: 00-{TRACE}-{PARENT}-{flags}\r\ntracestate: vendor=opaque\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn chat(stream: bool) -> Value {
    let message = json!({"role": "user", "content": "xyzzy-secret"});
    json!({"model": "impetus-nano", "messages": [message], "max_tokens": 4, "stream": stream})
}

fn attribute(span: &Value, name: &str) -> Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|attribute| attribute["key"] == name).map_or(Value::Null, |attribute| attribute["value"].clone())
}

#[tokio::test]
async fn a_request_is_one_trace_from_its_client_to_the_worker() {
    let collector = Collector::start();
    let environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url.clone())];
    let mut house = House::with(Plan { environment, ..Plan::default() });
    let http = house.http().await;
    let answer = http.raw(&ask(http.authority(), http.key(), "01", &chat(true))).await;
    assert_eq!(answer.status, 200);
    let request = answer.header("x-request-id").unwrap().to_owned();
    answer.text().await;
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    wait::until("all spans are there", || {
        for (service, span) in collector.spans() {
            if span["traceId"] == TRACE {
                found.insert(format!("{service} {}", span["name"].as_str().unwrap()), span);
            }
        }
        found.len() >= 6
    });
    let server = &found["impetus-http POST /v1/chat/completions"];
    assert_eq!((&server["parentSpanId"], &server["kind"]), (&json!(PARENT), &json!(2)));
    assert_eq!(server["traceState"], "vendor=opaque");
    assert_eq!(attribute(server, "http.response.status_code")["intValue"], "200");
    assert_eq!(attribute(server, "impetus.request_id")["stringValue"], request.as_str());
    let model = &found["impetusd chat impetus-nano"];
    assert_eq!(model["parentSpanId"], server["spanId"]);
    assert_eq!(attribute(model, "gen_ai.response.model")["stringValue"], "impetus-nano");
    assert!(attribute(model, "gen_ai.usage.output_tokens")["intValue"].is_string(), "{model}");
    for name in
        ["impetus-worker queue", "impetus-worker prefill", "impetus-worker decode", "impetusd load impetus-nano"]
    {
        assert_eq!(found[name]["parentSpanId"], model["spanId"], "{name}");
    }
    let time = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time(server, "endTimeUnixNano") >= time(model, "endTimeUnixNano"), "a stream ends with its last frame");
    let shape =
        json!({"type": "object", "required": ["xyzzy-secret"], "properties": {}, "additionalProperties": false});
    let mut held = chat(false);
    held["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": shape}});
    let mut odd = chat(false);
    odd["structured_outputs"] = json!({"regex": "xyzzy-secret("});
    let before = collector.spans().len();
    for body in [held, odd] {
        let refused = http.post("/v1/chat/completions", &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text().await.contains("xyzzy-secret"), "its client is told");
    }
    wait::until("both refusals' spans are there", || collector.spans().len() >= before + 4);
    assert!(!collector.bodies().contains("xyzzy-secret"), "no span holds what was said");
    let log = run(&house, &["logs", "-n", "1000"]).out;
    assert!(log.lines().any(|line| line.contains("generation begins") && line.contains(TRACE)), "{log}");
    assert!(log.lines().any(|line| line.contains("is here") && line.contains(TRACE)), "{log}");
    // One that its client does not record is not recorded here either, and still joined in logs.
    let before = collector.spans().len();
    assert_eq!(http.raw(&ask(http.authority(), http.key(), "00", &chat(false))).await.status, 200);
    assert_eq!(http.post("/v1/completions", &json!({"model": "absent", "prompt": "a"})).await.status, 404);
    wait::until("the refusal's span is there", || collector.spans().len() >= before + 2);
    let after: Vec<_> = collector.spans().split_off(before);
    assert!(after.iter().all(|(_, span)| span["traceId"] != TRACE), "{after:?}");
    let refused = after.iter().find(|(service, _)| service == "impetusd").unwrap();
    assert_eq!(attribute(&refused.1, "error.type")["stringValue"], "model_not_found");
    assert_eq!((&refused.1["status"]["code"], &refused.1["name"]), (&json!(2), &json!("text_completion absent")));
}

#[tokio::test]
async fn loads_pulls_and_questions_about_texts_have_spans_of_their_own() {
    let (collector, hub) = (Collector::start(), Hub::start());
    let mut environment = hub.environment();
    environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url.clone()));
    let mut house = House::with(Plan { environment, ..Plan::default() });
    let http = house.http().await;
    for (path, body, name) in [
        ("/api/models/pull", json!({"model": "org/tiny", "stream": false}), "pull org/tiny"),
        ("/api/models/load", json!({"model": "impetus-nano"}), "load impetus-nano"),
        ("/tokenize", json!({"model": "impetus-nano", "content": "xyzzy-secret"}), "tokenize impetus-nano"),
        ("/detokenize", json!({"model": "absent", "tokens": [1]}), "detokenize absent"),
    ] {
        let answer = http.raw(&ask_at(path, http.authority(), http.key(), "01", &body)).await;
        answer.text().await;
        let of = |service: &str, name: &str| {
            let spans = collector.spans().into_iter();
            spans.filter(|(by, span)| by == service && span["name"] == name).map(|(_, span)| span).next()
        };
        let outer = format!("POST {path}");
        wait::until(name, || of("impetusd", name).is_some() && of("impetus-http", &outer).is_some());
        let (span, outer) = (of("impetusd", name).unwrap(), of("impetus-http", &outer).unwrap());
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!(TRACE), &outer["spanId"]), "{span}");
        let failed = if name.ends_with("absent") { json!("model_not_found") } else { Value::Null };
        assert_eq!(attribute(&span, "error.type")["stringValue"], failed, "{span}");
    }
    assert!(!collector.bodies().contains("xyzzy-secret"), "no span holds what was said");
}

#[tokio::test]
async fn without_a_collector_ids_are_still_in_the_logs() {
    let mut house = House::start();
    let http = house.http().await;
    assert_eq!(http.raw(&ask(http.authority(), http.key(), "01", &chat(false))).await.status, 200);
    let log = run(&house, &["logs", "-n", "1000"]).out;
    assert!(log.lines().any(|line| line.contains("generation begins") && line.contains(TRACE)), "{log}");
    assert_eq!(http.post("/v1/chat/completions", &chat(false)).await.status, 200);
}
