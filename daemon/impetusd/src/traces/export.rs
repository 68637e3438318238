//! Sends spans to a collector: OTLP over HTTP, as JSON, from a thread of its own that nobody waits for. A batch that the
//! collector does not take is tried again a few times and then given up.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use protocol::trace::Span;

use super::otlp;
use crate::config;

/// Spans that may wait; one more is dropped.
const WAITING_MAX: usize = 4_096;

/// Spans in one request, and how long they are gathered.
const BATCH: usize = 256;
const GATHER: Duration = Duration::from_secs(1);

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// How often a batch is tried, and how long to wait between two tries.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(1);

/// What the thread is told.
enum Message {
    Span(Box<Span>),
    /// Answered once everything before it was sent or given up.
    Flush(SyncSender<()>),
}

/// The way to the thread that sends.
#[derive(Debug)]
pub struct Exporter {
    messages: SyncSender<Message>,
}

impl Exporter {
    /// Starts the thread.
    pub fn start(config: &config::Traces) -> io::Result<Self> {
        let (messages, inbox) = sync_channel(WAITING_MAX);
        let mut headers = Vec::new();
        for header in config.headers.iter().filter_map(config::Secret::given) {
            let (name, value) = header.split_once('=').ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "a header in traces.headers must be written name=value")
            })?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(REQUEST)).build().into();
        let collector = Collector { agent, endpoint: config.endpoint.clone(), headers };
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || work(&collector, &inbox))?;
        tracing::info!(endpoint = %config.endpoint, "traces are exported");
        Ok(Self { messages })
    }

    /// Hands over a span; false if it is dropped.
    pub fn offer(&self, span: Span) -> bool {
        self.messages.try_send(Message::Span(Box::new(span))).is_ok()
    }

    /// Waits until everything so far is sent or given up, for no longer than a moment. Blocks.
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            // Late is as good as never: the daemon ends.
            let _ = flushed.recv_timeout(FLUSH);
        }
    }
}

/// Sends until every way in is gone.
fn work(collector: &Collector, inbox: &Receiver<Message>) {
    while let Ok(first) = inbox.recv() {
        let mut spans = Vec::new();
        let mut waiting = Vec::new();
        let end = Instant::now() + GATHER;
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Message::Span(span)) => spans.push(*span),
                Ok(Message::Flush(done)) => {
                    waiting.push(done);
                    break;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            if spans.len() >= BATCH {
                break;
            }
            next = inbox.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
        if !spans.is_empty() {
            collector.send(&spans);
        }
        for done in waiting {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

/// Where spans go.
struct Collector {
    agent: ureq::Agent,
    endpoint: String,
    headers: Vec<(String, String)>,
}

impl Collector {
    fn send(&self, spans: &[Span]) {
        let body = otlp::body(spans).to_string();
        let mut tried = 0;
        loop {
            tried += 1;
            match self.post(&body) {
                Ok(()) => return,
                Err(error) if tried < TRIES && passes(&error) => std::thread::sleep(PAUSE),
                Err(error) => {
                    tracing::warn!(%error, spans = spans.len(), "spans are given up: the collector does not take them");
                    return;
                }
            }
        }
    }

    fn post(&self, body: &str) -> Result<(), ureq::Error> {
        let mut request = self.agent.post(&self.endpoint).header("content-type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.send(body).map(drop)
    }
}

/// Whether another try may go better.
fn passes(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => matches!(status, 429 | 502 | 503 | 504),
        _ => true,
    }
}
