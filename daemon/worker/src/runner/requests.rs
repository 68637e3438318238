//! The live requests of one worker: taken in, sent off to become tokens, handed to the scheduler, drawn for, ended.
//!
//! It is the only place that knows which `WorkId` is which sequence. A request is here from its submit to its last event
//! or its cancel; an answer of the prompt thread for one that is gone is dropped. The runner calls everything.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use engine::text::SamplingError;
use pipe::{Ask, FromWorker, Submit, ToWorker, WorkEvent, WorkId};
use protocol::generation::Started;
use protocol::transcript::Event;
use protocol::{Error, ErrorKind};
use scheduler::{Arrival, Outcome, Refusal, Row, Scheduler};

use crate::generation::{Generation, Ticket};
use crate::inbox::{Message, busy};
use crate::prompt::{Job, Prepared};

/// What bounds the requests of a worker.
pub struct Places {
    /// The name that answers carry.
    pub name: String,
    /// The most sequences in one step.
    pub sequences_max: u32,
    /// The most requests waiting.
    pub waiting_max: u32,
}

/// The live requests of one worker.
pub struct Requests {
    places: Places,
    prompts: SyncSender<Job>,
    tickets: HashMap<WorkId, Ticket>,
    /// Those whose prompts are tokens.
    generations: HashMap<Ticket, Generation>,
    /// How many of them have computed something.
    started: u32,
    last_ticket: u64,
    draining: bool,
    /// For which no token could be drawn in this step.
    failed: HashMap<WorkId, SamplingError>,
    /// What the daemon is told next.
    told: Vec<FromWorker>,
    epoch: Instant,
}

impl Places {
    /// The most requests that can be alive.
    pub fn requests_max(&self) -> usize {
        self.sequences_max.saturating_add(self.waiting_max) as usize
    }
}

impl Requests {
    pub fn new(places: Places, prompts: SyncSender<Job>, epoch: Instant) -> Self {
        Self {
            places,
            prompts,
            tickets: HashMap::new(),
            generations: HashMap::new(),
            started: 0,
            last_ticket: 0,
            draining: false,
            failed: HashMap::new(),
            told: Vec::new(),
            epoch,
        }
    }

    /// How many requests are being answered.
    pub fn running(&self) -> u32 {
        self.started
    }

    /// How many requests have computed nothing yet.
    pub fn waiting(&self) -> u32 {
        self.tickets.len() as u32 - self.started
    }

    /// Whether a drain was asked for and everything has ended.
    pub fn drained(&self) -> bool {
        self.draining && self.tickets.is_empty()
    }

    /// What happened since the last call.
    pub fn take_told(&mut self) -> Vec<FromWorker> {
        std::mem::take(&mut self.told)
    }

    /// Does what a message asks.
    pub fn hear(&mut self, message: Message, scheduler: &mut Scheduler, now: Instant) {
        match message {
            Message::Daemon(ToWorker::Submit(submit)) => self.take_in(*submit, scheduler, now),
            Message::Daemon(ToWorker::Cancel(work)) => self.cancel(work, scheduler),
            Message::Daemon(ToWorker::Drain) => self.draining = true,
            Message::Daemon(ToWorker::Ask(ask)) => self.pass_on(ask),
            Message::Daemon(ToWorker::Open(_)) => tracing::error!("a second open was ignored: a worker has one model"),
            Message::Prepared(prepared) => self.admit(prepared, scheduler, now),
        }
    }

    /// Sends a request's prompt off to become tokens, unless too many wait already.
    fn take_in(&mut self, submit: Submit, scheduler: &Scheduler, now: Instant) {
        let work = submit.id;
        if self.tickets.contains_key(&work) {
            tracing::error!(work = work.0, "a submit was ignored: its id is in use");
            return;
        }
        if self.draining {
            return self.fail(work, Error::new(ErrorKind::Closing, "the model is being unloaded"));
        }
        let free = self.places.sequences_max.saturating_sub(scheduler.stats().running);
        let (waiting, waiting_max) = (self.waiting(), self.places.waiting_max);
        let full = || busy(format!("{waiting} requests wait for this model already; the most is {waiting_max}"));
        if waiting >= waiting_max.saturating_add(free) {
            return self.fail(work, full());
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        match self.prompts.try_send(Job::Prepare { ticket, submit: Box::new(submit), arrived: now }) {
            Ok(()) => {
                self.tickets.insert(work, ticket);
            }
            Err(TrySendError::Full(_)) => self.fail(work, full()),
            Err(TrySendError::Disconnected(_)) => {
                self.fail(work, Error::internal("the thread that reads prompts has ended"))
            }
        }
    }

    /// Sends a question to the thread that can answer it.
    fn pass_on(&mut self, ask: Ask) {
        let id = ask.id;
        let refusal = match self.prompts.try_send(Job::Ask(ask)) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => busy("too many prompts wait to be read already"),
            Err(TrySendError::Disconnected(_)) => Error::internal("the thread that reads prompts has ended"),
        };
        self.told.push(FromWorker::Answer(id, Err(refusal)));
    }

    /// Drops a request and gives its blocks back.
    fn cancel(&mut self, work: WorkId, scheduler: &mut Scheduler) {
        let Some(ticket) = self.tickets.get(&work).copied() else { return };
        for choice in self.generations.get(&ticket).into_iter().flat_map(|generation| &generation.choices) {
            scheduler.cancel(ticket.sequence(choice.index()));
        }
        self.forget(work, ticket);
    }

    fn forget(&mut self, work: WorkId, ticket: Ticket) {
        self.tickets.remove(&work);
        let generation = self.generations.remove(&ticket);
        self.started -= u32::from(generation.is_some_and(|generation| generation.clock.started.is_some()));
    }

    /// Hands a request whose prompt became tokens to the scheduler.
    fn admit(&mut self, prepared: Prepared, scheduler: &mut Scheduler, now: Instant) {
        let Prepared { ticket, work, result } = prepared;
        if self.tickets.get(&work) != Some(&ticket) {
            return;
        }
        let mut generation = match result {
            Ok(generation) => generation,
            Err(error) => {
                self.forget(work, ticket);
                return self.fail(work, error);
            }
        };
        let now_ms = now.saturating_duration_since(self.epoch).as_millis() as u64;
        if let Err(refusal) = submit_choices(ticket, &mut generation, scheduler, now_ms) {
            self.generations.insert(ticket, *generation);
            self.cancel(work, scheduler);
            return self.fail(work, refused(refusal));
        }
        if !generation.resumed {
            let prompt_tokens = generation.prompt.len() as u32;
            let started = Started { model: self.places.name.clone(), prompt_tokens, seed: generation.seed };
            self.tell(work, Vec::new(), Event::Started(started));
        }
        for end in std::mem::take(&mut generation.ends_untold) {
            self.tell(work, Vec::new(), Event::ChoiceFinished(end));
        }
        self.generations.insert(ticket, *generation);
        self.finish(work, ticket);
    }

    /// Notes which requests the coming step computes.
    pub fn computing(&mut self, rows: &[Row], now: Instant) {
        for row in rows {
            let generation = self.generations.get_mut(&Ticket::of(row.id).0).expect("rows are of live requests");
            if generation.clock.started.is_none() {
                generation.clock.started = Some(now);
                self.started += 1;
            }
        }
    }

    /// Draws the next token of a row's sequence; `cached` is how many of its tokens the prefix cache gave. `None` if the
    /// request fails here: `drop_failed` ends it once the step is committed.
    pub fn draw(&mut self, row: &Row, logits: &mut [f32], cached: u32, now: Instant) -> Option<Outcome> {
        let (ticket, choice) = Ticket::of(row.id);
        let generation = self.generations.get_mut(&ticket).expect("rows are of live requests");
        if generation.clock.first_token.is_none() {
            generation.cached_tokens = cached;
        }
        generation.clock.token(now);
        let work = generation.work;
        let drawn = match generation.choices[usize::from(choice)].draw(logits, row.start + row.tokens.len() as u32) {
            Ok(drawn) => drawn,
            Err(error) => {
                self.failed.insert(work, error);
                return None;
            }
        };
        self.tell(work, vec![drawn.token], Event::Delta(drawn.delta));
        let finished = drawn.finished.is_some();
        if let Some(end) = drawn.finished {
            self.tell(work, Vec::new(), Event::ChoiceFinished(end));
            self.finish(work, ticket);
        }
        Some(Outcome { id: row.id, token: Some(drawn.token), finished })
    }

    /// Ends a request whose choices are all complete.
    fn finish(&mut self, work: WorkId, ticket: Ticket) {
        if let Some(finished) = self.generations.get(&ticket).and_then(Generation::finished) {
            self.forget(work, ticket);
            self.tell(work, Vec::new(), Event::Finished(finished));
        }
    }

    /// Ends the requests for which no token could be drawn.
    pub fn drop_failed(&mut self, scheduler: &mut Scheduler) {
        for (work, error) in std::mem::take(&mut self.failed) {
            let kind = match error {
                SamplingError::NothingAllowed { .. } | SamplingError::OutOfRange { .. } => ErrorKind::Invalid,
                SamplingError::NotANumber { .. } => ErrorKind::Internal,
            };
            self.cancel(work, scheduler);
            self.fail(work, Error::new(kind, error.to_string()));
        }
    }

    fn fail(&mut self, work: WorkId, error: Error) {
        self.tell(work, Vec::new(), Event::Failed(error));
    }

    fn tell(&mut self, id: WorkId, tokens: Vec<u32>, event: Event) {
        self.told.push(FromWorker::Event(WorkEvent { id, tokens, event }));
    }
}

fn submit_choices(
    ticket: Ticket,
    generation: &mut Generation,
    scheduler: &mut Scheduler,
    now_ms: u64,
) -> Result<(), Refusal> {
    let priority = match generation.priority {
        protocol::generation::Priority::Low => scheduler::Priority::Low,
        protocol::generation::Priority::Normal => scheduler::Priority::Normal,
        protocol::generation::Priority::High => scheduler::Priority::High,
    };
    for choice in generation.choices.iter_mut().filter(|choice| !choice.is_finished()) {
        let mut tokens = generation.prompt.clone();
        tokens.append(&mut choice.take_replayed());
        // The last token of an answer is drawn and never computed.
        let tokens_max = generation.prompt.len() as u32 + choice.tokens_max() - 1;
        let id = ticket.sequence(choice.index());
        scheduler.submit(Arrival { id, tokens, tokens_max, priority, now_ms })?;
    }
    Ok(())
}

/// The prompt thread and `take_in` count before the scheduler does, so a refusal here is rare.
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Busy { .. } => busy(refusal.to_string()),
        Refusal::TooLong { .. } => Error::new(ErrorKind::NoMemory, refusal.to_string()),
        Refusal::Duplicate | Refusal::Empty => Error::internal(refusal.to_string()),
    }
}
