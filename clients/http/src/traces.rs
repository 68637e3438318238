//! Where each request stands in a trace: what its client says (`traceparent`), carried on to the daemon and its worker, and,
//! where the daemon exports traces, a span of the bridge's own for every request to an endpoint that needs a key; what other
//! tracers say there (`tracestate`) goes with that span.
//!
//! Spans go to the daemon in batches, from a bounded queue that no request waits for; the daemon alone knows a collector.
//! No span holds what was said to a model or by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use protocol::trace::{Span, SpanId, SpanKind, TraceId, TraceParent, Value};
use tokio::sync::mpsc;

use crate::app::Bridge;
use crate::ids::random_hex;
use crate::request_id;

/// What the daemon says it can do, if it exports traces.
const CAPABILITY: &str = "traces";

/// Spans that may wait; one more is dropped.
const WAITING_MAX: usize = 1_024;

/// Spans in one report, and how long they are gathered.
const BATCH: usize = 256;
const GATHER: Duration = Duration::from_millis(500);

/// The longest `tracestate` that is passed on, in bytes: what the standard asks of everybody.
const STATE_BYTES_MAX: usize = 512;

/// What is asked every few seconds and tells nothing.
const UNRECORDED: &str = "/api/metrics";

tokio::task_local! {
    static CURRENT: Option<TraceParent>;
}

/// Where the request being handled stands; `None` outside of any, and where its client said nothing.
pub fn current() -> Option<TraceParent> {
    CURRENT.try_with(|place| *place).ok().flatten()
}

/// The way of spans to the daemon.
pub struct Traces {
    spans: mpsc::Sender<Span>,
    /// What is to be reported, until `report` takes it.
    waiting: std::sync::Mutex<Option<mpsc::Receiver<Span>>>,
    /// Whether the daemon exports them.
    on: AtomicBool,
}

impl Default for Traces {
    fn default() -> Self {
        let (spans, waiting) = mpsc::channel(WAITING_MAX);
        Self { spans, waiting: std::sync::Mutex::new(Some(waiting)), on: AtomicBool::new(false) }
    }
}

impl Traces {
    /// Notes whether the daemon that is connected exports traces.
    pub fn note(&self, capabilities: &[String]) {
        self.on.store(capabilities.iter().any(|word| word == CAPABILITY), Ordering::Relaxed);
    }
}

/// Hands spans to the daemon for as long as the bridge runs.
pub async fn report_for_ever(bridge: Arc<Bridge>) {
    let waiting = bridge.traces.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let Some(mut waiting) = waiting else { return };
    let mut spans = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut spans, BATCH).await > 0 {
        tokio::time::sleep(GATHER).await;
        while spans.len() < BATCH
            && let Ok(span) = waiting.try_recv()
        {
            spans.push(span);
        }
        let reported = async { bridge.daemon.own().await?.report_spans(std::mem::take(&mut spans)).await };
        if let Err(error) = reported.await {
            tracing::debug!(%error, "spans were not taken");
        }
    }
}

/// Finds out where a request stands, and records it where that is wanted.
pub async fn follow(State(bridge): State<Arc<Bridge>>, request: Request, next: Next) -> Response {
    let parent = parent(request.headers());
    let wanted = parent.is_none_or(|parent| parent.sampled) && request.uri().path() != UNRECORDED;
    let recorded = wanted && bridge.traces.on.load(Ordering::Relaxed);
    if !recorded {
        return CURRENT.scope(parent, next.run(request)).await;
    }
    let place = match parent {
        Some(parent) => TraceParent { span: span_id(), ..parent },
        None => TraceParent { trace: trace_id(), span: span_id(), sampled: true },
    };
    let mut doing = Doing::new(bridge, place, parent.map(|parent| parent.span), &request);
    let response = CURRENT.scope(Some(place), next.run(request)).await;
    doing.answered(&response);
    // A body that is there is as good as sent; a stream ends when its last frame is taken, or its client hangs up.
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _ = &doing;
        }))
    })
}

/// Reads the header; one that is no `traceparent`, or one of several, counts as none, as the standard asks.
pub fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let parent = values.next()?.to_str().ok()?.trim().parse().ok();
    parent.filter(|_| values.next().is_none())
}

/// Reads what other tracers say of the trace, from however many headers; longer words than must be passed on are not.
fn state(headers: &HeaderMap) -> Option<String> {
    let values: Option<Vec<&str>> = headers.get_all("tracestate").iter().map(|value| value.to_str().ok()).collect();
    values.map(|values| values.join(",")).filter(|state| !state.is_empty() && state.len() <= STATE_BYTES_MAX)
}

/// A request while it is being answered; its span is recorded when this is dropped.
struct Doing {
    bridge: Arc<Bridge>,
    place: TraceParent,
    parent: Option<SpanId>,
    state: Option<String>,
    method: String,
    /// The path as the table of endpoints has it: that of a request may be anything.
    route: String,
    began: SystemTime,
    id: Option<String>,
    status: Option<u16>,
}

impl Doing {
    fn new(bridge: Arc<Bridge>, place: TraceParent, parent: Option<SpanId>, request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
        Self {
            bridge,
            place,
            parent,
            // It means nothing without a place.
            state: parent.and_then(|_| state(request.headers())),
            method: request.method().to_string(),
            route: route.unwrap_or_default(),
            began: SystemTime::now(),
            id: request_id::current(),
            status: None,
        }
    }

    fn answered(&mut self, response: &Response) {
        self.status = Some(response.status().as_u16());
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut attributes = vec![
            ("http.request.method".to_owned(), text(&self.method)),
            ("http.route".to_owned(), text(&self.route)),
            ("url.scheme".to_owned(), text("http")),
        ];
        attributes.extend(self.id.as_deref().map(|id| ("impetus.request_id".to_owned(), text(id))));
        let status = self.status.map(|status| ("http.response.status_code".to_owned(), Value::Number(status.into())));
        attributes.extend(status);
        let failed = self.status.filter(|status| *status >= 500);
        attributes.extend(failed.map(|status| ("error.type".to_owned(), text(&status.to_string()))));
        // A queue that is full loses spans and holds nobody up.
        let _ = self.bridge.traces.spans.try_send(Span {
            place: self.place,
            parent: self.parent,
            state: self.state.take(),
            name: format!("{} {}", self.method, self.route).trim_end().to_owned(),
            kind: SpanKind::Server,
            service: "impetus-http".to_owned(),
            start_unix_ns: nanoseconds(self.began),
            end_unix_ns: nanoseconds(SystemTime::now()),
            attributes,
            error: failed.map(|status| format!("HTTP {status}")),
        });
    }
}

fn trace_id() -> TraceId {
    TraceId(u128::from_str_radix(&random_hex(32), 16).unwrap_or_default().max(1))
}

fn span_id() -> SpanId {
    SpanId(u64::from_str_radix(&random_hex(16), 16).unwrap_or_default().max(1))
}

fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_header_that_is_a_traceparent_counts_and_nothing_else() {
        const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            parent(&headers).map(|parent| parent.to_string())
        };
        assert_eq!(read(&[GOOD]).as_deref(), Some(GOOD));
        for values in [&[][..], &["nonsense"], &[GOOD, GOOD]] {
            assert_eq!(read(values), None, "{values:?}");
        }
    }

    #[test]
    fn what_other_tracers_say_is_joined_and_bounded() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("tracestate", value.parse().unwrap());
            }
            state(&headers)
        };
        assert_eq!(read(&["a=1", "b=2,c=3"]).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(read(&[&"x".repeat(512)]).map(|state| state.len()), Some(512));
        assert_eq!((read(&[]), read(&[""]), read(&[&"x".repeat(513)])), (None, None, None));
    }
}
