//! The next step: which sequences run, which are admitted and which give way.
//!
//! Running sequences grow first, taking blocks from the last in standing when none are left; then waiting ones are
//! admitted in the order of their turns; then `share` cuts the rows. A sequence gives way to one of a higher level, and a
//! client that runs two or more gives one up for a client that runs none, unless that one has had far more. The first in
//! standing always runs on, so all work ends. `Scheduler::plan` is called by the worker's heartbeat before each forward.

use std::collections::{BTreeMap, HashMap};

use crate::clients::{CREDIT_STEPS, ClientId, Head};
use crate::sequence::Sequence;
use crate::{BlockId, Place, Scheduler, SequenceId, StateId, TokenId};

/// One step of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blocks to be copied before anything is computed, in this order.
    pub copies: Vec<BlockCopy>,
    /// What to compute; empty if nothing waits.
    pub rows: Vec<Row>,
    /// Sequences that lost their blocks and wait again; they keep their tokens.
    pub preempted: Vec<SequenceId>,
}

/// A block whose beginning goes on differently in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// What is copied, and stays.
    pub from: BlockId,
    /// Where to.
    pub to: BlockId,
    /// How many positions count, from the first on; the others are computed before they are read.
    pub positions: u32,
}

/// The part of one sequence that a step computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sequence.
    pub id: SequenceId,
    /// The position of the first token.
    pub start: u32,
    /// The tokens to compute; after the sequence's own come those of its draft.
    pub tokens: Vec<TokenId>,
    /// The blocks of positions `0..start + tokens.len()`.
    pub blocks: Vec<BlockId>,
    /// Where its recurrent state lies; `None` for a model without.
    pub state: Option<RowState>,
    /// Of how many of the last tokens the logits are wanted: one more than the draft has, or none.
    pub samples: u32,
    /// Of how many tokens just before those the logits are wanted too, to judge the tokens after them.
    pub judged: u32,
    /// Sequences of the same prompt that draw their first token from this row's logits.
    pub forks: Vec<SequenceId>,
}

/// Where a row's recurrent state comes from and goes to. No other row names `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowState {
    /// The state to go on from, which stays unless it is `to`; `None` at the beginning.
    pub from: Option<StateId>,
    /// Where the state after the row's last token is left.
    pub to: StateId,
}

/// A sequence that decodes, for a second model that guesses what comes next.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a> {
    /// All its tokens.
    pub tokens: &'a [TokenId],
    /// The blocks of their positions, and of those that may be guessed.
    pub blocks: &'a [BlockId],
    /// How many positions after its tokens those blocks hold, as far as there may be tokens.
    pub room: u32,
}

impl Scheduler {
    /// Decides a step that computes as much of prompts as `prefill_tokens` at an empty context cost. The copies and rows
    /// of a plan are done and committed, or the plan is left, before the next one is asked for.
    pub fn plan(&mut self, now_ms: u64, prefill_tokens: u32) -> Plan {
        let mut plan = Plan::default();
        self.age(now_ms);
        self.grow(&mut plan);
        while let Some(head) = self.next_admission(now_ms, &mut plan) {
            self.admit(head, now_ms, &mut plan);
        }
        self.cut_rows(prefill_tokens, &mut plan);
        let served = self.running.iter_mut().filter(|sequence| sequence.planned > 0 || sequence.follows);
        served.for_each(|sequence| sequence.served_ms = now_ms);
        plan
    }

    /// Lets those count as more urgent whose prompts were passed over for long, so that nobody who was admitted waits for ever.
    fn age(&mut self, now_ms: u64) {
        let mut aged = false;
        self.running.iter_mut().for_each(|sequence| aged |= sequence.age(now_ms));
        if aged {
            self.running.sort_by_key(Sequence::standing);
        }
    }

    /// Gives every running sequence what others have computed of it, and the blocks of its other tokens, at the cost of the
    /// last in standing.
    fn grow(&mut self, plan: &mut Plan) {
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].adopt(&mut self.pool) {
                self.running[index].explain(&self.pool);
            }
            if self.running[index].grow(&mut self.pool, &mut plan.copies) {
                index += 1;
            } else {
                assert!(self.running.len() > 1, "a sequence alone always fits");
                self.preempt(self.running.len() - 1, plan);
            }
        }
    }

    /// Whose turn it is to be admitted, once there is room for it.
    fn next_admission(&mut self, now_ms: u64, plan: &mut Plan) -> Option<Head> {
        if self.clients.waiting() == 0 {
            return None;
        }
        let heads = self.clients.heads(now_ms, |sequence| self.is_eligible(sequence));
        let first = *heads.first()?;
        if self.fits(&first) {
            return Some(first);
        }
        // Behind the first, only clients with nothing running may take a place, and only from one with several.
        let turns = heads.into_iter().enumerate().filter(|(index, head)| *index == 0 || head.running == 0);
        for (_, head) in turns {
            if let Some(level) = self.make_room(&head, plan) {
                return Some(Head { level, ..head });
            }
        }
        None
    }

    /// Whether a sequence waits to share the prompt of one that is still being read.
    pub(crate) fn awaits_twin(&self, sequence: &Sequence) -> bool {
        let Some(place) = sequence.twin.and_then(|twin| self.places.get(&twin)) else { return false };
        if place.order > sequence.order {
            return false;
        }
        match self.running_index(place.id) {
            Some(index) => self.running[index].in_prompt(),
            None => self.clients.waiting_at(place.client, place.priority, place.order).is_some_and(Sequence::in_prompt),
        }
    }

    pub(crate) fn waiting(&self, head: &Head) -> &Sequence {
        self.clients.waiting_at(head.client, head.priority, head.order).expect("a head waits")
    }

    /// Whether a waiting sequence may run now. A block is left to each running one, so that admission does not
    /// cause a preemption in the very next steps.
    pub(crate) fn fits(&self, head: &Head) -> bool {
        let (taken, revived) = self.waiting(head).admission_cost(&self.pool);
        let running = self.running.len() as u32;
        running < self.limits.sequences_max && taken + revived + running <= self.pool.available()
    }

    /// Preempts the fewest running sequences that must give way to `head` and let it run; `None` if that does not
    /// suffice. Returns the level it runs at: never below that of those it replaces, or they would be back at once.
    fn make_room(&mut self, head: &Head, plan: &mut Plan) -> Option<u8> {
        let needed = self.waiting(head).blocks_needed();
        let mut counts: BTreeMap<ClientId, u32> = BTreeMap::new();
        self.running.iter().for_each(|running| *counts.entry(running.client).or_default() += 1);
        let (mut held, mut released) = (HashMap::new(), 0);
        let (mut victims, mut level) = (Vec::new(), head.level);
        for (index, victim) in self.running.iter().enumerate().rev() {
            let count = counts.entry(victim.client).or_default();
            let ahead = head.service > self.clients.service(victim.client) + CREDIT_STEPS;
            let turn = head.running == 0 && *count >= 2 && victim.priority <= head.priority && !ahead;
            if victim.level >= head.level && !turn {
                continue;
            }
            *count -= 1;
            victims.push(index);
            level = level.max(victim.level);
            for block in &victim.blocks {
                let count = held.entry(*block).or_insert(0);
                *count += 1;
                released += u32::from(*count == self.pool.holders(*block));
            }
            let left = (self.running.len() - victims.len()) as u32;
            if needed + left <= self.pool.available() + released {
                victims.into_iter().for_each(|index| self.preempt(index, plan));
                return Some(level);
            }
        }
        None
    }

    fn admit(&mut self, head: Head, now_ms: u64, plan: &mut Plan) {
        let sequence = self.clients.admit(head.client, head.priority, head.order, now_ms);
        let mut sequence = sequence.expect("the caller saw it waiting");
        (sequence.level, sequence.served_ms) = (head.level, now_ms);
        sequence.adopt(&mut self.pool);
        sequence.adopt_part(&mut self.pool, &mut plan.copies);
        sequence.explain(&self.pool);
        let grown = sequence.grow(&mut self.pool, &mut plan.copies);
        assert!(grown, "admission counted the blocks");
        self.run(sequence);
    }

    /// Puts a sequence among those that run.
    pub(crate) fn run(&mut self, sequence: Sequence) {
        let place = self.running.partition_point(|running| running.standing() < sequence.standing());
        self.running.insert(place, sequence);
    }

    fn preempt(&mut self, index: usize, plan: &mut Plan) {
        let mut victim = self.running.remove(index);
        victim.preempt(&mut self.pool);
        self.preemptions += 1;
        plan.preempted.push(victim.id);
        let client = victim.client;
        self.clients.wait(victim);
        self.clients.left(client);
    }

    /// Where a sequence is among those that run.
    pub(crate) fn running_index(&self, id: SequenceId) -> Option<usize> {
        self.running.iter().position(|sequence| sequence.id == id)
    }
}

impl Place {
    /// Where a new sequence can be found from now on.
    pub(crate) fn of(sequence: &Sequence) -> Self {
        Self { id: sequence.id, client: sequence.client, priority: sequence.priority, order: sequence.order }
    }
}
