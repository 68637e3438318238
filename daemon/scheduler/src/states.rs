//! The recurrent states of a model whose layers keep one in place of keys: who holds them, and which prefix they end.
//!
//! A state cannot be cut, so a prefix is reusable only where a state was kept: at the end of a full block. A state that
//! belongs to a block, or that several hold, is never written; whoever goes on from it writes another. States that nobody
//! holds are taken back oldest first, marked ones after the others. `blocks` tells when a block's contents are lost.

use std::collections::{BTreeMap, HashMap};

use crate::{BlockId, StateId};

#[derive(Clone, Copy, Default)]
struct State {
    holders: u32,
    /// The block at whose end it is.
    block: Option<BlockId>,
    /// Whether others are likely to come to it.
    marked: bool,
    /// When it was last let go.
    idle: Option<u64>,
}

/// All recurrent states of one model.
pub(crate) struct StatePool {
    states: Vec<State>,
    free: Vec<StateId>,
    of_block: HashMap<BlockId, StateId>,
    /// Those that nobody holds and a block has: unmarked before marked, then by time.
    idle: BTreeMap<(bool, u64), StateId>,
    clock: u64,
}

impl StatePool {
    pub(crate) fn new(states: u32) -> Self {
        Self {
            states: vec![State::default(); states as usize],
            free: (0..states).rev().map(StateId).collect(),
            of_block: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Whether the model has any.
    pub(crate) fn is_used(&self) -> bool {
        !self.states.is_empty()
    }

    /// Takes a state of unknown contents: a free one, else the least useful that nobody holds, and tells whose end that was.
    pub(crate) fn take(&mut self) -> Option<(StateId, Option<BlockId>)> {
        let (state, lost) = match self.free.pop() {
            Some(state) => (state, None),
            None => {
                let (_, state) = self.idle.pop_first()?;
                (state, self.entry(state).block)
            }
        };
        if let Some(block) = lost {
            self.of_block.remove(&block);
        }
        *self.entry(state) = State { holders: 1, ..State::default() };
        Some((state, lost))
    }

    /// Adds a holder.
    pub(crate) fn hold(&mut self, state: StateId) {
        let entry = self.entry(state);
        entry.holders += 1;
        if let (Some(at), marked) = (entry.idle.take(), entry.marked) {
            self.idle.remove(&(marked, at));
        }
    }

    /// Takes one holder away; the last one leaves it to its block, or frees it.
    pub(crate) fn release(&mut self, state: StateId) {
        let clock = self.clock + 1;
        let entry = self.entry(state);
        entry.holders = entry.holders.checked_sub(1).expect("only a holder releases");
        if entry.holders > 0 {
            return;
        }
        if entry.block.is_none() {
            return self.free.push(state);
        }
        entry.idle = Some(clock);
        let marked = entry.marked;
        self.clock = clock;
        self.idle.insert((marked, clock), state);
    }

    /// Whether its only holder may write it.
    pub(crate) fn is_own(&self, state: StateId) -> bool {
        let entry = self.states[state.0 as usize];
        entry.holders == 1 && entry.block.is_none()
    }

    /// The state at the end of a block.
    pub(crate) fn of_block(&self, block: BlockId) -> Option<StateId> {
        self.of_block.get(&block).copied()
    }

    /// Keeps a held state for the end of a block, unless there is one. True if it is kept.
    pub(crate) fn keep(&mut self, block: BlockId, state: StateId) -> bool {
        if self.of_block.contains_key(&block) || self.states[state.0 as usize].block.is_some() {
            return false;
        }
        self.of_block.insert(block, state);
        self.entry(state).block = Some(block);
        true
    }

    /// Says that others are likely to come to a block's state.
    pub(crate) fn mark(&mut self, block: BlockId) {
        let Some(state) = self.of_block(block) else { return };
        let entry = self.entry(state);
        if let (false, Some(at)) = (entry.marked, entry.idle) {
            self.idle.remove(&(false, at));
            self.idle.insert((true, at), state);
        }
        self.entry(state).marked = true;
    }

    /// Gives up the state of a block, because the block's contents are lost or, of one that is not marked, because there
    /// is a later one.
    pub(crate) fn forget(&mut self, block: BlockId, marked: bool) {
        let Some(state) = self.of_block(block).filter(|state| marked || !self.states[state.0 as usize].marked) else {
            return;
        };
        self.of_block.remove(&block);
        let entry = self.entry(state);
        let (idle, key) = (entry.idle.take(), entry.marked);
        (entry.block, entry.marked) = (None, false);
        if let Some(at) = idle {
            self.idle.remove(&(key, at));
            self.free.push(state);
        }
    }

    fn entry(&mut self, state: StateId) -> &mut State {
        &mut self.states[state.0 as usize]
    }

    /// Panics unless every state is in exactly one place and `holders` says how often each is held.
    #[cfg(test)]
    pub(crate) fn check(&self, holders: &[u32]) {
        for (index, entry) in self.states.iter().enumerate() {
            let state = StateId(index as u32);
            assert_eq!(entry.holders, holders[index], "the count of state {index} equals its holders");
            let idle = entry.idle.map(|at| self.idle.get(&(entry.marked, at)) == Some(&state));
            assert_eq!(idle, (entry.holders == 0 && entry.block.is_some()).then_some(true), "state {index} is in line");
            let free = self.free.contains(&state);
            assert_eq!(free, entry.holders == 0 && entry.block.is_none(), "state {index} is free or not");
            assert!(
                entry.block.is_none_or(|block| self.of_block.get(&block) == Some(&state)),
                "a block finds its state"
            );
        }
        assert_eq!(self.of_block.len(), self.states.iter().filter(|entry| entry.block.is_some()).count());
        assert_eq!(self.idle.len(), self.states.iter().filter(|entry| entry.idle.is_some()).count());
    }
}
