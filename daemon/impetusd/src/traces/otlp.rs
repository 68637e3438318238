//! Spans in the words of OTLP, as JSON over HTTP. Pure.

use protocol::trace::{Span, SpanKind, Value};
use serde_json::{Value as Json, json};

use crate::VERSION;

/// The code of a span that failed.
const STATUS_ERROR: u8 = 2;

/// Returns the body of an export: spans gathered by the program that made them.
pub fn body(spans: &[Span]) -> Json {
    let mut services: Vec<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    let resource = |service: &&str| {
        let of: Vec<Json> = spans.iter().filter(|span| span.service == *service).map(span).collect();
        let about = [("service.name", *service), ("service.namespace", "impetus"), ("service.version", VERSION)];
        let about = about.map(|(name, value)| attribute(name, &Value::Text(value.to_owned())));
        json!({
            "resource": { "attributes": about },
            "scopeSpans": [{ "scope": { "name": "impetus", "version": VERSION }, "spans": of }],
        })
    };
    json!({ "resourceSpans": services.iter().map(resource).collect::<Vec<_>>() })
}

fn span(span: &Span) -> Json {
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
    };
    let attributes: Vec<Json> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let mut json = json!({
        "traceId": span.place.trace.to_string(),
        "spanId": span.place.span.to_string(),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": span.start_unix_ns.to_string(),
        "endTimeUnixNano": span.end_unix_ns.to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = json!(parent.to_string());
    }
    if let Some(state) = &span.state {
        json["traceState"] = json!(state);
    }
    if let Some(error) = &span.error {
        json["status"] = json!({ "code": STATUS_ERROR, "message": error });
    }
    json
}

fn attribute(name: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        // 64 bits are text in JSON, as protobuf has it.
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Real(number) => json!({ "doubleValue": number }),
        Value::Texts(texts) => {
            let values: Vec<Json> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }
    };
    json!({ "key": name, "value": value })
}
