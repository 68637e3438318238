//! Which tokens of which sequences the next step of a model computes, and in which KV blocks.
//!
//! Continuous batching with prefix reuse, shared prompts, drafts, chunked prefill, fair turns and preemption by recompute,
//! as a pure state machine: `submit`, `draft` and `cancel` change what there is to do, `plan` decides one step, `commit`
//! records what came of it. It has no clock, thread, float or I/O and never sees a tensor or a text. The worker's
//! heartbeat owns it.

mod blocks;
mod clients;
mod leave;
mod plan;
mod policy;
mod prefix;
mod recall;
mod sequence;
mod share;
#[cfg(test)]
mod simulation;
mod states;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use blocks::BlockPool;
use clients::Clients;
use sequence::Sequence;

pub use clients::ClientId;
pub use leave::Newcomer;
pub use plan::{Ahead, BlockCopy, Plan, Row, RowState};
pub use policy::{LEVEL_MS, Priority, level};

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

/// Names one recurrent state, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub u32);

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
    /// Attending to how many positions costs as much as the rest of a token's computation.
    pub context_tokens: u32,
    /// Recurrent states in all, two a sequence at least; 0 for a model whose past is all keys and values.
    pub states: u32,
    /// Whether what the cache loses is reported by `take_evicted`.
    pub report_evicted: bool,
    /// The most tokens of one step whose logits are wanted for `Arrival::judge_from`.
    pub judged_max: u32,
}

/// Parts prefixes: what is cached of one salt is not there for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Salt(pub u64);

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
    /// Who sends it.
    pub client: ClientId,
    /// Whose prefixes it reuses, and who may reuse its own.
    pub salt: Salt,
    /// A sequence of the same client and the same tokens that is here: it waits for that prompt, and shares it.
    pub twin: Option<SequenceId>,
    /// From which position on the logits of all its tokens are wanted, not of the last alone. Those are computed here,
    /// whatever is cached.
    pub judge_from: Option<u32>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The row's sequence.
    pub id: SequenceId,
    /// The tokens that were drawn, none where no logits were wanted. A second and every further one may be there only
    /// where the one before it was the draft's.
    pub tokens: Vec<TokenId>,
    /// Whether the sequence is complete; its blocks are given back.
    pub finished: bool,
}

/// Why no more of a prompt was found computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// All of it was that can be: what is before the last token, or full blocks where states are kept.
    Nothing,
    /// The block at this position was here, and was given to others.
    Evicted {
        /// Where the missing block begins.
        position: u32,
    },
    /// Something known begins like it, and goes on differently from this position.
    Differs {
        /// The first position that differs.
        position: u32,
    },
    /// Nothing known goes on from here.
    New {
        /// Where the missing block begins.
        position: u32,
    },
}

/// What the cache holds of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The keys and values of its last full block.
    Block(BlockId),
    /// The recurrent state at its end.
    State(StateId),
}

/// Something whose contents are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub held: Held,
    /// For whom.
    pub salt: Salt,
    /// All tokens up to its end.
    pub tokens: Vec<TokenId>,
}

impl Kept {
    fn new(held: Held, (salt, tokens): (Salt, Vec<TokenId>)) -> Self {
        Self { held, salt, tokens }
    }
}

/// How much of a prefix is held or cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How many of its full blocks are.
    pub blocks: u32,
    /// How many of those can be gone on from: of a model with recurrent states, up to the last that ends in one.
    pub usable: u32,
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

/// What a drawn token costs its client, in tokens of prompt at an empty context: a decode reads all weights for few rows.
const DRAWN_TOKEN_COST: u32 = 4;

/// Where a living sequence can be found.
#[derive(Clone, Copy)]
struct Place {
    id: SequenceId,
    client: ClientId,
    priority: Priority,
    order: u64,
}

/// Which tokens of which sequences the next step computes.
pub struct Scheduler {
    limits: Limits,
    pool: BlockPool,
    places: HashMap<SequenceId, Place>,
    /// In the order of their standing.
    running: Vec<Sequence>,
    clients: Clients,
    /// Of the plan in flight: leader and fork.
    forks: Vec<(SequenceId, SequenceId)>,
    /// Whether the last step left out the first prompt in standing, to end another.
    passed_over: bool,
    /// Whether a step that read prompts was left, and none was completed since.
    left: bool,
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
        assert!(limits.judged_max > 0, "whoever wants logits gets some");
        assert!(limits.step_tokens_max >= limits.sequences_max, "a step holds one token per sequence");
        let states = limits.states;
        assert!(states == 0 || states / 2 >= limits.sequences_max, "a sequence goes on from one state to another");
        Self {
            limits,
            pool: BlockPool::new(limits.blocks, limits.states, limits.report_evicted),
            places: HashMap::new(),
            running: Vec::new(),
            clients: Clients::default(),
            forks: Vec::new(),
            passed_over: false,
            left: false,
            arrivals: 0,
            preemptions: 0,
        }
    }

    /// Takes a sequence, which then waits for the next plan.
    pub fn submit(&mut self, mut arrival: Arrival) -> Result<(), Refusal> {
        let places = self.limits.sequences_max - self.running.len() as u32;
        arrival.tokens_max = arrival.tokens_max.max(arrival.tokens.len() as u32);
        let needs_blocks = blocks_for(arrival.tokens_max);
        if arrival.tokens.is_empty() {
            return Err(Refusal::Empty);
        }
        if self.places.contains_key(&arrival.id) {
            return Err(Refusal::Duplicate);
        }
        if needs_blocks > self.limits.blocks {
            return Err(Refusal::TooLong { needs_blocks, has_blocks: self.limits.blocks });
        }
        let waiting = self.clients.waiting();
        if waiting >= places.saturating_add(self.limits.waiting_max) {
            let waiting = waiting.saturating_sub(places);
            return Err(Refusal::Busy { waiting, max: self.limits.waiting_max });
        }
        arrival.twin = arrival.twin.filter(|twin| self.is_twin(*twin, &arrival));
        self.arrivals += 1;
        let sequence = Sequence::new(arrival, self.arrivals);
        self.places.insert(sequence.id, Place::of(&sequence));
        self.clients.wait(sequence);
        Ok(())
    }

    /// Whether what is here can share its prompt with what arrives.
    fn is_twin(&self, twin: SequenceId, arrival: &Arrival) -> bool {
        let Some(place) = self.places.get(&twin) else { return false };
        let waiting = || self.clients.waiting_at(place.client, place.priority, place.order);
        let twin = self.running_index(twin).map(|index| &self.running[index]).or_else(waiting);
        (place.client, place.priority) == (arrival.client, arrival.priority)
            && twin.is_some_and(|twin| twin.in_prompt() && twin.tokens == arrival.tokens)
    }

    /// Proposes what comes next in a sequence, for the next plan only; proposals for one that is not decoding, or longer
    /// than there is room for, are cut.
    pub fn draft(&mut self, id: SequenceId, tokens: &[TokenId]) {
        if let Some(index) = self.running_index(id)
            && self.running[index].pending() == 1
        {
            self.running[index].draft = tokens.to_vec();
        }
    }

    /// Drops a sequence and gives its blocks back at once; false if it is not here. Never called between a plan's
    /// forward and its commit.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        if !self.clients.withdraw(place.client, place.priority, place.order) {
            self.drop_running(id);
        }
        true
    }

    /// Records what came of the rows of the last plan, and of their forks after them. Outcomes of sequences that are gone
    /// are passed over.
    ///
    /// # Panics
    /// If a row that asked for samples has no token or the other way round, or a sequence outgrows `tokens_max`.
    pub fn commit(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let Some(index) = self.running_index(outcome.id) else { continue };
            let drawn = outcome.tokens.len() as u32;
            let read = self.cost(&self.running[index], self.running[index].planned);
            let service = read.saturating_add(drawn * DRAWN_TOKEN_COST);
            let sequence = &mut self.running[index];
            self.left &= sequence.planned == 0 || sequence.samples > 0;
            if self.forks.iter().any(|(_, fork)| *fork == outcome.id) {
                sequence.tokens.extend(&outcome.tokens);
            } else {
                sequence.advance(&outcome.tokens, &mut self.pool);
                let id = outcome.id;
                self.fork(id, |fork| outcomes.iter().any(|outcome| outcome.id == fork));
            }
            let index = self.running_index(outcome.id).expect("forking moves nobody out");
            let sequence = &self.running[index];
            self.clients.charge(sequence.client, service);
            if outcome.finished {
                self.places.remove(&outcome.id);
                self.drop_running(outcome.id);
            } else {
                assert!(sequence.tokens.len() as u32 <= sequence.tokens_max, "a sequence ends at its tokens_max");
            }
        }
        self.forks.clear();
    }

    /// How many positions of a living sequence were taken from the prefix cache.
    pub fn cached_tokens(&self, id: SequenceId) -> u32 {
        self.running_index(id).map_or(0, |index| self.running[index].cached)
    }

    /// Why no more of a running sequence's prompt was taken from the prefix cache.
    pub fn missed(&self, id: SequenceId) -> Option<Missed> {
        self.running_index(id).and_then(|index| self.running[index].missed)
    }

    /// How much of a prefix is held or cached.
    pub fn known(&self, salt: Salt, tokens: &[TokenId]) -> Known {
        self.pool.known(salt, tokens)
    }

    /// Takes cached blocks for the full blocks of a prefix that are not known, as far as there is room: place in the
    /// prefix and block. The caller fills them before the next plan, after saving what `take_evicted` tells.
    pub fn restore(&mut self, salt: Salt, tokens: &[TokenId]) -> Vec<(u32, BlockId)> {
        self.pool.restore(salt, tokens, self.running.len() as u32)
    }

    /// Takes a recurrent state for the end of a prefix of full blocks that are all known, on the same terms; `None` if it
    /// has one.
    pub fn restore_state(&mut self, salt: Salt, tokens: &[TokenId]) -> Option<StateId> {
        self.pool.restore_state(salt, tokens)
    }

    /// What was given up since the last call, oldest first; the contents are intact until the plan that gave them up is
    /// computed, or whoever restores fills them. Empty unless `Limits::report_evicted`.
    pub fn take_evicted(&mut self) -> Vec<Kept> {
        self.pool.take_evicted()
    }

    /// The full blocks that nobody holds and whose contents are known, the newest first, each followed by the state at its
    /// end.
    pub fn kept(&self) -> impl Iterator<Item = Kept> + '_ {
        self.pool.kept()
    }

    /// Whether there is nothing to compute; otherwise a plan has rows.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && !self.clients.any_waits(|sequence| self.is_eligible(sequence))
    }

    /// How the scheduler is.
    pub fn stats(&self) -> Stats {
        Stats {
            running: self.running.len() as u32,
            waiting: self.clients.waiting(),
            blocks_used: self.pool.total() - self.pool.available(),
            blocks_cached: self.pool.cached(),
            blocks_total: self.pool.total(),
            preemptions: self.preemptions,
        }
    }

    fn drop_running(&mut self, id: SequenceId) {
        let index = self.running_index(id).expect("a living sequence runs or waits");
        let mut sequence = self.running.remove(index);
        sequence.release(&mut self.pool);
        self.clients.left(sequence.client);
    }
}
