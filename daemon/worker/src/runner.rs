//! The heartbeat of one model: drain the inbox, plan, forward, draw, commit, emit.
//!
//! One OS thread owns the model, the scheduler and every sequence, so nothing here locks or waits, except on the inbox
//! when there is nothing to do. Prompts become tokens elsewhere and arrive ready. A panic or an error of a step ends the
//! worker: the daemon starts another and goes on from the tokens that were delivered.

mod pulse;
mod requests;

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use engine::{ForwardError, Model, Wanted};
use pipe::Pulse;
use scheduler::{Outcome, Plan, Scheduler};

use crate::emit::{Deaf, Emitter};
use crate::inbox::{INBOX_MESSAGES_MAX, Message};
use crate::prompt::Job;
use pulse::Heart;
use requests::Requests;

pub use requests::Places;

/// Why a runner ended before its work did.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine refused a step.
    #[error("a step failed: {0}")]
    Forward(#[from] ForwardError),
    /// The daemon is gone.
    #[error(transparent)]
    Deaf(#[from] Deaf),
}

/// What a runner works with.
pub struct Parts {
    /// The model in memory.
    pub model: Model,
    /// Decides the steps.
    pub scheduler: Scheduler,
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
}

/// One model at work.
pub struct Runner {
    model: Model,
    scheduler: Scheduler,
    inbox: Receiver<Message>,
    emitter: Emitter,
    requests: Requests,
    heart: Heart,
    /// Of the last step, a row per sample.
    logits: Vec<f32>,
}

impl Runner {
    /// Makes a runner without work.
    pub fn new(parts: Parts) -> Self {
        let Parts { model, scheduler, places, inbox, prompts, emitter, pulse } = parts;
        let now = Instant::now();
        let requests = Requests::new(places, prompts, now);
        let heart = Heart::new(emitter.clone(), pulse, now);
        Self { model, scheduler, inbox, emitter, requests, heart, logits: Vec::new() }
    }

    /// Works until nobody can send a message, or until a drain has let everything finish.
    pub fn run(mut self) -> Result<(), RunError> {
        while self.listen()? {
            let plan = self.scheduler.plan();
            if plan.rows.is_empty() {
                continue;
            }
            self.forward(&plan)?;
            let outcomes = self.draw(&plan);
            self.scheduler.commit(&outcomes);
            self.requests.drop_failed(&mut self.scheduler);
            self.emit()?;
            self.beat()?;
        }
        Ok(())
    }

    /// Takes every message that is there, and waits for one if there is nothing to compute. False ends the worker.
    fn listen(&mut self) -> Result<bool, RunError> {
        if self.scheduler.is_idle() {
            self.beat()?;
            if self.requests.drained() {
                return Ok(false);
            }
            let Ok(message) = self.inbox.recv() else { return Ok(false) };
            self.requests.hear(message, &mut self.scheduler, Instant::now());
        }
        for message in self.inbox.try_iter().take(INBOX_MESSAGES_MAX) {
            self.requests.hear(message, &mut self.scheduler, Instant::now());
        }
        self.emit()?;
        Ok(true)
    }

    fn forward(&mut self, plan: &Plan) -> Result<(), ForwardError> {
        let numbers = |row: &scheduler::Row| row.blocks.iter().map(|block| block.0).collect();
        let blocks: Vec<Vec<u32>> = plan.rows.iter().map(numbers).collect();
        let rows = plan.rows.iter().zip(&blocks).map(|(row, blocks)| engine::Row {
            tokens: &row.tokens,
            start: row.start,
            blocks,
            logits: if row.sample { Wanted::Last } else { Wanted::None },
        });
        let rows: Vec<engine::Row<'_>> = rows.collect();
        self.requests.computing(&plan.rows, Instant::now());
        self.model.forward(&rows, &mut self.logits)
    }

    /// Draws a token for every row that asked for one.
    fn draw(&mut self, plan: &Plan) -> Vec<Outcome> {
        let now = Instant::now();
        let mut logits = self.logits.chunks_exact_mut(self.model.vocabulary() as usize);
        let (requests, scheduler) = (&mut self.requests, &self.scheduler);
        let outcome = |row: &scheduler::Row| {
            if !row.sample {
                return Some(Outcome { id: row.id, token: None, finished: false });
            }
            let logits = logits.next().expect("the engine gives logits for every row that wants them");
            requests.draw(row, logits, scheduler.cached_tokens(row.id), now)
        };
        let outcomes: Vec<Outcome> = plan.rows.iter().filter_map(outcome).collect();
        self.heart.count(outcomes.iter().filter(|outcome| outcome.token.is_some()).count() as u64);
        outcomes
    }

    fn emit(&mut self) -> Result<(), Deaf> {
        self.requests.take_told().into_iter().try_for_each(|message| self.emitter.send(message))
    }

    fn beat(&mut self) -> Result<(), Deaf> {
        let (running, waiting) = (self.requests.running(), self.requests.waiting());
        self.heart.beat(self.scheduler.stats(), running, waiting, Instant::now())
    }
}
