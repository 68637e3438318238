//! Leaving a step before its end, for a prompt that has just come and would wait for longer ones.
//!
//! What a step has computed until then is computed again, so only one that reads parts of prompts and ends none is left, and
//! before the next is, one of its kind is completed: long prompts always move. Whether it pays in time, the worker knows.

use crate::clients::{CREDIT_STEPS, ClientId};
use crate::policy::Priority;
use crate::{Plan, Row, Scheduler, blocks_for};

/// A prompt that was not submitted yet.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Who sends it.
    pub client: ClientId,
    /// Who goes first.
    pub priority: Priority,
    /// Its tokens.
    pub tokens: u32,
    /// How many of them are not cached.
    pub pending: u32,
}

impl Scheduler {
    /// Whether the plan in flight may be left for a newcomer: its turn would be before that of every prompt that the plan
    /// reads, and there is room for it.
    pub fn gives_way(&self, plan: &Plan, newcomer: &Newcomer) -> bool {
        let running = self.running.len() as u32;
        let fits =
            running < self.limits.sequences_max && blocks_for(newcomer.tokens) + running <= self.pool.available();
        let service = self.clients.service(newcomer.client);
        let behind = |row: &Row| {
            let sequence = self.running_index(row.id).map(|index| &self.running[index]);
            row.samples == 0
                && sequence.is_some_and(|sequence| {
                    sequence.rank() <= newcomer.priority as u8
                        && sequence.pending() > newcomer.pending
                        && service <= self.clients.service(sequence.client) + CREDIT_STEPS
                })
        };
        // A state that changes in place is not there any more to begin again from.
        let again = |row: &Row| row.state.is_none_or(|state| state.from != Some(state.to));
        let mut read = plan.rows.iter().filter(|row| row.tokens.len() as u32 > row.samples).peekable();
        !self.left && fits && read.peek().is_some() && read.all(behind) && plan.rows.iter().all(again)
    }

    /// Gives up the plan in flight: its copies are made, and nothing else of it is done.
    pub fn leave(&mut self) {
        self.left = true;
    }
}
