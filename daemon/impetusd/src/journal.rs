//! What was asked of which model, written down when it has ended: never what was said. Writing waits for no disk: a
//! task of its own writes what has gathered, in one go. Begun by `service`, fed by the transcript it is given to.

use std::sync::Arc;
use std::time::SystemTime;

use protocol::generation::{FinishReason, Finished};
use protocol::news::Happening;
use protocol::trace::Value;
use protocol::transcript::{Event, Progress, Stage};
use protocol::{Error, ErrorKind};
use store::Request;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::catalogue::{Catalogue, request_entry};
use crate::keys::{Hold, Keys};
use crate::news::Newsroom;
use crate::tally::{Ended, Tally};
use crate::time::now_ms;
use crate::traces::{Facts, Recording};
use crate::transcript::Observer;

/// Entries that may wait for the disk; more are dropped, and said so.
const WAITING_MAX: usize = 4_096;

/// Entries written in one go.
const BATCH: usize = 256;

/// The way into the log of requests.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: mpsc::Sender<Message>,
    keys: Arc<Keys>,
    tally: Arc<Tally>,
}

#[derive(Debug)]
enum Message {
    Entry(Request),
    /// Answered once everything before it is on disk.
    Flush(oneshot::Sender<()>),
}

/// One request that goes on.
#[derive(Debug)]
pub struct Observation {
    journal: Journal,
    entry: Request,
    began: Instant,
    /// Whether the model is one that there is: names in requests are anything.
    found: bool,
    /// Whether the model began with it.
    started: bool,
    /// The tokens of its key's day that it may use.
    hold: Option<Hold>,
    /// The request's span in a trace.
    recorded: Option<Box<Recorded>>,
}

/// What is kept of a request for its span.
#[derive(Debug)]
struct Recorded {
    recording: Recording,
    operation: &'static str,
    asked: Vec<(String, Value)>,
    /// The model that was asked for.
    model: Option<String>,
    finished: Option<Finished>,
    reasons: Vec<FinishReason>,
    /// Since when, and until when, it waited for its model to be in memory.
    loading: Option<(SystemTime, SystemTime)>,
}

impl Journal {
    /// Starts the task that writes.
    pub fn start(catalogue: Catalogue, keys: Arc<Keys>, newsroom: Newsroom) -> Self {
        let (entries, inbox) = mpsc::channel(WAITING_MAX);
        tokio::spawn(write(catalogue, newsroom, inbox));
        Self { entries, keys, tally: Arc::default() }
    }

    /// The counts of what ended.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Begins to observe a request: what is asked, of which model, with which key.
    pub fn observe(&self, verb: &str, model: Option<String>, key: Option<String>) -> Observation {
        let entry = Request {
            time_unix_ms: now_ms(),
            verb: verb.to_owned(),
            model,
            key_id: key,
            status: String::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            latency_ms: 0,
            charged: false,
        };
        Observation {
            journal: self.clone(),
            entry,
            began: Instant::now(),
            found: false,
            started: false,
            hold: None,
            recorded: None,
        }
    }

    /// Waits until everything so far is on disk.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.entries.send(Message::Flush(done)).await.is_ok() {
            // Fails only if the writer has ended, with nothing left to write.
            let _ = flushed.await;
        }
    }
}

impl Observation {
    /// Notes that the request counts against its key's limits, unless it ends before a model began with it, or is a `further`
    /// part of one that counts, and which tokens it may use.
    pub fn charged(mut self, hold: Option<Hold>, further: bool) -> Self {
        self.entry.charged = !further;
        self.hold = hold;
        self
    }

    /// Lets the request have a span in a trace, where one is wanted.
    pub fn record(&mut self, recording: Recording, operation: &'static str, asked: Vec<(String, Value)>) {
        if recording.is_on() {
            let model = self.entry.model.clone();
            let (finished, reasons, loading) = (None, Vec::new(), None);
            self.recorded = Some(Box::new(Recorded { recording, operation, asked, model, finished, reasons, loading }));
        }
    }

    /// Ends the observation of a request that no transcript carries; `None` is a good end.
    pub fn end(&mut self, error: Option<&Error>) {
        self.entry.status = error.map_or_else(|| "ok".to_owned(), |error| word(error.kind));
        let took = self.began.elapsed();
        self.entry.latency_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        self.found |= error.is_some_and(|error| about_a_model(error.kind));
        self.journal.tally.count(&Ended {
            verb: &self.entry.verb,
            model: self.entry.model.as_deref().filter(|_| self.found),
            key: self.entry.key_id.as_deref(),
            status: &self.entry.status,
            prompt_tokens: self.entry.prompt_tokens,
            completion_tokens: self.entry.completion_tokens,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        if let Some(recorded) = self.recorded.take() {
            let Recorded { recording, operation, asked, model, finished, reasons, loading } = *recorded;
            recording.end(Facts {
                operation,
                asked,
                model: model.as_deref(),
                answered: self.entry.model.as_deref().filter(|_| self.found),
                key: self.entry.key_id.as_deref(),
                finished: finished.as_ref(),
                reasons: &reasons,
                loading,
                failed: error.map(|_| self.entry.status.as_str()),
            });
        }
        if let Some(key) = &self.entry.key_id {
            if self.entry.charged && !self.started && error.is_some() {
                // Retries of what a full machine refuses would use up the day.
                self.entry.charged = false;
                self.journal.keys.refund(key);
            }
            let tokens = u64::from(self.entry.prompt_tokens) + u64::from(self.entry.completion_tokens);
            self.journal.keys.spend(key, tokens);
        }
        // After they were spent, so that never more is free than there is.
        self.hold = None;
        if let Err(mpsc::error::TrySendError::Full(_)) =
            self.journal.entries.try_send(Message::Entry(self.entry.clone()))
        {
            tracing::warn!("the log of requests falls behind; an entry is lost");
        }
    }
}

impl Observer for Observation {
    fn see(&mut self, event: &Event) {
        if let Some(recorded) = &mut self.recorded {
            recorded.see(event);
        }
        match event {
            Event::Started(started) => {
                self.entry.model = Some(started.model.clone());
                (self.found, self.started) = (true, true);
                self.entry.prompt_tokens = started.prompt_tokens;
                if let Some(hold) = &mut self.hold {
                    hold.read(started.prompt_tokens);
                }
            }
            Event::Delta(delta) => {
                self.entry.completion_tokens = self.entry.completion_tokens.saturating_add(delta.tokens);
            }
            Event::Finished(finished) => {
                self.entry.prompt_tokens = finished.usage.prompt_tokens;
                self.entry.completion_tokens = finished.usage.completion_tokens;
                self.end(None);
            }
            Event::Failed(error) => self.end(Some(error)),
            Event::ChoiceFinished(_) | Event::Progress(_) | Event::Embedded(_) | Event::Scored(_) => {}
        }
    }
}

impl Recorded {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Finished(finished) => self.finished = Some(finished.clone()),
            Event::ChoiceFinished(finished) => self.reasons.push(finished.reason),
            Event::Progress(Progress { stage: Stage::Queued | Stage::Loading, .. }) => {
                let now = SystemTime::now();
                self.loading = Some((self.loading.map_or(now, |(since, _)| since), now));
            }
            Event::Started(_) => {
                let now = SystemTime::now();
                self.loading = self.loading.map(|(since, _)| (since, now));
            }
            _ => {}
        }
    }
}

/// Whether an error of this kind comes after the model was found.
fn about_a_model(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ModelNotLoaded | ErrorKind::NoMemory | ErrorKind::DeadlineExceeded)
}

/// Returns a kind as the log spells it: `RateLimited` is `rate_limited`.
pub fn word(kind: ErrorKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Writes until every way in is gone.
async fn write(catalogue: Catalogue, newsroom: Newsroom, mut inbox: mpsc::Receiver<Message>) {
    let mut messages = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut messages, BATCH).await > 0 {
        let (mut entries, mut waiting) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Entry(entry) => entries.push(entry),
                Message::Flush(done) => waiting.push(done),
            }
        }
        if !entries.is_empty() {
            match catalogue.record(entries.clone()).await {
                Ok(numbers) => {
                    let told = numbers.into_iter().zip(entries).map(request_entry).map(Happening::Request);
                    told.for_each(|request| newsroom.tell(request));
                }
                Err(error) => tracing::warn!(%error, "the log of requests cannot be written"),
            }
        }
        for done in waiting {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_spelled_in_the_way_of_logs() {
        assert_eq!(word(ErrorKind::RateLimited), "rate_limited");
        assert_eq!(word(ErrorKind::Busy), "busy");
    }
}
