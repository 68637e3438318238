//! Spans of work that answers nobody's question: loads, downloads, imports, and what is asked of a model's text side.
//!
//! A `Watched` sees the work's transcript to its end, or is told of it; it decides nothing. Begun by `service`.

use std::time::SystemTime;

use protocol::Error;
use protocol::trace::{Span, TraceParent, Value};
use protocol::transcript::Event;

use super::{Recording, nanoseconds};
use crate::journal::word;
use crate::transcript::Observer;

/// One piece of work whose span is recorded when it ends.
#[derive(Debug)]
pub struct Watched {
    recording: Recording,
    /// What is done, and to what.
    name: String,
    key: Option<String>,
    /// Who else sees it.
    next: Option<Box<dyn Observer>>,
}

impl Watched {
    /// Watches work that stands at a place in a trace, for the holder of a key.
    pub fn new(recording: Recording, name: String, key: Option<String>) -> Self {
        Self { recording, name, key, next: None }
    }

    /// Lets another observer see it too.
    pub fn with(mut self, next: impl Observer + 'static) -> Self {
        self.next = Some(Box::new(next));
        self
    }

    /// Where it stands, for whoever goes on with it.
    pub fn place(&self) -> Option<TraceParent> {
        self.recording.place()
    }

    /// Records the end.
    pub fn end(&self, failed: Option<&Error>) {
        let Some(place) = self.recording.place.filter(|_| self.recording.is_on()) else { return };
        let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
        let key = self.key.clone().map(|key| text("impetus.key", key));
        self.recording.traces.record(Span {
            name: self.name.clone(),
            end_unix_ns: nanoseconds(SystemTime::now()),
            error: failed.map(|error| word(error.kind)),
            attributes: key.into_iter().chain(failed.map(|error| text("error.type", word(error.kind)))).collect(),
            ..self.recording.span(place)
        });
    }
}

impl Observer for Watched {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Finished(_) => self.end(None),
            Event::Failed(error) => self.end(Some(error)),
            _ => {}
        }
        if let Some(next) = &mut self.next {
            next.see(event);
        }
    }
}
