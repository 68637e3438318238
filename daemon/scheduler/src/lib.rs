//! Which tokens of which sequences the next step of a model computes, and in which KV blocks.
//!
//! Continuous batching with prefix reuse, chunked prefill and preemption by recompute, as a pure state machine:
//! `submit` and `cancel` change what there is to do, `plan` decides one step, `commit` records what came of it.
//! It has no clock, thread, float or I/O and never sees a tensor or a text. The worker's heartbeat owns it.

mod blocks;
mod plan;
mod policy;
mod prefix;
mod sequence;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use blocks::BlockPool;
use sequence::Sequence;

pub use plan::{Plan, Row};
pub use policy::{LEVEL_MS, Priority};

/// How many positions one KV block holds.
pub const BLOCK_TOKENS: u32 = 32;

/// How many blocks hold `tokens` positions.
pub const fn blocks_for(tokens: u32) -> u32 {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// An id in the model's vocabulary.
pub type TokenId = u32;

/// Names one sequence; the caller never uses it for two that live at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Names one KV block, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// What one model may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// KV blocks in all.
    pub blocks: u32,
    /// The most sequences in one step.
    pub sequences_max: u32,
    /// The most sequences that wait for a place; one more is refused.
    pub waiting_max: u32,
    /// The most tokens in one step; at least `sequences_max`.
    pub step_tokens_max: u32,
    /// The most prompt tokens in one step.
    pub prefill_tokens_max: u32,
}

/// A new sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its name.
    pub id: SequenceId,
    /// Its prompt, and what was generated of it elsewhere.
    pub tokens: Vec<TokenId>,
    /// The most positions that it can come to compute.
    pub tokens_max: u32,
    /// Who goes first.
    pub priority: Priority,
    /// The time, in milliseconds of any clock that does not go back.
    pub now_ms: u64,
}

/// Why a sequence was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait already.
    Busy {
        /// How many wait for a place.
        waiting: u32,
        /// How many may.
        max: u32,
    },
    /// It cannot fit even alone.
    TooLong {
        /// Blocks it may come to need.
        needs_blocks: u32,
        /// Blocks in all.
        has_blocks: u32,
    },
    /// A sequence of this id is here.
    Duplicate,
    /// It has no tokens.
    Empty,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { waiting, max } => write!(f, "{waiting} sequences wait already, and {max} may"),
            Self::TooLong { needs_blocks, has_blocks } => {
                write!(f, "the sequence may need {needs_blocks} KV blocks, and there are {has_blocks}")
            }
            Self::Duplicate => f.write_str("a sequence of this id is here already"),
            Self::Empty => f.write_str("the sequence has no tokens"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What came of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The row's sequence.
    pub id: SequenceId,
    /// The token that was drawn; `Some` exactly for rows that asked for a sample.
    pub token: Option<TokenId>,
    /// Whether the sequence is complete; its blocks are given back.
    pub finished: bool,
}

/// How the scheduler is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sequences that hold blocks.
    pub running: u32,
    /// Sequences that wait.
    pub waiting: u32,
    /// Blocks held by sequences.
    pub blocks_used: u32,
    /// Blocks held by nobody whose contents can be reused.
    pub blocks_cached: u32,
    /// Blocks in all.
    pub blocks_total: u32,
    /// Preemptions since the start.
    pub preemptions: u64,
}

/// Which tokens of which sequences the next step computes.
pub struct Scheduler {
    limits: Limits,
    pool: BlockPool,
    ranks: HashMap<SequenceId, policy::Rank>,
    /// In rank order.
    running: Vec<Sequence>,
    waiting: BTreeMap<policy::Rank, Sequence>,
    arrivals: u64,
    preemptions: u64,
}

impl Scheduler {
    /// Makes an empty scheduler.
    ///
    /// # Panics
    /// If a limit is zero (`waiting_max` aside) or a step cannot hold one token per sequence.
    pub fn new(limits: Limits) -> Self {
        assert!(limits.blocks > 0 && limits.sequences_max > 0 && limits.prefill_tokens_max > 0, "limits are positive");
        assert!(limits.step_tokens_max >= limits.sequences_max, "a step holds one token per sequence");
        Self {
            limits,
            pool: BlockPool::new(limits.blocks),
            ranks: HashMap::new(),
            running: Vec::new(),
            waiting: BTreeMap::new(),
            arrivals: 0,
            preemptions: 0,
        }
    }

    /// Takes a sequence, which then waits for the next plan.
    pub fn submit(&mut self, mut arrival: Arrival) -> Result<(), Refusal> {
        let places = self.limits.sequences_max - self.running.len() as u32;
        let waiting = (self.waiting.len() as u32).saturating_sub(places);
        arrival.tokens_max = arrival.tokens_max.max(arrival.tokens.len() as u32);
        let needs_blocks = blocks_for(arrival.tokens_max);
        if arrival.tokens.is_empty() {
            Err(Refusal::Empty)
        } else if self.ranks.contains_key(&arrival.id) {
            Err(Refusal::Duplicate)
        } else if needs_blocks > self.limits.blocks {
            Err(Refusal::TooLong { needs_blocks, has_blocks: self.limits.blocks })
        } else if self.waiting.len() as u32 >= places.saturating_add(self.limits.waiting_max) {
            Err(Refusal::Busy { waiting, max: self.limits.waiting_max })
        } else {
            self.arrivals += 1;
            let rank = policy::Rank::new(arrival.priority, arrival.now_ms, self.arrivals);
            self.ranks.insert(arrival.id, rank);
            self.waiting.insert(rank, Sequence::new(arrival, rank));
            Ok(())
        }
    }

    /// Drops a sequence and gives its blocks back at once; false if it is not here. Never called between a plan's
    /// forward and its commit.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        let Some(rank) = self.ranks.remove(&id) else { return false };
        if self.waiting.remove(&rank).is_none() {
            self.drop_running(rank);
        }
        true
    }

    /// Records what came of the rows of the last plan. Outcomes of sequences that are gone are passed over.
    ///
    /// # Panics
    /// If a row that asked for a sample has no token or the other way round, or a sequence outgrows `tokens_max`.
    pub fn commit(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let Some(rank) = self.ranks.get(&outcome.id).copied() else { continue };
            let Some(index) = self.place(rank) else { continue };
            let sequence = &mut self.running[index];
            sequence.advance(&mut self.pool);
            assert_eq!(sequence.pending() == 0, outcome.token.is_some(), "a token is drawn where all are computed");
            sequence.tokens.extend(outcome.token);
            if outcome.finished {
                self.ranks.remove(&outcome.id);
                self.drop_running(rank);
            } else {
                assert!(sequence.tokens.len() as u32 <= sequence.tokens_max, "a sequence ends at its tokens_max");
            }
        }
    }

    /// How many positions of a living sequence were taken from the prefix cache.
    pub fn cached_tokens(&self, id: SequenceId) -> u32 {
        let Some(rank) = self.ranks.get(&id) else { return 0 };
        self.waiting.get(rank).or_else(|| self.place(*rank).map(|index| &self.running[index])).map_or(0, |s| s.cached)
    }

    /// Whether there is nothing to do; otherwise a plan has rows.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// How the scheduler is.
    pub fn stats(&self) -> Stats {
        Stats {
            running: self.running.len() as u32,
            waiting: self.waiting.len() as u32,
            blocks_used: self.pool.total() - self.pool.available(),
            blocks_cached: self.pool.cached(),
            blocks_total: self.pool.total(),
            preemptions: self.preemptions,
        }
    }

    fn place(&self, rank: policy::Rank) -> Option<usize> {
        self.running.binary_search_by_key(&rank, |sequence| sequence.rank).ok()
    }

    fn drop_running(&mut self, rank: policy::Rank) {
        let index = self.place(rank).expect("a living sequence runs or waits");
        self.running.remove(index).release(&mut self.pool);
    }
}
