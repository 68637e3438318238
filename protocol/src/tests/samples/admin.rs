//! Values of the types for settings, for what was counted, and for what happens.

use super::access::request_entry;
use super::{card, error, measures};
use crate::measures::{Histogram, Metrics, ModelMeasures, RequestDurations, RequestTally};
use crate::news::{Downloaded, Happening, News};
use crate::setting::{Applies, ChangeSettingsRequest, Setting, SettingChange};
use crate::trace::{Span, SpanId, SpanKind, TraceId, TraceParent, Value};
use crate::transcript::{Progress, Stage, Unit};

pub(in crate::tests) fn setting() -> Setting {
    Setting {
        name: "memory.budget".into(),
        value: "8GB".into(),
        configured: "75%".into(),
        changed: true,
        applies: Applies::NextLoad,
        fixed_by: Some("IMPETUS_MEMORY_BUDGET".into()),
        about: "What all loaded models may take together.".into(),
    }
}

pub(in crate::tests) fn change_settings() -> ChangeSettingsRequest {
    let change = |name: &str, value: Option<&str>| SettingChange { name: name.into(), value: value.map(str::to_owned) };
    ChangeSettingsRequest { changes: vec![change("memory.budget", Some("50%")), change("log.level", None)] }
}

pub(in crate::tests) fn metrics() -> Metrics {
    let mut durations = Histogram::default();
    durations.record(1_500);
    let (verb, model) = ("generate".to_owned(), "impetus-nano".to_owned());
    Metrics {
        models: vec![ModelMeasures { model: model.clone(), measures: measures(), loads: 2, deaths: 1 }],
        requests: vec![RequestTally {
            verb: verb.clone(),
            model: model.clone(),
            key: "key_1".into(),
            status: "ok".into(),
            requests: 1,
            prompt_tokens: 12,
            completion_tokens: 3,
        }],
        durations: vec![RequestDurations { verb, model, key: "key_1".to_owned(), durations }],
    }
}

pub(in crate::tests) fn news() -> News {
    let progress = |stage| Progress { stage, subject: "ORG/NAME".into(), done: 1, total: Some(9), unit: Unit::Bytes };
    let ended = |error| Happening::Downloaded(Downloaded { repo: "ORG/NAME".into(), error });
    let happenings = vec![
        Happening::Model(card()),
        Happening::Forgotten("impetus-nano".into()),
        Happening::Loading(progress(Stage::Loading)),
        Happening::Downloading(progress(Stage::Downloading)),
        ended(None),
        ended(Some(error())),
        Happening::Request(request_entry()),
    ];
    News { happenings, next: 12, missed: true }
}

pub(in crate::tests) fn trace() -> TraceParent {
    TraceParent {
        trace: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
        span: SpanId(0x00f0_67aa_0ba9_02b7),
        sampled: true,
    }
}

pub(in crate::tests) fn spans() -> Vec<Span> {
    let value = |name: &str, value| (name.to_owned(), value);
    let server = Span {
        place: trace(),
        parent: Some(SpanId(7)),
        state: Some("vendor=opaque".into()),
        name: "POST /v1/models".into(),
        kind: SpanKind::Server,
        service: "impetus-http".into(),
        start_unix_ns: 1_790_000_000_000_000_000,
        end_unix_ns: 1_790_000_000_000_000_001,
        attributes: vec![
            value("text", Value::Text("a".into())),
            value("number", Value::Number(-1)),
            value("real", Value::Real(0.5)),
            value("texts", Value::Texts(vec!["a".into(), "b".into()])),
        ],
        error: Some("HTTP 500".into()),
    };
    let within = Span { parent: None, state: None, kind: SpanKind::Internal, error: None, ..server.clone() };
    vec![server, within]
}
