//! One sequence on its way: its tokens, how many of them are computed, and the blocks that hold the result.
//!
//! Prefill and decode are one idea: a row computes the tokens that are not computed yet. The keys and values of
//! positions `0..computed` lie in `blocks`, whose full ones are in the prefix index. A block that others hold too is
//! never written: the writer takes a copy first. Only the scheduler calls this.

use crate::blocks::BlockPool;
use crate::clients::ClientId;
use crate::policy::{Priority, Standing};
use crate::prefix::Node;
use crate::{Arrival, BLOCK_TOKENS, BlockId, Missed, SequenceId, TokenId, blocks_for};

/// One sequence on its way.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) client: ClientId,
    pub(crate) priority: Priority,
    /// The level it was admitted at, 0 before.
    pub(crate) level: u8,
    /// The number of its arrival.
    pub(crate) order: u64,
    pub(crate) arrived_ms: u64,
    /// Another of the same tokens, whose prompt it waits to share.
    pub(crate) twin: Option<SequenceId>,
    /// Prompt and generated tokens; preemption keeps them.
    pub(crate) tokens: Vec<TokenId>,
    /// How many tokens it came with.
    pub(crate) prompt: u32,
    pub(crate) tokens_max: u32,
    /// What may come next, for the next row only.
    pub(crate) draft: Vec<TokenId>,
    pub(crate) blocks: Vec<BlockId>,
    /// How many positions are computed and committed.
    pub(crate) computed: u32,
    /// How many positions the row in flight computes, and how many logits it gives.
    pub(crate) planned: u32,
    pub(crate) samples: u32,
    /// How many positions were found computed by others.
    pub(crate) cached: u32,
    /// Why not more, once it has been admitted.
    pub(crate) missed: Option<Missed>,
    /// The node of the last full computed block.
    node: Node,
    preempted: bool,
}

impl Sequence {
    pub(crate) fn new(arrival: Arrival, order: u64) -> Self {
        Self {
            id: arrival.id,
            client: arrival.client,
            priority: arrival.priority,
            level: 0,
            order,
            arrived_ms: arrival.now_ms,
            twin: arrival.twin,
            prompt: arrival.tokens.len() as u32,
            tokens: arrival.tokens,
            tokens_max: arrival.tokens_max,
            draft: Vec::new(),
            blocks: Vec::new(),
            computed: 0,
            planned: 0,
            samples: 0,
            cached: 0,
            missed: None,
            node: Node::ROOT,
            preempted: false,
        }
    }

    /// Its place among those that run.
    pub(crate) fn standing(&self) -> Standing {
        Standing::new(self.level, self.order)
    }

    /// How many tokens wait to be computed; one while decoding.
    pub(crate) fn pending(&self) -> u32 {
        self.tokens.len() as u32 - self.computed
    }

    /// Whether nothing was drawn for it here yet.
    pub(crate) fn in_prompt(&self) -> bool {
        self.tokens.len() as u32 == self.prompt
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
        // After a preemption it finds what it has computed itself.
        if !self.preempted {
            self.cached += self.computed - before;
        }
    }

    /// Notes, at its first admission, why no more of it was found computed.
    pub(crate) fn explain(&mut self, pool: &BlockPool) {
        if self.missed.is_none() {
            let next = self.next_block();
            self.missed = Some(next.map_or(Missed::Nothing, |(node, tokens)| pool.missed(node, tokens, self.computed)));
        }
    }

    /// Takes blocks until its tokens are covered and the next position is its own to write; false if the pool ran
    /// out, with what it took kept.
    pub(crate) fn grow(&mut self, pool: &mut BlockPool, copies: &mut Vec<(BlockId, BlockId)>) -> bool {
        let place = (self.computed / BLOCK_TOKENS) as usize;
        if let Some(shared) = self.blocks.get_mut(place).filter(|block| pool.holders(**block) > 1) {
            let Some(own) = pool.take() else { return false };
            copies.push((*shared, own));
            pool.release(std::mem::replace(shared, own));
        }
        while (self.blocks.len() as u32) < self.blocks_needed() {
            match pool.take() {
                Some(block) => self.blocks.push(block),
                None => return false,
            }
        }
        true
    }

    /// Marks the row in flight as computed as far as the drawn tokens bear it out, adds those, and makes the blocks
    /// that became full findable.
    pub(crate) fn advance(&mut self, drawn: &[TokenId], pool: &mut BlockPool) {
        let full = self.computed / BLOCK_TOKENS;
        let (planned, samples) = (std::mem::take(&mut self.planned), std::mem::take(&mut self.samples));
        assert_eq!(samples == 0, drawn.is_empty(), "a token is drawn where all are computed");
        assert!(drawn.len() as u32 <= samples, "a token is drawn from its own logits");
        self.computed += planned - samples + drawn.len() as u32;
        self.tokens.extend(drawn);
        self.publish(full, pool);
    }

    fn publish(&mut self, first: u32, pool: &mut BlockPool) {
        for place in first..self.computed / BLOCK_TOKENS {
            let start = (place * BLOCK_TOKENS) as usize;
            let tokens = &self.tokens[start..start + BLOCK_TOKENS as usize];
            let own = &mut self.blocks[place as usize];
            (*own, self.node) = pool.publish(*own, self.node, tokens);
        }
    }

    /// Takes over everything that its twin has computed, the block that is not full included.
    pub(crate) fn share(&mut self, twin: &Self, pool: &mut BlockPool) {
        let blocks = &twin.blocks[..blocks_for(twin.computed) as usize];
        blocks.iter().for_each(|block| pool.hold(*block));
        (self.blocks, self.computed, self.node) = (blocks.to_vec(), twin.computed, twin.node);
        self.level = twin.level;
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
        (self.computed, self.planned, self.samples, self.node) = (0, 0, 0, Node::ROOT);
        self.preempted = true;
        self.draft.clear();
    }
}
