//! One sequence on its way: its tokens, how many of them are computed, and the blocks that hold the result.
//!
//! Prefill and decode are one idea: a row computes the tokens that are not computed yet. The keys and values of
//! positions `0..computed` lie in `blocks`, whose full ones are in the prefix index. Only the scheduler calls this.

use crate::blocks::BlockPool;
use crate::policy::Rank;
use crate::prefix::Node;
use crate::{Arrival, BLOCK_TOKENS, BlockId, SequenceId, TokenId, blocks_for};

/// One sequence on its way.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) rank: Rank,
    /// Prompt and generated tokens; preemption keeps them.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) tokens_max: u32,
    pub(crate) blocks: Vec<BlockId>,
    /// How many positions are computed and committed.
    pub(crate) computed: u32,
    /// How many positions the row in flight computes.
    pub(crate) planned: u32,
    /// How many positions were found computed by others.
    pub(crate) cached: u32,
    /// The node of the last full computed block.
    node: Node,
    preempted: bool,
}

impl Sequence {
    pub(crate) fn new(arrival: Arrival, rank: Rank) -> Self {
        Self {
            id: arrival.id,
            rank,
            tokens: arrival.tokens,
            tokens_max: arrival.tokens_max,
            blocks: Vec::new(),
            computed: 0,
            planned: 0,
            cached: 0,
            node: Node::ROOT,
            preempted: false,
        }
    }

    /// How many tokens wait to be computed; one while decoding.
    pub(crate) fn pending(&self) -> u32 {
        self.tokens.len() as u32 - self.computed
    }

    /// How many blocks all its tokens take.
    pub(crate) fn blocks_needed(&self) -> u32 {
        blocks_for(self.tokens.len() as u32)
    }

    /// The node before the next block and that block's tokens, if it may come from the cache: the last token is
    /// always computed, because its logits are wanted.
    pub(crate) fn next_block(&self) -> Option<(Node, &[TokenId])> {
        self.block_after(self.node, self.computed / BLOCK_TOKENS)
    }

    fn block_after(&self, node: Node, block: u32) -> Option<(Node, &[TokenId])> {
        let start = (block * BLOCK_TOKENS) as usize;
        let end = start + BLOCK_TOKENS as usize;
        (end < self.tokens.len()).then(|| (node, &self.tokens[start..end]))
    }

    /// How many blocks it needs that must be taken, and how many cached blocks it would bring back to use.
    pub(crate) fn admission_cost(&self, pool: &BlockPool) -> (u32, u32) {
        let (mut node, mut found, mut idle) = (Node::ROOT, 0, 0);
        while let Some((block, next)) = self.block_after(node, found).and_then(|(node, tokens)| pool.find(node, tokens))
        {
            found += 1;
            idle += u32::from(pool.holders(block) == 0);
            node = next;
        }
        (self.blocks_needed() - found, idle)
    }

    /// Takes over every next block that is computed already, by others or by itself before a preemption.
    pub(crate) fn adopt(&mut self, pool: &mut BlockPool) {
        let before = self.computed;
        while let Some((block, node)) = self.next_block().and_then(|(node, tokens)| pool.find(node, tokens)) {
            let place = (self.computed / BLOCK_TOKENS) as usize;
            pool.hold(block);
            match self.blocks.get_mut(place) {
                Some(own) => pool.release(std::mem::replace(own, block)),
                None => self.blocks.push(block),
            }
            self.computed = (place as u32 + 1) * BLOCK_TOKENS;
            self.node = node;
        }
        if !self.preempted {
            self.cached += self.computed - before;
        }
    }

    /// Takes blocks until its tokens are covered; false if the pool ran out, with what it took kept.
    pub(crate) fn grow(&mut self, pool: &mut BlockPool) -> bool {
        while (self.blocks.len() as u32) < self.blocks_needed() {
            match pool.take() {
                Some(block) => self.blocks.push(block),
                None => return false,
            }
        }
        true
    }

    /// Marks the row in flight as computed and makes the blocks it filled findable.
    pub(crate) fn advance(&mut self, pool: &mut BlockPool) {
        let full = self.computed / BLOCK_TOKENS;
        self.computed += std::mem::take(&mut self.planned);
        for place in full..self.computed / BLOCK_TOKENS {
            let start = (place * BLOCK_TOKENS) as usize;
            let tokens = &self.tokens[start..start + BLOCK_TOKENS as usize];
            let own = &mut self.blocks[place as usize];
            (*own, self.node) = pool.publish(*own, self.node, tokens);
        }
    }

    /// Gives every block back, the last one first, so that prefixes stay cached longest.
    pub(crate) fn release(&mut self, pool: &mut BlockPool) {
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
    }

    /// Gives every block back and starts over from its tokens.
    pub(crate) fn preempt(&mut self, pool: &mut BlockPool) {
        self.release(pool);
        (self.computed, self.planned, self.node, self.preempted) = (0, 0, Node::ROOT, true);
    }
}
