//! The heartbeat of one model: drain the inbox, plan, forward, draw, commit, emit.
//!
//! One OS thread owns the model, the scheduler and every sequence, so nothing here locks or waits, except on the inbox
//! when there is nothing to do. Prompts become tokens elsewhere and arrive ready. A panic or an error of a step ends the
//! worker: the daemon starts another and goes on from the tokens that were delivered.

mod drafter;
mod ear;
mod guesses;
mod pace;
mod pulse;
mod requests;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use engine::{ForwardError, Model, Wanted};
use pipe::Pulse;
use scheduler::{Outcome, Plan, Scheduler, SequenceId};

use crate::emit::{Deaf, Emitter};
use crate::generation::Ticket;
use crate::inbox::{INBOX_MESSAGES_MAX, Message};
use crate::prompt::{Job, Prepared};
use crate::shelf::Shelf;
use ear::Ear;
use pace::Load;
use requests::Requests;

pub use drafter::Drafter;
pub use guesses::STEP_DRAFTS_MAX;
pub use pace::Pace;
pub use pulse::Heart;
pub use requests::{Places, priority};

/// Why a runner ended before its work did.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine refused a step.
    #[error("a step failed: {0}")]
    Forward(#[from] ForwardError),
    /// The daemon is gone.
    #[error(transparent)]
    Deaf(#[from] Deaf),
    /// A text does not become tokens; what it was for has been refused.
    #[error("the model's tokenizer does not come to an end over a text")]
    Endless,
}

/// What a runner works with.
pub struct Parts {
    /// The model in memory.
    pub model: Model,
    /// What guesses for it, if anything does.
    pub drafter: Option<Drafter>,
    /// Decides the steps.
    pub scheduler: Scheduler,
    /// How fast the machine is.
    pub pace: Pace,
    /// What bounds the requests.
    pub places: Places,
    /// What the heartbeat is told.
    pub inbox: Receiver<Message>,
    /// Where prompts become tokens.
    pub prompts: SyncSender<Job>,
    /// Where events go.
    pub emitter: Emitter,
    /// The pulse that the daemon saw last.
    pub pulse: Pulse,
    /// What memory has no room for.
    pub shelf: Option<Shelf>,
}

/// One model at work.
pub struct Runner {
    model: Model,
    drafter: Option<Drafter>,
    scheduler: Scheduler,
    inbox: Receiver<Message>,
    /// What came during the last step and is done next.
    heard: VecDeque<Message>,
    emitter: Emitter,
    requests: Requests,
    heart: Heart,
    pace: Pace,
    shelf: Option<Shelf>,
    /// Requests whose prefixes are being brought from the disk.
    fetching: BTreeMap<Ticket, Prepared>,
    /// Sequences that have lost their blocks, until their turn comes again.
    preempted: HashSet<SequenceId>,
    /// Time zero of the scheduler's milliseconds.
    epoch: Instant,
    /// Of the last step, for each row those that judge its prompt and those that are drawn from.
    logits: Vec<f32>,
}

impl Runner {
    /// Makes a runner without work.
    pub fn new(parts: Parts) -> Self {
        let Parts { model, drafter, scheduler, pace, places, inbox, prompts, emitter, pulse, shelf } = parts;
        let now = Instant::now();
        let requests = Requests::new(places, prompts, now);
        let heart = Heart::new(emitter.clone(), pulse, now);
        Self {
            model,
            drafter,
            scheduler,
            inbox,
            heard: VecDeque::new(),
            emitter,
            requests,
            heart,
            pace,
            shelf,
            fetching: BTreeMap::new(),
            preempted: HashSet::new(),
            epoch: now,
            logits: Vec::new(),
        }
    }

    /// Works until nobody can send a message, or until a drain has let everything finish.
    pub fn run(mut self) -> Result<(), RunError> {
        while self.step()? {}
        self.close_shelf();
        Ok(())
    }

    /// Hears what there is to hear and computes one step, if there is one. False ends the worker.
    fn step(&mut self) -> Result<bool, RunError> {
        if !self.listen()? {
            return Ok(false);
        }
        self.guess()?;
        let begun = Instant::now();
        let now_ms = begun.saturating_duration_since(self.epoch).as_millis() as u64;
        self.recall(now_ms);
        let plan = self.scheduler.plan(now_ms, self.pace.budget());
        self.note_preempted(&plan.preempted);
        if plan.rows.is_empty() {
            return Ok(true);
        }
        self.store_evicted();
        let load = self.load(&plan);
        if !self.forward(&plan, load, begun)? {
            self.leave();
            return Ok(true);
        }
        let outcomes = self.draw(&plan);
        self.pace.learn(load, begun.elapsed());
        self.scheduler.commit(&outcomes);
        if let Some(drafter) = &mut self.drafter {
            drafter.settle(&outcomes);
        }
        self.requests.drop_failed(&mut self.scheduler);
        self.emit()?;
        self.beat()?;
        Ok(true)
    }

    /// Takes every message that is there, and waits for one if there is nothing to compute. False ends the worker.
    fn listen(&mut self) -> Result<bool, RunError> {
        if self.scheduler.is_idle() && self.heard.is_empty() {
            self.beat()?;
            if self.requests.drained() {
                return Ok(false);
            }
            let pause = if self.model.touch_ahead() { Duration::ZERO } else { self.heart.pause() };
            match self.inbox.recv_timeout(pause) {
                Ok(message) => self.hear(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        for _ in 0..INBOX_MESSAGES_MAX {
            let Some(message) = self.heard.pop_front().or_else(|| self.inbox.try_recv().ok()) else { break };
            self.hear(message)?;
        }
        self.emit()?;
        Ok(true)
    }

    fn hear(&mut self, message: Message) -> Result<(), RunError> {
        let message = match message {
            Message::Endless => return Err(RunError::Endless),
            Message::Prepared(prepared) => self.fetch(prepared).map(Message::Prepared),
            Message::Loaded(loaded) => self.restore(loaded).map(Message::Prepared),
            other => Some(other),
        };
        if let Some(message) = message {
            self.requests.hear(message, &mut self.scheduler, Instant::now());
        }
        Ok(())
    }

    /// What a plan computes, as the pace counts it.
    fn load(&self, plan: &Plan) -> Load {
        let context = self.requests.places().context_tokens;
        let mut load = Load::default();
        for row in &plan.rows {
            let tokens = row.tokens.len() as u32;
            match tokens > row.samples {
                true => load.read(tokens, row.start, context),
                false => load.decode += tokens,
            }
        }
        load
    }

    /// Computes a plan; false if it was left for a prompt that came meanwhile.
    fn forward(&mut self, plan: &Plan, load: Load, begun: Instant) -> Result<bool, ForwardError> {
        plan.copies.iter().for_each(|copy| self.model.copy_block(copy.from.0, copy.to.0));
        let numbers = |row: &scheduler::Row| row.blocks.iter().map(|block| block.0).collect();
        let blocks: Vec<Vec<u32>> = plan.rows.iter().map(numbers).collect();
        let rows = plan.rows.iter().zip(&blocks).map(|(row, blocks)| engine::Row {
            tokens: &row.tokens,
            start: row.start,
            blocks,
            logits: match row.judged + row.samples {
                0 => Wanted::None,
                wanted => Wanted::Tail(wanted),
            },
        });
        let rows: Vec<engine::Row<'_>> = rows.collect();
        self.requests.computing(&plan.rows, Instant::now());
        if let Some(drafter) = &mut self.drafter {
            drafter.follow(plan, &self.scheduler)?;
        }
        let state = |state: scheduler::RowState| engine::State { from: state.from.map(|from| from.0), to: state.to.0 };
        let states: Vec<engine::State> = plan.rows.iter().filter_map(|row| row.state.map(state)).collect();
        let (requests, heard) = (&mut self.requests, &mut self.heard);
        let (inbox, scheduler, pace) = (&self.inbox, &self.scheduler, &self.pace);
        let mut ear = Ear { inbox, requests, heard, scheduler, pace, plan, load, begun };
        self.model.forward_while(&rows, &states, &mut self.logits, &mut || ear.listen())
    }

    /// Forgets the plan in flight.
    fn leave(&mut self) {
        self.scheduler.leave();
        if let Some(drafter) = &mut self.drafter {
            drafter.settle(&[]);
        }
    }

    /// Judges the prompts and draws for the rows that asked for it, and for their forks. What fails has no outcome.
    fn draw(&mut self, plan: &Plan) -> Vec<Outcome> {
        let now = Instant::now();
        let vocabulary = self.model.vocabulary() as usize;
        let mut logits = self.logits.as_mut_slice();
        let mut outcomes = Vec::with_capacity(plan.rows.len());
        for row in &plan.rows {
            let (judged, rest) = logits.split_at_mut(row.judged as usize * vocabulary);
            logits = rest;
            if row.judged > 0 && !self.requests.judge(row, judged.chunks_exact(vocabulary)) {
                (_, logits) = logits.split_at_mut(row.samples as usize * vocabulary);
                continue;
            }
            if row.samples == 0 {
                outcomes.push(Outcome { id: row.id, tokens: Vec::new(), finished: false });
                continue;
            }
            let (own, others) = logits.split_at_mut(row.samples as usize * vocabulary);
            logits = others;
            self.requests.draw(row, own, &self.scheduler, now, &mut outcomes);
        }
        self.requests.count_step(plan.rows.len());
        outcomes
    }

    fn emit(&mut self) -> Result<(), Deaf> {
        self.emitter.send_all(self.requests.take_told())
    }

    fn beat(&mut self) -> Result<(), Deaf> {
        let counts = (self.requests.running(), self.requests.waiting());
        self.heart.beat(self.scheduler.stats(), counts, self.requests.measures(), Instant::now())
    }
}
