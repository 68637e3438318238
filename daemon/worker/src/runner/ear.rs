//! What is heard while a step is computed.
//!
//! Between two layers the heartbeat looks into its inbox. New prompts go off to become tokens meanwhile; what touches a
//! sequence waits for the end of the step, in its order. A prompt that is ready has the step left for it, where the scheduler
//! allows that and the rest of the step takes longer than a part of what the prompt takes itself. The runner makes one
//! for each step.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use pipe::ToWorker;
use protocol::{Error, ErrorKind};
use scheduler::{BLOCK_TOKENS, ClientId, Newcomer, Plan, Scheduler};

use super::pace::{Load, Pace};
use super::requests::{Requests, priority};
use crate::inbox::{INBOX_MESSAGES_MAX, Message};
use crate::prompt::Prepared;

/// How long a prompt waits for the end of a step, in parts of what it takes itself.
const PATIENCE: f64 = 0.5;

/// What hears during one step.
pub(super) struct Ear<'a> {
    pub inbox: &'a Receiver<Message>,
    pub requests: &'a mut Requests,
    /// What waits for the end of the step.
    pub heard: &'a mut VecDeque<Message>,
    pub scheduler: &'a Scheduler,
    pub pace: &'a Pace,
    pub plan: &'a Plan,
    pub load: Load,
    /// When the step began.
    pub begun: Instant,
}

impl Ear<'_> {
    /// Hears what there is; false if the step is to be left.
    pub fn listen(&mut self) -> bool {
        while self.heard.len() < INBOX_MESSAGES_MAX
            && let Ok(message) = self.inbox.try_recv()
        {
            let now = Instant::now();
            let Some(message) = self.requests.overhear(message, self.scheduler, now) else { continue };
            let leave = matches!(&message, Message::Prepared(prepared) if self.outweighs(prepared, now));
            self.heard.push_back(message);
            if leave {
                return false;
            }
        }
        true
    }

    /// Whether a prompt is worth what the step has computed so far.
    fn outweighs(&self, prepared: &Prepared, now: Instant) -> bool {
        let Ok(generation) = &prepared.result else { return false };
        let tokens = generation.prompt.len() as u32;
        let known = self.scheduler.known(generation.salt, &generation.prompt);
        let cached = (known.usable * BLOCK_TOKENS).min(tokens.saturating_sub(1));
        let newcomer = Newcomer {
            client: ClientId(generation.client),
            priority: priority(generation.priority),
            tokens,
            pending: tokens - cached,
        };
        let mut own = Load::default();
        own.read(newcomer.pending, cached, self.requests.places().context_tokens);
        let Some((whole_ms, own_ms)) = self.pace.expects(self.load).zip(self.pace.expects(own)) else { return false };
        let passed_ms = now.saturating_duration_since(self.begun).as_secs_f64() * 1e3;
        whole_ms - passed_ms > own_ms * PATIENCE
            && self.requests.awaits(prepared)
            && self.scheduler.gives_way(self.plan, &newcomer)
    }
}

impl Requests {
    /// Does what a message asks that touches no sequence; returns any other.
    pub(super) fn overhear(&mut self, message: Message, scheduler: &Scheduler, now: Instant) -> Option<Message> {
        match message {
            Message::Daemon(ToWorker::Submit(submit)) => self.take_in(*submit, scheduler, now),
            Message::Daemon(ToWorker::Drain) => self.draining = true,
            Message::Daemon(ToWorker::Ask(ask)) => self.pass_on(ask),
            Message::Daemon(ToWorker::Open(_)) => tracing::error!("a second open was ignored: a worker has one model"),
            Message::Daemon(ToWorker::Encode(encode)) => {
                let message = format!("{} generates text; it does not embed or rerank", self.places().name);
                self.fail(encode.id, Error::new(ErrorKind::Unsupported, message).param("model"));
            }
            Message::Read(_) => tracing::error!("texts for an encoder were ignored: this model generates"),
            other => return Some(other),
        }
        None
    }
}
