//! Traces of what is done, for a collector of OpenTelemetry: off unless the configuration names one.
//!
//! A request's place in a trace is carried from its client through the daemon to the worker whether anything is recorded
//! or not, so that logs can be joined. Spans are made of facts once a request has ended, those of the worker of the times
//! it reports; they go into a bounded queue and leave on a thread of their own (`export`). A collector that is slow or
//! gone costs spans and never a request. No span holds what was said to a model or by it, nor the
//! sentence of an error, which may repeat it. Used by `journal`.

mod export;
mod otlp;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::generation::{FinishReason, Finished, GenerateRequest, Prompt};
use protocol::trace::{Span, SpanId, SpanKind, TraceId, TraceParent, Value};
use protocol::{Error, Result};

use crate::config;
use crate::random;
use export::Exporter;
pub use work::Watched;

/// Spans that one report may hold, attributes of one, and bytes of a text in one.
const SPANS_MAX: usize = 1_024;
const ATTRIBUTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 4_096;

/// Where spans go; clones are one.
#[derive(Clone, Debug)]
pub struct Traces(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    exporter: Exporter,
    dropped: AtomicU64,
}

impl Traces {
    /// Starts to export, if the configuration names a collector.
    pub fn start(config: &config::Traces) -> Self {
        if config.endpoint.is_empty() {
            return Self(None);
        }
        match Exporter::start(config) {
            Ok(exporter) => Self(Some(Arc::new(Shared { exporter, dropped: AtomicU64::new(0) }))),
            Err(error) => {
                tracing::error!(%error, "traces are not exported");
                Self(None)
            }
        }
    }

    /// Whether spans are recorded.
    pub fn on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins to record a request that stands at `parent` in a trace, or begins one.
    pub fn begin(&self, parent: Option<TraceParent>) -> Recording {
        let recorded = self.on() && parent.is_none_or(|parent| parent.sampled);
        let place = match (recorded, parent) {
            (true, Some(parent)) => span_id().map(|span| TraceParent { span, ..parent }),
            (true, None) => root(),
            // Carried on as it came.
            (false, parent) => parent,
        };
        let traces = self.clone();
        let recorded = recorded && place.is_some();
        Recording { traces, recorded, place, parent: parent.map(|parent| parent.span), began: SystemTime::now() }
    }

    /// Takes in spans that another program of the house made.
    pub fn take(&self, spans: Vec<Span>) -> Result<()> {
        if spans.len() > SPANS_MAX {
            let message = format!("{} spans at once are too many; it may be {SPANS_MAX}", spans.len());
            return Err(Error::invalid("spans", message));
        }
        let long = |text: &String| text.len() > TEXT_BYTES_MAX;
        let too_much = |span: &Span| {
            let texts = span.attributes.iter().any(|(name, value)| {
                long(name) || matches!(value, Value::Text(text) if long(text)) || matches!(value, Value::Texts(_))
            });
            texts
                || span.attributes.len() > ATTRIBUTES_MAX
                || long(&span.name)
                || [&span.error, &span.state].into_iter().flatten().any(long)
        };
        if let Some(span) = spans.iter().find(|span| too_much(span)) {
            let name: String = span.name.chars().take(64).collect();
            return Err(Error::invalid("spans", format!("the span {name:?} holds more than a span may")));
        }
        spans.into_iter().for_each(|span| self.record(span));
        Ok(())
    }

    fn record(&self, span: Span) {
        let Some(shared) = &self.0 else { return };
        if !shared.exporter.offer(span) {
            let dropped = shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "spans are dropped: the collector does not take them fast enough");
            }
        }
    }

    /// Sends what waits, for no longer than a moment.
    pub async fn flush(&self) {
        if let Some(shared) = self.0.clone() {
            // A thread that failed has nothing left to send.
            let _ = tokio::task::spawn_blocking(move || shared.exporter.flush()).await;
        }
    }
}

/// One request that is being recorded, or only carried on.
#[derive(Debug)]
pub struct Recording {
    traces: Traces,
    recorded: bool,
    place: Option<TraceParent>,
    parent: Option<SpanId>,
    began: SystemTime,
}

/// What is known of a request once it has ended.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was done, in the words of the conventions for generative models.
    pub operation: &'static str,
    /// What was asked for, in the same words.
    pub asked: Vec<(String, Value)>,
    /// The model that was asked for.
    pub model: Option<&'a str>,
    /// The model that answered.
    pub answered: Option<&'a str>,
    /// The id of the key.
    pub key: Option<&'a str>,
    /// How it went, if it went well.
    pub finished: Option<&'a Finished>,
    /// Why each choice ended.
    pub reasons: &'a [FinishReason],
    /// Since when, and until when, it waited for its model to be in memory.
    pub loading: Option<(SystemTime, SystemTime)>,
    /// Of what kind its failure was, as the log spells it: the sentence may hold words of the request.
    pub failed: Option<&'a str>,
}

impl Recording {
    /// Where the request's own span stands, for whoever goes on with it, and for logs.
    pub fn place(&self) -> Option<TraceParent> {
        self.place
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.recorded
    }

    /// Records the end.
    pub fn end(&self, facts: Facts<'_>) {
        let Some(place) = self.place.filter(|_| self.recorded) else { return };
        let (start, end) = (nanoseconds(self.began), nanoseconds(SystemTime::now()));
        let model = facts.model.or(facts.answered).unwrap_or_default();
        if let Some(((since, until), span)) = facts.loading.zip(span_id()) {
            self.traces.record(Span {
                place: TraceParent { span, ..place },
                parent: Some(place.span),
                name: format!("load {model}"),
                start_unix_ns: nanoseconds(since).max(start),
                end_unix_ns: nanoseconds(until).min(end),
                ..self.span(place)
            });
        }
        for span in worker_spans(place, facts.finished, (start, end), facts.answered) {
            self.traces.record(span);
        }
        self.traces.record(Span {
            name: format!("{} {model}", facts.operation).trim_end().to_owned(),
            end_unix_ns: end,
            error: facts.failed.map(str::to_owned),
            attributes: attributes(facts),
            ..self.span(place)
        });
    }

    /// The request's own span, as far as it is known before its end.
    fn span(&self, place: TraceParent) -> Span {
        let start_unix_ns = nanoseconds(self.began);
        Span {
            place,
            parent: self.parent,
            state: None,
            name: String::new(),
            kind: SpanKind::Internal,
            service: "impetusd".to_owned(),
            start_unix_ns,
            end_unix_ns: start_unix_ns,
            error: None,
            attributes: Vec::new(),
        }
    }
}

/// What is asked of a generation, in the words of the conventions.
pub fn asked(request: &GenerateRequest, recorded: bool) -> (&'static str, Vec<(String, Value)>) {
    let operation = match request.prompt {
        Prompt::Chat(_) => "chat",
        Prompt::Text(_) | Prompt::Tokens(_) => "text_completion",
    };
    if !recorded {
        return (operation, Vec::new());
    }
    let (sampling, real) = (&request.sampling, |number: f32| Value::Real(f64::from(number)));
    let whole = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let asked = [
        ("max_tokens", request.stop.max_tokens.map(|number| whole(number.into()))),
        ("temperature", sampling.temperature.map(real)),
        ("top_p", sampling.top_p.map(real)),
        ("top_k", sampling.top_k.map(|number| whole(number.into()))),
        ("frequency_penalty", sampling.frequency_penalty.map(real)),
        ("presence_penalty", sampling.presence_penalty.map(real)),
        ("seed", sampling.seed.map(whole)),
        ("choice.count", (request.choices > 1).then(|| whole(request.choices.into()))),
    ];
    let named = |(name, value): (&str, Option<Value>)| Some((format!("gen_ai.request.{name}"), value?));
    (operation, asked.into_iter().filter_map(named).collect())
}

fn attributes(facts: Facts<'_>) -> Vec<(String, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut all = vec![
        ("gen_ai.operation.name".to_owned(), text(facts.operation)),
        ("gen_ai.provider.name".to_owned(), text("impetus")),
    ];
    let mut add = |name: &str, value: Option<Value>| all.extend(value.map(|value| (name.to_owned(), value)));
    add("gen_ai.request.model", facts.model.map(text));
    add("gen_ai.response.model", facts.answered.map(text));
    let usage = facts.finished.map(|finished| finished.usage);
    let tokens = |count: u32| Value::Number(count.into());
    add("gen_ai.usage.input_tokens", usage.map(|usage| tokens(usage.prompt_tokens)));
    add("gen_ai.usage.output_tokens", usage.map(|usage| tokens(usage.completion_tokens)));
    add("gen_ai.usage.cache_read.input_tokens", usage.map(|usage| tokens(usage.cached_tokens)));
    let reasons: Vec<String> = facts.reasons.iter().map(|reason| spelled(*reason).to_owned()).collect();
    add("gen_ai.response.finish_reasons", (!reasons.is_empty()).then_some(Value::Texts(reasons)));
    add("error.type", facts.failed.map(text));
    add("impetus.key", facts.key.map(text));
    all.extend(facts.asked);
    all
}

fn spelled(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// What the worker did, as it reports: its times lie before the request's end, one after the other.
fn worker_spans(
    place: TraceParent,
    finished: Option<&Finished>,
    (start, end): (u64, u64),
    model: Option<&str>,
) -> Vec<Span> {
    let Some(finished) = finished else { return Vec::new() };
    let timing = finished.timing;
    let mut until = end;
    let mut spans = Vec::new();
    for (name, us) in [("decode", timing.decode_us), ("prefill", timing.prefill_us), ("queue", timing.queue_us)] {
        // Two clocks: what does not fit into the request is cut off.
        let from = until.saturating_sub(us.saturating_mul(1_000)).max(start);
        let Some(span) = span_id().filter(|_| us > 0 || name != "decode") else { continue };
        spans.push(Span {
            place: TraceParent { span, ..place },
            parent: Some(place.span),
            state: None,
            name: name.to_owned(),
            kind: SpanKind::Internal,
            service: "impetus-worker".to_owned(),
            start_unix_ns: from,
            end_unix_ns: until,
            attributes: model
                .map(|model| ("gen_ai.response.model".to_owned(), Value::Text(model.to_owned())))
                .into_iter()
                .collect(),
            error: None,
        });
        until = from;
    }
    spans.reverse();
    spans
}

/// Begins a trace; `None` if the system gives no random numbers.
fn root() -> Option<TraceParent> {
    let trace = u128::from_le_bytes(random::bytes().ok()?).max(1);
    Some(TraceParent { trace: TraceId(trace), span: span_id()?, sampled: true })
}

fn span_id() -> Option<SpanId> {
    Some(SpanId(u64::from_le_bytes(random::bytes().ok()?).max(1)))
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
