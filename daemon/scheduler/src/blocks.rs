//! The KV blocks of one model: who holds them, which are free, and which are kept for their contents.
//!
//! A block has a count of holders. At zero it is free if nothing knows its contents, or cached if the prefix index
//! does; cached blocks are taken back oldest first. Everything is O(1). The pool knows no sequences: `plan` and
//! `lib` hold and release. Holders release their last block first, so a prefix outlives what follows it.

use crate::prefix::{Nearest, Node, PrefixIndex};
use crate::states::StatePool;
use crate::{BLOCK_TOKENS, BlockId, Held, Kept, Known, Missed, Salt, StateId, TokenId};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Block {
    holders: u32,
    /// Neighbours in the list of cached blocks.
    older: u32,
    newer: u32,
}

/// All KV blocks of one model.
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    oldest: u32,
    newest: u32,
    cached: u32,
    index: PrefixIndex,
    /// The recurrent states, which blocks end in.
    pub(crate) states: StatePool,
    /// What was taken back since the last question, if anybody asks.
    evicted: Option<Vec<Kept>>,
}

/// Notes that contents are lost, if anybody asks.
fn note(evicted: &mut Option<Vec<Kept>>, held: Held, path: impl FnOnce() -> (Salt, Vec<TokenId>)) {
    if let Some(evicted) = evicted {
        evicted.push(Kept::new(held, path()));
    }
}

impl BlockPool {
    pub(crate) fn new(blocks: u32, states: u32, report_evicted: bool) -> Self {
        Self {
            blocks: vec![Block { holders: 0, older: NONE, newer: NONE }; blocks as usize],
            free: (0..blocks).rev().map(BlockId).collect(),
            oldest: NONE,
            newest: NONE,
            cached: 0,
            index: PrefixIndex::new(blocks),
            states: StatePool::new(states),
            evicted: report_evicted.then(Vec::new),
        }
    }

    /// How many blocks can be taken.
    pub(crate) fn available(&self) -> u32 {
        self.free.len() as u32 + self.cached
    }

    /// How many blocks nobody holds but the index knows.
    pub(crate) fn cached(&self) -> u32 {
        self.cached
    }

    pub(crate) fn total(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub(crate) fn holders(&self, block: BlockId) -> u32 {
        self.blocks[block.0 as usize].holders
    }

    /// Takes a block of unknown contents: a free one, else the longest-unused cached one.
    pub(crate) fn take(&mut self) -> Option<BlockId> {
        let block = match self.free.pop() {
            Some(block) => block,
            None if self.oldest == NONE => return None,
            None => {
                let oldest = BlockId(self.oldest);
                self.unlink(oldest);
                if self.index.is_full(oldest) {
                    note(&mut self.evicted, Held::Block(oldest), || self.index.path(oldest));
                }
                if let Some(state) = self.states.of_block(oldest) {
                    note(&mut self.evicted, Held::State(state), || self.index.path(oldest));
                }
                self.index.remove(oldest);
                self.states.forget(oldest, true);
                oldest
            }
        };
        self.blocks[block.0 as usize].holders = 1;
        Some(block)
    }

    /// Takes a recurrent state of unknown contents.
    pub(crate) fn take_state(&mut self) -> Option<StateId> {
        let (state, lost) = self.states.take()?;
        if let Some(block) = lost {
            note(&mut self.evicted, Held::State(state), || self.index.path(block));
        }
        Some(state)
    }

    /// Adds a holder to a block that is held or cached.
    pub(crate) fn hold(&mut self, block: BlockId) {
        if self.holders(block) == 0 {
            self.unlink(block);
        }
        self.blocks[block.0 as usize].holders += 1;
    }

    /// Takes one holder away; the last one makes the block free or cached.
    pub(crate) fn release(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block.0 as usize];
        entry.holders = entry.holders.checked_sub(1).expect("only a holder releases");
        if entry.holders > 0 {
            return;
        }
        if self.index.contains(block) { self.link(block) } else { self.free.push(block) }
    }

    /// The block that holds `tokens` after `parent`, held by nobody on behalf of the caller.
    pub(crate) fn find(&self, parent: Node, tokens: &[TokenId]) -> Option<(BlockId, Node)> {
        self.index.find(parent, tokens)
    }

    /// The block after `parent` that begins most like `tokens`.
    pub(crate) fn nearest(&self, parent: Node, tokens: &[TokenId]) -> Option<Nearest> {
        self.index.nearest(parent, tokens)
    }

    /// Why nothing holds `tokens` after `parent`, which ends at `position`.
    pub(crate) fn missed(&self, parent: Node, tokens: &[TokenId], position: u32) -> Missed {
        self.index.missed(parent, tokens, position)
    }

    /// What was lost since the last call, oldest first.
    pub(crate) fn take_evicted(&mut self) -> Vec<Kept> {
        self.evicted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The full blocks that nobody holds and whose contents are known, newest first, each followed by the state at its end.
    pub(crate) fn kept(&self) -> impl Iterator<Item = Kept> + '_ {
        let first = (self.newest != NONE).then_some(self.newest);
        let older = |block: &u32| Some(self.blocks[*block as usize].older).filter(|older| *older != NONE);
        let full = std::iter::successors(first, older).map(BlockId).filter(|block| self.index.is_full(*block));
        full.flat_map(|block| {
            let kept = |held| Kept::new(held, self.index.path(block));
            let state = self.states.of_block(block).map(|state| kept(Held::State(state)));
            std::iter::once(kept(Held::Block(block))).chain(state)
        })
    }

    /// The known blocks at the beginning of a prefix.
    fn walk<'a>(&'a self, salt: Salt, tokens: &'a [TokenId]) -> impl Iterator<Item = BlockId> + 'a {
        let mut node = Node::Start(salt);
        tokens.chunks_exact(BLOCK_TOKENS as usize).map_while(move |tokens| {
            let (block, next) = self.find(node, tokens)?;
            node = next;
            Some(block)
        })
    }

    /// How many full blocks of a prefix are known, and how many of them can be gone on from.
    pub(crate) fn known(&self, salt: Salt, tokens: &[TokenId]) -> Known {
        let mut known = Known::default();
        for block in self.walk(salt, tokens) {
            known.blocks += 1;
            if !self.states.is_used() || self.states.of_block(block).is_some() {
                known.usable = known.blocks;
            }
        }
        known
    }

    /// Takes cached blocks for the full blocks of a prefix that are not known, while more than `spare` can be taken.
    /// Returns which they are, for the caller to fill.
    pub(crate) fn restore(&mut self, salt: Salt, tokens: &[TokenId], spare: u32) -> Vec<(u32, BlockId)> {
        let (mut held, mut restored, mut node) = (Vec::new(), Vec::new(), Node::Start(salt));
        for (place, tokens) in tokens.chunks_exact(BLOCK_TOKENS as usize).enumerate() {
            let block = match self.find(node, tokens) {
                Some((block, next)) => {
                    self.hold(block);
                    node = next;
                    block
                }
                None if self.available() > spare => {
                    let Some(block) = self.take() else { break };
                    node = self.enter(block, node, tokens);
                    restored.push((place as u32, block));
                    block
                }
                None => break,
            };
            held.push(block);
        }
        held.into_iter().rev().for_each(|block| self.release(block));
        restored
    }

    /// Takes a state for the end of a prefix of full blocks, for the caller to fill; none if it has one, or a block of it
    /// is not known.
    pub(crate) fn restore_state(&mut self, salt: Salt, tokens: &[TokenId]) -> Option<StateId> {
        let last = self.walk(salt, tokens).nth((tokens.len() / BLOCK_TOKENS as usize).checked_sub(1)?)?;
        if self.states.of_block(last).is_some() {
            return None;
        }
        let state = self.take_state()?;
        self.states.keep(last, state);
        self.states.mark(last);
        self.states.release(state);
        Some(state)
    }

    /// Makes a full, computed block findable. If an equal one is known, its holder gets that one instead.
    pub(crate) fn publish(&mut self, block: BlockId, parent: Node, tokens: &[TokenId]) -> (BlockId, Node) {
        match self.index.find(parent, tokens) {
            Some((twin, node)) => {
                self.hold(twin);
                self.release(block);
                (twin, node)
            }
            None => (block, self.enter(block, parent, tokens)),
        }
    }

    /// Makes the block that a sequence ends in findable, if nothing known begins as it does and nobody else goes on in it.
    pub(crate) fn publish_part(&mut self, block: BlockId, parent: Node, tokens: &[TokenId]) {
        let known = self.nearest(parent, tokens).is_some_and(|nearest| nearest.shared == tokens.len() as u32);
        if !known && self.holders(block) == 1 && !self.states.is_used() {
            self.enter(block, parent, tokens);
        }
    }

    /// Enters a block into the index. One that holds no more than its beginning is of no more use.
    fn enter(&mut self, block: BlockId, parent: Node, tokens: &[TokenId]) -> Node {
        if let Some(nearest) = self.nearest(parent, tokens).filter(|nearest| nearest.shared == nearest.length) {
            self.unlink(nearest.block);
            self.index.remove(nearest.block);
            self.free.push(nearest.block);
        }
        self.index.insert(block, parent, tokens)
    }

    /// Puts a block at the newest end of the cached list.
    fn link(&mut self, block: BlockId) {
        self.blocks[block.0 as usize].older = self.newest;
        self.blocks[block.0 as usize].newer = NONE;
        match self.newest {
            NONE => self.oldest = block.0,
            newest => self.blocks[newest as usize].newer = block.0,
        }
        self.newest = block.0;
        self.cached += 1;
    }

    /// Takes a block out of the cached list.
    fn unlink(&mut self, block: BlockId) {
        let Block { older, newer, .. } = self.blocks[block.0 as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.blocks[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.blocks[newer as usize].older = older,
        }
        self.cached -= 1;
    }

    /// Panics unless every block is in exactly one state and `holders` says how often each is held.
    #[cfg(test)]
    pub(crate) fn check(&self, holders: &[u32]) {
        let mut states = vec![0_u8; self.blocks.len()];
        for block in &self.free {
            states[block.0 as usize] += 1;
            assert!(!self.index.contains(*block), "a free block has no known contents");
        }
        let (mut next, mut cached, mut last) = (self.oldest, 0, NONE);
        while next != NONE {
            states[next as usize] += 1;
            cached += 1;
            assert!(self.index.contains(BlockId(next)), "a cached block has known contents");
            assert_eq!(self.blocks[next as usize].older, last, "the list leads back");
            (last, next) = (next, self.blocks[next as usize].newer);
        }
        assert_eq!((cached, last), (self.cached, self.newest), "the list is whole");
        for (block, entry) in self.blocks.iter().enumerate() {
            assert_eq!(entry.holders, holders[block], "the count of block {block} equals its holders");
            assert_eq!(states[block] + u8::from(entry.holders > 0), 1, "block {block} is in one state");
        }
        self.index.check();
    }
}
