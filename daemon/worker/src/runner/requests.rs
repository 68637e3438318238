//! The live requests of one worker: taken in, sent off to become tokens, handed to the scheduler, drawn for, ended.
//!
//! It is the only place that knows which `WorkId` is which sequence. A request is here from its submit to its last event
//! or its cancel; an answer of the prompt thread for one that is gone is dropped. The runner calls everything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use engine::text::SamplingError;
use pipe::{Ask, FromWorker, Submit, ToWorker, WorkEvent, WorkId};
use protocol::generation::{self, Delta, Started};
use protocol::measures::Measures;
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind};
use scheduler::{Arrival, ClientId, Missed, Outcome, Refusal, Row, Scheduler, SequenceId};

use crate::generation::{Choice, DrawError, Generation, Ticket};
use crate::guess::Guesser;
use crate::inbox::{Message, busy};
use crate::prompt::{Job, Prepared};

/// What a retry is told to wait while nothing is known, and the least and most it is told, in milliseconds.
const RETRY_MS: f64 = 1_000.0;
const RETRY_MS_RANGE: (f64, f64) = (250.0, 60_000.0);

/// Why a prompt is not taken in.
const PROMPTS_WAIT: &str = "too many prompts wait to be read already";

/// How often a request is told how much of its prompt is read.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What bounds the requests of a worker.
pub struct Places {
    /// The name that answers carry.
    pub name: String,
    /// The most sequences in one step.
    pub sequences_max: u32,
    /// The most requests waiting.
    pub waiting_max: u32,
    /// The most tokens guessed ahead for one sequence in one step.
    pub draft_tokens_max: u32,
    /// Attending to how many positions costs as much as the rest of a token.
    pub context_tokens: u32,
}

/// The live requests of one worker.
pub struct Requests {
    places: Places,
    prompts: SyncSender<Job>,
    /// Those that are alive; a prompt is read only while its request is.
    tickets: HashMap<WorkId, (Ticket, Arc<()>)>,
    /// Those whose prompts are tokens.
    pub(super) generations: BTreeMap<Ticket, Generation>,
    /// How many of them have computed something.
    started: u32,
    last_ticket: u64,
    pub(super) draining: bool,
    /// For which no token could be drawn in this step.
    failed: HashMap<WorkId, DrawError>,
    /// What the daemon is told next.
    told: Vec<FromWorker>,
    measures: Measures,
    /// How long requests waited of late, in milliseconds.
    waits_ms: f64,
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
            generations: BTreeMap::new(),
            started: 0,
            last_ticket: 0,
            draining: false,
            failed: HashMap::new(),
            told: Vec::new(),
            measures: Measures::default(),
            waits_ms: RETRY_MS,
            epoch,
        }
    }

    /// What bounds the requests.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// What was counted and timed.
    pub fn measures(&self) -> &Measures {
        &self.measures
    }

    /// Counts a step of so many sequences.
    pub fn count_step(&mut self, rows: usize) {
        self.measures.steps += 1;
        self.measures.rows += rows as u64;
    }

    /// Whether a request whose prompt became tokens is still wanted.
    pub fn awaits(&self, prepared: &Prepared) -> bool {
        self.tickets.get(&prepared.work).is_some_and(|(ticket, _)| *ticket == prepared.ticket)
    }

    /// Counts tokens of prefixes that were put away.
    pub fn count_stored(&mut self, tokens: u32) {
        self.measures.stored_tokens += u64::from(tokens);
    }

    /// Counts tokens of prefixes that were brought back.
    pub fn count_restored(&mut self, tokens: u32) {
        self.measures.restored_tokens += u64::from(tokens);
    }

    /// How many requests are being answered.
    pub fn running(&self) -> u32 {
        self.started
    }

    /// How many requests have computed nothing yet.
    pub fn waiting(&self) -> u32 {
        self.tickets.len() as u32 - self.started
    }

    /// Whether nothing is remembered of any request.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.generations.is_empty() && self.failed.is_empty()
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
        match self.overhear(message, scheduler, now) {
            Some(Message::Daemon(ToWorker::Cancel(work))) => self.cancel(work, scheduler),
            Some(Message::Prepared(prepared)) => self.admit(prepared, scheduler, now),
            Some(_) => tracing::error!("a message came that is the heartbeat's own"),
            None => {}
        }
    }

    /// Sends a request's prompt off to become tokens, unless too many wait already.
    pub(super) fn take_in(&mut self, submit: Submit, scheduler: &Scheduler, now: Instant) {
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
        let retry_ms = self.waits_ms.clamp(RETRY_MS_RANGE.0, RETRY_MS_RANGE.1) as u64;
        // Those that gave way are no less alive, and must all fit into another worker.
        let most = waiting_max.saturating_add(free);
        let most = most.min((self.places.requests_max() as u32).saturating_sub(self.started));
        if waiting >= most {
            self.measures.refused += 1;
            let message = format!("{waiting} requests wait for this model already; the most is {most}");
            return self.fail(work, busy(message).retry_after_ms(retry_ms));
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let (resumed, wanted) = (!submit.delivered.is_empty(), Arc::new(()));
        let job = Job::Prepare { ticket, submit: Box::new(submit), arrived: now, wanted: Arc::downgrade(&wanted) };
        match self.prompts.try_send(job) {
            Ok(()) => {
                self.measures.requests += u64::from(!resumed);
                self.tickets.insert(work, (ticket, wanted));
            }
            Err(TrySendError::Full(_)) => {
                self.measures.refused += 1;
                self.fail(work, busy(PROMPTS_WAIT).retry_after_ms(retry_ms));
            }
            Err(TrySendError::Disconnected(_)) => {
                self.fail(work, Error::internal("the thread that reads prompts has ended"))
            }
        }
    }

    /// Sends a question to the thread that can answer it.
    pub(super) fn pass_on(&mut self, ask: Ask) {
        let id = ask.id;
        let refusal = match self.prompts.try_send(Job::Ask(ask)) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => busy(PROMPTS_WAIT),
            Err(TrySendError::Disconnected(_)) => Error::internal("the thread that reads prompts has ended"),
        };
        self.told.push(FromWorker::Answer(id, Err(refusal)));
    }

    /// Drops a request and gives its blocks back.
    fn cancel(&mut self, work: WorkId, scheduler: &mut Scheduler) {
        let Some((ticket, _)) = self.tickets.get(&work) else { return };
        let ticket = *ticket;
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
        if !self.awaits(&prepared) {
            return;
        }
        let Prepared { ticket, work, result } = prepared;
        let mut generation = match result {
            Ok(generation) => generation,
            Err(error) => {
                self.forget(work, ticket);
                return self.fail(work, error);
            }
        };
        let now_ms = now.saturating_duration_since(self.epoch).as_millis() as u64;
        if let Err(refusal) = self.submit_choices(ticket, &mut generation, scheduler, now_ms) {
            self.generations.insert(ticket, *generation);
            self.cancel(work, scheduler);
            return self.fail(work, refused(refusal));
        }
        if !generation.resumed {
            let prompt_tokens = generation.prompt.len() as u32;
            let (model, seed) = (self.places.name.clone(), generation.seed);
            let max_tokens = generation.choices.first().map_or(0, Choice::tokens_max);
            let started = Started { model, prompt_tokens, seed, max_tokens };
            self.tell(work, Vec::new(), Event::Started(started));
        }
        if let Some(first) = generation.first_of_prompt() {
            self.tell(work, Vec::new(), Event::Delta(Delta { prompt: vec![first], ..Delta::default() }));
        }
        for end in std::mem::take(&mut generation.ends_untold) {
            self.tell(work, Vec::new(), Event::ChoiceFinished(end));
        }
        self.generations.insert(ticket, *generation);
        self.finish(work, ticket);
    }

    /// Hands the choices of a request to the scheduler; those that begin with its prompt wait to share it.
    fn submit_choices(
        &self,
        ticket: Ticket,
        generation: &mut Generation,
        scheduler: &mut Scheduler,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let priority = priority(generation.priority);
        let guesser = (self.places.draft_tokens_max > 0).then(|| Guesser::new(&generation.prompt));
        let (mut twin, mut judge_from) = (None, generation.judge_from());
        for choice in &mut generation.choices {
            let replayed = choice.take_replayed();
            let guesser = guesser.clone().map(|mut guesser| {
                replayed.iter().for_each(|token| guesser.push(*token));
                guesser
            });
            generation.guessers.extend(guesser);
            if choice.is_finished() {
                continue;
            }
            let mut tokens = generation.prompt.clone();
            let fresh = replayed.is_empty();
            tokens.extend(replayed);
            // The last token of an answer is drawn and never computed.
            let tokens_max = generation.prompt.len() as u32 + choice.tokens_max().saturating_sub(1);
            let (id, client, salt) = (ticket.sequence(choice.index()), ClientId(generation.client), generation.salt);
            // The prompt is judged once, and before anything is drawn.
            let judge_from = judge_from.take().filter(|_| fresh);
            scheduler.submit(Arrival { id, tokens, tokens_max, priority, client, salt, twin, judge_from, now_ms })?;
            twin = twin.or(fresh.then_some(id));
        }
        Ok(())
    }

    /// Notes which requests the coming step computes, and tells those whose prompts it does not read to their end how far
    /// they are then.
    pub fn computing(&mut self, rows: &[Row], now: Instant) {
        for row in rows {
            let generation = self.generations.get_mut(&Ticket::of(row.id).0).expect("rows are of live requests");
            if generation.clock.started.is_none() {
                generation.clock.started = Some(now);
                let waited = now.saturating_duration_since(generation.clock.arrived);
                self.waits_ms += (waited.as_secs_f64() * 1e3 - self.waits_ms) / 8.0;
                if !generation.resumed {
                    self.measures.queue.record(waited.as_micros() as u64);
                }
                self.started += 1;
            }
            let clock = &mut generation.clock;
            let due = clock.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
            if row.samples == 0 && clock.first_token.is_none() && due {
                clock.told = Some(now);
                let (total, read) = (generation.prompt.len() as u64, u64::from(row.start) + row.tokens.len() as u64);
                let event = Event::Progress(Progress {
                    stage: Stage::Prefilling,
                    subject: self.places.name.clone(),
                    done: read.min(total),
                    total: Some(total),
                    unit: Unit::Tokens,
                });
                let event = WorkEvent { id: generation.work, tokens: Vec::new(), sampler: None, event };
                self.told.push(FromWorker::Event(event));
            }
        }
    }

    /// Tells how likely the tokens of a prompt were, by the logits of those before them; false if those are no numbers.
    pub fn judge<'a>(&mut self, row: &Row, logits: impl Iterator<Item = &'a [f32]>) -> bool {
        let generation = self.generations.get(&Ticket::of(row.id).0).expect("rows are of live requests");
        let work = generation.work;
        let first = row.start + row.tokens.len() as u32 - row.samples - row.judged;
        let judged = (first + 1..).zip(logits).map(|(position, logits)| {
            generation.choices[0].judge(logits, position, generation.prompt[position as usize])
        });
        match judged.collect::<Result<Vec<_>, _>>() {
            Ok(judged) => {
                let delta = Delta { prompt: judged.into_iter().flatten().collect(), ..Delta::default() };
                self.tell(work, Vec::new(), Event::Delta(delta));
                true
            }
            Err(error) => {
                self.failed.insert(work, error);
                false
            }
        }
    }

    /// Draws the next tokens of a row's sequence and of its forks, from the logits of the row. A request that fails here
    /// gets no outcome: `drop_failed` ends it once the step is committed.
    pub fn draw(
        &mut self,
        row: &Row,
        logits: &mut [f32],
        scheduler: &Scheduler,
        now: Instant,
        outcomes: &mut Vec<Outcome>,
    ) {
        self.note_prompt(row, scheduler, now);
        // Drawing changes the logits.
        let untouched = if row.forks.is_empty() { Vec::new() } else { logits.to_vec() };
        outcomes.extend(self.draw_one(row.id, row, logits, now));
        for fork in &row.forks {
            logits.copy_from_slice(&untouched);
            outcomes.extend(self.draw_one(*fork, row, logits, now));
        }
    }

    /// Notes, at a request's first token, what its prompt came to. Of one that goes on, an earlier worker told that.
    fn note_prompt(&mut self, row: &Row, scheduler: &Scheduler, now: Instant) {
        let ticket = Ticket::of(row.id).0;
        let generation = self.generations.get_mut(&ticket).expect("rows are of live requests");
        if generation.clock.first_token.is_none() {
            generation.cached_tokens = scheduler.cached_tokens(row.id).min(generation.prompt.len() as u32);
            generation.missed = scheduler.missed(row.id).map(missed);
            if !generation.resumed {
                let waited = now.saturating_duration_since(generation.clock.arrived);
                self.measures.first_token.record(waited.as_micros() as u64);
                self.measures.prompt_tokens += generation.prompt.len() as u64;
                self.measures.cached_tokens += u64::from(generation.cached_tokens);
            }
        }
        generation.clock.token(now);
    }

    /// Draws for one choice as long as its guesses are right.
    fn draw_one(&mut self, id: SequenceId, row: &Row, logits: &mut [f32], now: Instant) -> Option<Outcome> {
        let (ticket, index) = Ticket::of(id);
        let generation = self.generations.get_mut(&ticket).expect("rows are of live requests");
        let work = generation.work;
        let choice = &mut generation.choices[usize::from(index)];
        if choice.tokens_max() == 0 {
            let end = choice.close();
            self.tell(work, Vec::new(), Event::ChoiceFinished(end));
            self.finish(work, ticket);
            // The scheduler is given a token, and forgets the sequence with it.
            return Some(Outcome { id, tokens: vec![0], finished: true });
        }
        let guesses = &row.tokens[row.tokens.len() + 1 - row.samples as usize..];
        let first = row.start + (row.tokens.len() - guesses.len()) as u32;
        let (mut all, mut tokens) = (Vec::new(), Vec::new());
        for (nth, logits) in logits.chunks_exact_mut(logits.len() / row.samples as usize).enumerate() {
            let drawn = match choice.draw(logits, first + nth as u32) {
                Ok(drawn) => drawn,
                Err(error) => {
                    self.failed.insert(work, error);
                    return None;
                }
            };
            let goes_on = drawn.finished.is_none() && guesses.get(nth) == Some(&drawn.token);
            tokens.push(drawn.token);
            all.push(drawn);
            if !goes_on {
                break;
            }
        }
        if let Some(gap) = choice.note_drawn(now) {
            self.measures.gap.record(gap.as_micros() as u64);
        }
        let right = tokens.len() - 1;
        if let Some(guesser) = generation.guessers.get_mut(usize::from(index)) {
            tokens.iter().for_each(|token| guesser.push(*token));
            guesser.learn(guesses.len(), right);
        }
        generation.speculation.drafted += guesses.len() as u32;
        generation.speculation.accepted += right as u32;
        self.measures.drafted += guesses.len() as u64;
        self.measures.accepted += right as u64;
        self.measures.tokens += tokens.len() as u64;
        let finished = all.last().is_some_and(|drawn| drawn.finished.is_some());
        for drawn in all {
            let (tokens, sampler, event) = (vec![drawn.token], drawn.sampler, Event::Delta(drawn.delta));
            self.told.push(FromWorker::Event(WorkEvent { id: work, tokens, sampler, event }));
            if let Some(end) = drawn.finished {
                self.tell(work, Vec::new(), Event::ChoiceFinished(end));
                self.finish(work, ticket);
            }
        }
        Some(Outcome { id, tokens, finished })
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
                DrawError::Sampling(SamplingError::NotANumber { .. }) => ErrorKind::Internal,
                DrawError::Sampling(_) | DrawError::Grammar(_) => ErrorKind::Invalid,
            };
            self.cancel(work, scheduler);
            self.fail(work, Error::new(kind, error.to_string()));
        }
    }

    pub(super) fn fail(&mut self, work: WorkId, error: Error) {
        self.tell(work, Vec::new(), Event::Failed(error));
    }

    fn tell(&mut self, id: WorkId, tokens: Vec<u32>, event: Event) {
        self.told.push(FromWorker::Event(WorkEvent { id, tokens, sampler: None, event }));
    }
}

/// The prompt thread and `take_in` count before the scheduler does, so a refusal here is rare.
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Busy { .. } => busy(refusal.to_string()),
        Refusal::TooLong { .. } => Error::new(ErrorKind::NoMemory, refusal.to_string()),
        Refusal::Duplicate | Refusal::Empty => Error::internal(refusal.to_string()),
    }
}

fn missed(missed: Missed) -> generation::Missed {
    match missed {
        Missed::Nothing => generation::Missed::Nothing,
        Missed::Evicted { position } => generation::Missed::Evicted(position),
        Missed::Differs { position } => generation::Missed::Differs(position),
        Missed::New { position } => generation::Missed::New(position),
    }
}

/// A priority in the scheduler's words.
pub fn priority(asked: generation::Priority) -> scheduler::Priority {
    match asked {
        generation::Priority::Low => scheduler::Priority::Low,
        generation::Priority::Normal => scheduler::Priority::Normal,
        generation::Priority::High => scheduler::Priority::High,
    }
}
