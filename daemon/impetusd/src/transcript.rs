//! Transcripts: append-only events of long work, read with a cursor. Appending never waits for a reader; what nobody
//! has read yet is merged, so a slow reader costs the text and not the events. It knows nothing of who does the work.
//! Appended to by `supervisor` and `hub`, read by `service`.

mod merge;
mod registry;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::generation::Finished;
use protocol::transcript::{Cursor, Event, Page, TranscriptId};
use protocol::{Error, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use registry::Transcripts;

/// How large pages may grow.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Events.
    pub events_max: usize,
    /// Bytes of text, and of one merged delta.
    pub bytes_max: usize,
}

/// Somebody who sees every event of a transcript as it is appended, and decides nothing.
pub trait Observer: std::fmt::Debug + Send {
    /// Sees an event; the last one is `Finished` or `Failed`.
    fn see(&mut self, event: &Event);
}

/// The events of one piece of work.
#[derive(Debug)]
pub struct Transcript {
    id: TranscriptId,
    limits: PageLimits,
    log: Mutex<Log>,
    /// How many appends there were: a waiting reader wakes at each.
    grown: watch::Sender<u64>,
    cancelled: CancellationToken,
    /// Bytes of memory that all ended ones take; it adds its own when it ends.
    ended_bytes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    /// Events before this were handed to a reader: they never change again.
    frozen: usize,
    ended: Option<Instant>,
    /// How many bytes of memory its events take; counted when it ends.
    held: u64,
    observer: Option<Box<dyn Observer>>,
}

impl Transcript {
    fn new(id: TranscriptId, limits: PageLimits, ended_bytes: Arc<AtomicU64>) -> Self {
        let (grown, cancelled) = (watch::Sender::new(0), CancellationToken::new());
        Self { id, limits, log: Mutex::default(), grown, cancelled, ended_bytes }
    }

    /// Its name.
    pub fn id(&self) -> TranscriptId {
        self.id
    }

    /// Becomes cancelled when somebody no longer wants the work.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Lets somebody see the events to come.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        self.lock().observer = Some(observer);
    }

    /// Adds an event; once the transcript has ended, nothing follows.
    pub fn append(&self, event: Event) {
        {
            let mut log = self.lock();
            if log.ended.is_some() {
                return;
            }
            if let Some(observer) = &mut log.observer {
                observer.see(&event);
            }
            let last = matches!(event, Event::Finished(_) | Event::Failed(_));
            log.push(event, self.limits.bytes_max);
            if last {
                self.ended_bytes.fetch_add(log.end(), Ordering::Relaxed);
            }
        }
        self.grown.send_modify(|count| *count += 1);
    }

    /// Ends it well.
    pub fn finish(&self, finished: Finished) {
        self.append(Event::Finished(finished));
    }

    /// Ends it badly.
    pub fn fail(&self, error: Error) {
        self.append(Event::Failed(error));
    }

    /// When it ended, if it has.
    pub fn ended(&self) -> Option<Instant> {
        self.lock().ended
    }

    /// How many bytes of memory its events take once it has ended.
    fn held(&self) -> u64 {
        self.lock().held
    }

    /// Returns the events after `cursor`; waits up to `wait` for the first.
    pub async fn read(&self, cursor: Cursor, wait: Duration) -> Result<Page> {
        let mut grown = self.grown.subscribe();
        let deadline = Instant::now() + wait;
        loop {
            grown.mark_unchanged();
            let page = self.page(cursor)?;
            if page.ended || !page.events.is_empty() {
                return Ok(page);
            }
            // The sender lives in self, so only the deadline ends the wait early.
            if tokio::time::timeout_at(deadline, grown.changed()).await.is_err() {
                return Ok(page);
            }
        }
    }

    fn page(&self, cursor: Cursor) -> Result<Page> {
        let mut log = self.lock();
        let length = log.events.len() as u64;
        if cursor.0 > length {
            let message = format!("cursor {} lies past the {length} events of transcript {}", cursor.0, self.id.0);
            return Err(Error::invalid("cursor", message).hint("read from the `next` of the last page"));
        }
        let start = cursor.0 as usize;
        let mut end = start;
        let mut bytes = 0;
        while end < log.events.len() && end - start < self.limits.events_max {
            bytes += merge::bytes(&log.events[end]);
            if end > start && bytes > self.limits.bytes_max {
                break;
            }
            end += 1;
        }
        log.frozen = log.frozen.max(end);
        let ended = log.ended.is_some() && end == log.events.len();
        Ok(Page { events: log.events[start..end].to_vec(), next: Cursor(end as u64), ended })
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn push(&mut self, event: Event, bytes_max: usize) {
        let open = self.events.len() > self.frozen;
        let rest = match self.events.last_mut().filter(|_| open) {
            Some(last) => merge::merge(last, event, bytes_max),
            None => Some(event),
        };
        self.events.extend(rest);
    }

    /// Keeps no more memory than the events need; returns how much that is.
    fn end(&mut self) -> u64 {
        self.ended = Some(Instant::now());
        self.observer = None;
        self.events.shrink_to_fit();
        self.held = self.events.iter().map(|event| merge::held(event) as u64).sum();
        self.held
    }
}
