//! One piece of work, from its admission to the end of its transcript: what is asked, how far it has come, and how it
//! goes on after its worker's death. It knows no process; `supervisor` moves it between queue and worker. A generation
//! goes on from its tokens; texts to be read whole (`encoding`) are asked for again unless their results are there.

mod encoding;

use std::sync::Arc;

use pipe::{Delivered, Encode, Submit, ToWorker, WorkEvent, WorkId};
use protocol::generation::GenerateRequest;
use protocol::trace::TraceParent;
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::wire::encoded_bytes;
use protocol::{Error, ErrorKind};
use tokio::time::Instant;

use super::Asker;
use crate::time::now_ms;
use crate::transcript::Transcript;

pub use encoding::Encoding;

/// A piece of work that goes on.
#[derive(Debug)]
pub struct Work {
    /// Its name on every pipe: its transcript's.
    pub id: WorkId,
    /// Where its events go.
    pub transcript: Arc<Transcript>,
    /// When it is given up.
    pub deadline: Instant,
    /// Whose share of the places it takes, if that is bounded.
    pub holder: Option<u64>,
    /// How many bytes were asked, which are kept until the end.
    pub bytes: u64,
    /// How many workers died while answering it, since it last came further.
    deaths: u32,
    /// Whether it came further since the last death.
    further: bool,
    /// How many tokens it may take in all, if that is limited.
    tokens_allowed: Option<u64>,
    /// Where it stands in a trace.
    trace: Option<TraceParent>,
    task: Task,
    started: bool,
}

/// What is asked, and what of it was delivered.
#[derive(Debug)]
pub enum Task {
    /// Text.
    Generate(Box<Generation>),
    /// Vectors or scores.
    Encode(Encoding),
}

impl Task {
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Generate(generation) => encoded_bytes(&generation.request),
            Self::Encode(encoding) => encoding.bytes(),
        };
        // What could not be written did not come over the socket either.
        bytes.map_or(0, |bytes| bytes as u64)
    }
}

/// A text that is being generated.
#[derive(Debug)]
pub struct Generation {
    request: GenerateRequest,
    /// Who asks.
    asker: Asker,
    /// The seed in use.
    seed: u64,
    /// When it arrived, by the wall clock.
    received_unix_ms: i64,
    delivered: Vec<Delivered>,
    /// How many tokens of the prompt were reported.
    prompt_told: u32,
}

impl Generation {
    /// One with nothing delivered.
    pub fn new(request: GenerateRequest, asker: Asker, seed: u64) -> Self {
        let delivered = vec![Delivered::default(); usize::from(request.choices)];
        Self { request, asker, seed, received_unix_ms: now_ms(), delivered, prompt_told: 0 }
    }

    /// The message that gives it to a worker; after a death it says what was delivered before.
    fn submit(&self, id: WorkId) -> Submit {
        let fresh = self.delivered.iter().all(|choice| *choice == Delivered::default());
        Submit {
            id,
            request: self.request.clone(),
            client: self.asker.client,
            salt: self.asker.salt,
            seed: self.seed,
            received_unix_ms: self.received_unix_ms,
            delivered: if fresh { Vec::new() } else { self.delivered.clone() },
            prompt_told: self.prompt_told,
            tokens_allowed: None,
            trace: None,
        }
    }

    /// Takes in what a worker says about it; false where that is a repetition.
    fn take(&mut self, event: &WorkEvent) -> bool {
        match &event.event {
            Event::Delta(delta) => {
                let Some(choice) = self.delivered.get_mut(usize::from(delta.choice)) else { return false };
                choice.tokens.extend(&event.tokens);
                choice.sampler = event.sampler.or(choice.sampler);
                self.prompt_told += delta.prompt.len() as u32;
                true
            }
            Event::ChoiceFinished(finished) => {
                let choice = self.delivered.get_mut(usize::from(finished.choice));
                choice.is_some_and(|choice| choice.finished.replace(finished.reason).is_none())
            }
            Event::Embedded(_) | Event::Scored(_) => false,
            _ => true,
        }
    }
}

impl Work {
    /// Makes the work of a request that was admitted.
    pub fn new(transcript: Arc<Transcript>, task: Task, deadline: Instant, asker: &Asker) -> Self {
        Self {
            id: WorkId(transcript.id().0),
            transcript,
            deadline,
            holder: asker.holder,
            bytes: task.bytes(),
            deaths: 0,
            further: false,
            tokens_allowed: asker.tokens,
            trace: asker.trace,
            task,
            started: false,
        }
    }

    /// Returns the message that gives it to a worker.
    pub fn submit(&self) -> ToWorker {
        let (tokens_allowed, trace) = (self.tokens_allowed, self.trace);
        match &self.task {
            Task::Generate(generation) => {
                ToWorker::Submit(Box::new(Submit { tokens_allowed, trace, ..generation.submit(self.id) }))
            }
            Task::Encode(encoding) => {
                ToWorker::Encode(Box::new(Encode { tokens_allowed, trace, ..encoding.submit(self.id) }))
            }
        }
    }

    /// Takes in what a worker says about it; returns whether the work has ended. What a resubmission repeats is
    /// dropped here, so that readers see an undisturbed stream.
    pub fn take(&mut self, mut event: WorkEvent) -> bool {
        if matches!(event.event, Event::Started(_)) {
            if std::mem::replace(&mut self.started, true) {
                return false;
            }
            self.deaths = 0;
        }
        let news = match &mut self.task {
            Task::Generate(generation) => generation.take(&event),
            Task::Encode(encoding) => encoding.take(&mut event.event),
        };
        if news {
            self.further |= !matches!(event.event, Event::Started(_) | Event::Progress(_));
            self.transcript.append(event.event);
        }
        self.transcript.ended().is_some()
    }

    /// Tells its reader that it waits for the model.
    pub fn say_queued(&self, model: &str) {
        let subject = model.to_owned();
        let progress = Progress { stage: Stage::Queued, subject, done: 0, total: None, unit: Unit::Steps };
        self.transcript.append(Event::Progress(progress));
    }

    /// Notes that its worker died; whether it may be tried again, and else how often that was. What came further since
    /// the last death was not the cause of this one, and what no worker had begun with only may have been: it is given
    /// twice as many.
    pub fn outlives(&mut self, deaths_max: u32) -> Result<(), u32> {
        self.deaths = if std::mem::take(&mut self.further) { 0 } else { self.deaths.saturating_add(1) };
        let most = if self.started { deaths_max } else { deaths_max.saturating_mul(2) };
        if self.deaths < most { Ok(()) } else { Err(self.deaths) }
    }

    /// Ends it because its time is over; `during` says what it was doing.
    pub fn expire(&self, during: &str) {
        let come = match &self.task {
            Task::Generate(generation) => {
                let tokens: usize = generation.delivered.iter().map(|choice| choice.tokens.len()).sum();
                format!("{tokens} tokens of answer")
            }
            Task::Encode(encoding) => encoding.progress(),
        };
        let message = format!("the deadline passed {during}, after {come}");
        self.transcript.fail(Error::new(ErrorKind::DeadlineExceeded, message).hint("allow more time, or ask for less"));
    }

    /// Ends it because nobody wants it any more.
    pub fn cancel(&self) {
        self.transcript.fail(Error::new(ErrorKind::Cancelled, "the request was cancelled"));
    }
}

#[cfg(test)]
mod tests {
    use protocol::encode::{Overlong, RerankRequest};
    use protocol::generation::{Delta, Priority, Prompt, PromptToken, Started};

    use super::*;

    #[test]
    fn deaths_count_while_a_request_comes_no_further_and_twice_as_many_before_it_began() {
        let config = crate::config::Config::testing("/nowhere".as_ref());
        let transcripts = crate::transcript::Transcripts::new(&config.transcripts);
        let asker = Asker { client: 0, salt: 0, holder: None, tokens: None, trace: None };
        let generation = Generation::new(GenerateRequest::new(None, Prompt::Tokens(vec![1; 9])), asker, 1);
        let mut work = Work::new(transcripts.open(), Task::Generate(Box::new(generation)), Instant::now(), &asker);
        let say = |work: &mut Work, tokens: Vec<u32>, event| {
            assert!(!work.take(WorkEvent { id: WorkId(1), tokens, sampler: None, event }));
        };
        for _ in 1..6 {
            work.outlives(3).unwrap();
        }
        say(
            &mut work,
            vec![],
            Event::Started(Started { model: "m".to_owned(), prompt_tokens: 9, seed: 1, max_tokens: 90 }),
        );
        for _ in 0..9 {
            work.outlives(3).unwrap();
            say(&mut work, vec![7], Event::Delta(Delta { tokens: 1, ..Delta::default() }));
        }
        for _ in 0..3 {
            work.outlives(3).unwrap();
        }
        assert_eq!(work.outlives(3), Err(3));
    }

    #[test]
    fn what_is_asked_counts_by_its_bytes() {
        let asker = Asker { client: 0, salt: 0, holder: None, tokens: None, trace: None };
        let of = |text: &str| {
            let request = GenerateRequest::new(None, Prompt::Text(text.to_owned()));
            Task::Generate(Box::new(Generation::new(request, asker, 1))).bytes()
        };
        assert_eq!(of(&"x".repeat(1_000)), of("") + 1_000);
        let documents = |text: &str| {
            let rerank = RerankRequest {
                model: None,
                query: "q".to_owned(),
                documents: vec![text.to_owned(); 3],
                overlong: Overlong::Refuse,
                priority: Priority::Normal,
                deadline_ms: None,
            };
            Task::Encode(rerank.into()).bytes()
        };
        assert_eq!(documents(&"x".repeat(1_000)), documents("") + 3_000);
    }

    #[test]
    fn another_worker_is_told_how_much_of_the_prompt_was_reported() {
        let asker = Asker { client: 0, salt: 0, holder: None, tokens: None, trace: None };
        let mut generation = Generation::new(GenerateRequest::new(None, Prompt::Tokens(vec![1; 9])), asker, 1);
        for count in [1, 4] {
            let token = PromptToken { token: 1, bytes: Vec::new(), logprob: None, top: Vec::new() };
            let event = Event::Delta(Delta { prompt: vec![token; count], ..Delta::default() });
            assert!(generation.take(&WorkEvent { id: WorkId(1), tokens: Vec::new(), sampler: None, event }));
        }
        let again = generation.submit(WorkId(1));
        assert_eq!((again.prompt_told, again.delivered.len()), (5, 0), "none of the answer");
    }
}
