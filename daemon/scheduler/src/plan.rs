//! The next step: which sequences run, which are admitted, which give way, and which tokens each row computes.
//!
//! Running sequences grow first, taking blocks from the last in rank when none are left; then waiting ones are
//! admitted in rank order; then rows are cut: every decode, then prompts within the budget. The first in rank gets
//! a row in every plan, so all work ends. `Scheduler::plan` is called by the worker's heartbeat before each forward.

use std::collections::{HashMap, HashSet};

use crate::policy::Rank;
use crate::sequence::Sequence;
use crate::{BlockId, Scheduler, SequenceId, TokenId, blocks_for};

/// One step of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to compute; empty if nothing waits.
    pub rows: Vec<Row>,
    /// Sequences that lost their blocks and wait again; they keep their tokens.
    pub preempted: Vec<SequenceId>,
}

/// The part of one sequence that a step computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sequence.
    pub id: SequenceId,
    /// The position of the first token.
    pub start: u32,
    /// The tokens to compute.
    pub tokens: Vec<TokenId>,
    /// The blocks of positions `0..start + tokens.len()`.
    pub blocks: Vec<BlockId>,
    /// Whether the logits of the last token are wanted, because the next token is to be drawn.
    pub sample: bool,
}

impl Row {
    fn cut(sequence: &mut Sequence, tokens: u32) -> Self {
        let (start, end) = (sequence.computed, sequence.computed + tokens);
        sequence.planned = tokens;
        Self {
            id: sequence.id,
            start,
            tokens: sequence.tokens[start as usize..end as usize].to_vec(),
            blocks: sequence.blocks[..blocks_for(end) as usize].to_vec(),
            sample: end as usize == sequence.tokens.len(),
        }
    }
}

impl Scheduler {
    /// Decides the next step. A plan that is not committed is forgotten by the next one.
    pub fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        self.grow(&mut plan);
        while let Some(rank) = self.waiting.first_key_value().map(|(rank, _)| *rank) {
            if !self.fits(rank) && !self.make_room(rank, &mut plan) {
                break;
            }
            self.admit(rank);
        }
        self.cut_rows(&mut plan);
        plan
    }

    /// Gives every running sequence the blocks of its tokens, at the cost of the last in rank.
    fn grow(&mut self, plan: &mut Plan) {
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].grow(&mut self.pool) { index += 1 } else { self.preempt_last(plan) }
        }
    }

    /// Whether a waiting sequence may run now. A block is left to each running one, so that admission does not
    /// cause a preemption in the very next steps.
    fn fits(&self, rank: Rank) -> bool {
        let (taken, revived) = self.waiting[&rank].admission_cost(&self.pool);
        let running = self.running.len() as u32;
        running < self.limits.sequences_max && taken + revived + running <= self.pool.available()
    }

    /// Preempts the fewest running sequences behind `rank` that let it run; none if that does not suffice.
    fn make_room(&mut self, rank: Rank, plan: &mut Plan) -> bool {
        let needed = self.waiting[&rank].blocks_needed();
        let (mut held, mut released) = (HashMap::new(), 0);
        for (left, victim) in self.running.iter().enumerate().rev().take_while(|(_, victim)| victim.rank > rank) {
            for block in &victim.blocks {
                let count = held.entry(*block).or_insert(0);
                *count += 1;
                released += u32::from(*count == self.pool.holders(*block));
            }
            if needed + left as u32 <= self.pool.available() + released {
                while self.running.len() > left {
                    self.preempt_last(plan);
                }
                return true;
            }
        }
        false
    }

    fn admit(&mut self, rank: Rank) {
        let mut sequence = self.waiting.remove(&rank).expect("the caller saw it waiting");
        sequence.adopt(&mut self.pool);
        let grown = sequence.grow(&mut self.pool);
        assert!(grown, "admission counted the blocks");
        let place = self.running.partition_point(|running| running.rank < rank);
        self.running.insert(place, sequence);
    }

    fn preempt_last(&mut self, plan: &mut Plan) {
        let mut victim = self.running.pop().expect("a sequence alone always fits");
        victim.preempt(&mut self.pool);
        self.preemptions += 1;
        plan.preempted.push(victim.id);
        self.waiting.insert(victim.rank, victim);
    }

    /// Cuts one row per running sequence: decodes, then prompts while the budget lasts. Where several prompts are
    /// about to compute the same block, only the first does, and the others take it over in the next plan.
    fn cut_rows(&mut self, plan: &mut Plan) {
        for sequence in &mut self.running {
            sequence.planned = 0;
            if sequence.pending() == 1 {
                plan.rows.push(Row::cut(sequence, 1));
            }
        }
        let room = self.limits.step_tokens_max - plan.rows.len() as u32;
        let mut budget = room.min(self.limits.prefill_tokens_max);
        let mut leading = HashSet::new();
        for sequence in &mut self.running {
            if budget == 0 {
                break;
            }
            if sequence.planned > 0 {
                continue;
            }
            sequence.adopt(&mut self.pool);
            let follows = match sequence.next_block() {
                Some((node, tokens)) => !leading.insert((node, tokens.to_vec())),
                None => false,
            };
            if follows {
                continue;
            }
            let tokens = sequence.pending().min(budget);
            budget -= tokens;
            plan.rows.push(Row::cut(sequence, tokens));
        }
    }
}
