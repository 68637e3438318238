//! What becomes of spans: their words, their times, a collector that is slow, refuses or is not there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use protocol::generation::{Timing, Usage};
use serde_json::Value as Json;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that answers each request with the next of `statuses`, and then with 200.
fn collector(statuses: &[u16]) -> (String, Receiver<(String, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, received) = channel();
    let statuses = statuses.to_vec();
    let mut next = statuses.into_iter();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let status = next.next().unwrap_or(200);
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send((head, serde_json::from_slice(&body).unwrap())).is_err() {
                return;
            }
        }
    });
    (endpoint, received)
}

fn traces(endpoint: &str) -> Traces {
    let setting = format!("traces.endpoint={endpoint}");
    let settings = vec![setting, "traces.headers=x-token=secret".to_owned()];
    let config = config::Config::parse(&config::Sources { settings, ..Default::default() }).unwrap();
    Traces::start(&config.traces)
}

fn facts<'a>(finished: Option<&'a Finished>, failed: Option<&'a str>) -> Facts<'a> {
    Facts {
        operation: "chat",
        asked: vec![("gen_ai.request.max_tokens".to_owned(), Value::Number(5))],
        model: Some("m"),
        answered: Some("m"),
        key: Some("key_1"),
        finished,
        reasons: &[FinishReason::Length],
        loading: None,
        failed,
    }
}

fn spans(body: &Json, service: &str) -> Vec<Json> {
    let resources = body["resourceSpans"].as_array().unwrap();
    let named = |resource: &&Json| resource["resource"]["attributes"][0]["value"]["stringValue"] == service;
    let resource = resources.iter().find(named).unwrap_or_else(|| panic!("no {service} in {body}"));
    resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute(span: &Json, name: &str) -> Json {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|attribute| attribute["key"] == name).map_or(Json::Null, |attribute| attribute["value"].clone())
}

#[test]
fn a_request_and_what_its_worker_did_reach_the_collector_in_the_words_of_the_conventions() {
    let (endpoint, received) = collector(&[]);
    let traces = traces(&endpoint);
    let recording = traces.begin(Some(PARENT.parse().unwrap()));
    let usage = Usage { prompt_tokens: 12, completion_tokens: 3, ..Usage::default() };
    // Longer than the request itself: what does not fit into it is cut off.
    let timing = Timing { queue_us: 1, prefill_us: 2_000_000, decode_us: 1 };
    recording.end(facts(Some(&Finished { usage, timing, ..Finished::default() }), None));
    let (head, body) = received.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(head.starts_with("POST /v1/traces ") && head.contains("x-token: secret"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let own = &spans(&body, "impetusd")[0];
    assert_eq!((own["name"].as_str(), own["kind"].as_u64()), (Some("chat m"), Some(1)));
    assert_eq!(own["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(own["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(own["spanId"].as_str().unwrap(), recording.place().unwrap().span.to_string());
    assert_eq!(attribute(own, "gen_ai.operation.name")["stringValue"], "chat");
    assert_eq!(attribute(own, "gen_ai.usage.output_tokens")["intValue"], "3");
    assert_eq!(attribute(own, "gen_ai.request.max_tokens")["intValue"], "5");
    assert_eq!(attribute(own, "gen_ai.response.finish_reasons")["arrayValue"]["values"][0]["stringValue"], "length");
    let worker = spans(&body, "impetus-worker");
    let names: Vec<_> = worker.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["queue", "prefill", "decode"]);
    let time = |span: &Json, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    for span in &worker {
        assert_eq!(span["parentSpanId"], own["spanId"]);
        assert!(time(span, "startTimeUnixNano") >= time(own, "startTimeUnixNano"), "{span}");
        assert!(time(span, "endTimeUnixNano") <= time(own, "endTimeUnixNano"), "{span}");
    }
}

#[test]
fn a_failure_says_its_kind_and_a_collector_that_refuses_for_a_while_is_asked_again() {
    let (endpoint, received) = collector(&[503]);
    let traces = traces(&endpoint);
    traces.begin(None).end(facts(None, Some("no_memory")));
    let first = received.recv_timeout(Duration::from_secs(20)).unwrap();
    let again = received.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(first.1, again.1);
    let span = &spans(&again.1, "impetusd")[0];
    assert_eq!((span["status"]["code"].as_u64(), span["parentSpanId"].as_str()), (Some(2), None));
    assert_eq!(attribute(span, "error.type")["stringValue"], "no_memory");
    assert_eq!(span["status"]["message"], "no_memory");
}

#[test]
fn what_is_not_sampled_or_not_wanted_is_carried_on_and_not_recorded() {
    let off = Traces::start(&config::Config::testing("/nowhere".as_ref()).traces);
    assert!(!off.on());
    let parent: TraceParent = PARENT.parse().unwrap();
    assert_eq!(off.begin(Some(parent)).place(), Some(parent));
    assert_eq!(off.begin(None).place(), None);
    let (endpoint, received) = collector(&[]);
    let on = traces(&endpoint);
    let quiet = TraceParent { sampled: false, ..parent };
    let recording = on.begin(Some(quiet));
    assert_eq!((recording.place(), recording.is_on()), (Some(quiet), false));
    recording.end(facts(None, None));
    on.begin(Some(parent)).end(facts(None, None));
    let (_, body) = received.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(spans(&body, "impetusd").len(), 1, "only the sampled one is sent");
}

#[test]
fn a_collector_that_does_not_answer_costs_spans_and_no_time() {
    // It accepts connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let traces = traces(&format!("http://{}/v1/traces", listener.local_addr().unwrap()));
    (0..20_000).for_each(|_| traces.begin(None).end(facts(None, None)));
    assert!(traces.0.as_ref().unwrap().dropped.load(Ordering::Relaxed) > 10_000, "the queue is bounded");
}

#[test]
fn a_report_of_another_program_is_bounded() {
    let (endpoint, _received) = collector(&[]);
    let traces = traces(&endpoint);
    let span = |name: &str| Span {
        place: PARENT.parse().unwrap(),
        parent: None,
        state: None,
        name: name.to_owned(),
        kind: SpanKind::Server,
        service: "impetus-http".to_owned(),
        start_unix_ns: 1,
        end_unix_ns: 2,
        attributes: vec![],
        error: None,
    };
    assert!(traces.take(vec![span("GET /v1/models"); 10]).is_ok());
    assert!(traces.take(vec![span("x"); SPANS_MAX + 1]).is_err());
    assert!(traces.take(vec![span(&"x".repeat(TEXT_BYTES_MAX + 1))]).is_err());
}
