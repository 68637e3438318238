//! One generation, from its admission to the end of its transcript: what is asked, how far it has come, and how it
//! goes on after its worker's death. It knows no process; `supervisor` moves it between queue and worker.

use std::sync::Arc;

use pipe::{Delivered, Submit, WorkEvent, WorkId};
use protocol::generation::GenerateRequest;
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind};
use tokio::time::Instant;

use crate::transcript::Transcript;

/// A generation that goes on.
#[derive(Debug)]
pub struct Work {
    /// Its name on every pipe: its transcript's.
    pub id: WorkId,
    /// Where its events go.
    pub transcript: Arc<Transcript>,
    /// What is asked.
    pub request: GenerateRequest,
    /// Who asks.
    pub client: u64,
    /// The seed in use.
    pub seed: u64,
    /// When it arrived, by the wall clock.
    pub received_unix_ms: i64,
    /// When it is given up.
    pub deadline: Instant,
    /// How many workers died while answering it.
    pub deaths: u32,
    started: bool,
    delivered: Vec<Delivered>,
}

impl Work {
    /// Makes the work of a request that was admitted.
    pub fn new(
        transcript: Arc<Transcript>,
        request: GenerateRequest,
        client: u64,
        seed: u64,
        deadline: Instant,
    ) -> Self {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            id: WorkId(transcript.id().0),
            delivered: vec![Delivered::default(); usize::from(request.choices)],
            transcript,
            request,
            client,
            seed,
            received_unix_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
            deadline,
            deaths: 0,
            started: false,
        }
    }

    /// Returns the message that gives it to a worker; after a death it says what was delivered before.
    pub fn submit(&self) -> Submit {
        let fresh = self.delivered.iter().all(|choice| *choice == Delivered::default());
        Submit {
            id: self.id,
            request: self.request.clone(),
            client: self.client,
            seed: self.seed,
            received_unix_ms: self.received_unix_ms,
            delivered: if fresh { Vec::new() } else { self.delivered.clone() },
        }
    }

    /// Takes in what a worker says about it; returns whether the work has ended. What a resubmission repeats is
    /// dropped here, so that readers see an undisturbed stream.
    pub fn take(&mut self, event: WorkEvent) -> bool {
        match &event.event {
            Event::Started(_) if std::mem::replace(&mut self.started, true) => return false,
            Event::Delta(delta) => {
                let Some(choice) = self.delivered.get_mut(usize::from(delta.choice)) else { return false };
                choice.tokens.extend(&event.tokens);
            }
            Event::ChoiceFinished(finished) => {
                let Some(choice) = self.delivered.get_mut(usize::from(finished.choice)) else { return false };
                if choice.finished.replace(finished.reason).is_some() {
                    return false;
                }
            }
            _ => {}
        }
        self.transcript.append(event.event);
        self.transcript.ended().is_some()
    }

    /// Tells its reader that it waits for the model.
    pub fn say_queued(&self, model: &str) {
        let subject = model.to_owned();
        let progress = Progress { stage: Stage::Queued, subject, done: 0, total: None, unit: Unit::Steps };
        self.transcript.append(Event::Progress(progress));
    }

    /// Ends it because its time is over; `during` says what it was doing.
    pub fn expire(&self, during: &str) {
        let tokens: usize = self.delivered.iter().map(|choice| choice.tokens.len()).sum();
        let message = format!("the deadline passed {during}, after {tokens} tokens of answer");
        self.transcript.fail(Error::new(ErrorKind::DeadlineExceeded, message).hint("allow more time, or ask for less"));
    }

    /// Ends it because nobody wants it any more.
    pub fn cancel(&self) {
        self.transcript.fail(Error::new(ErrorKind::Cancelled, "the request was cancelled"));
    }
}
