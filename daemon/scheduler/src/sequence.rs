//! One sequence on its way: its tokens, how many of them are computed, and the blocks that hold the result.
//!
//! Prefill and decode are one idea: a row computes the tokens that are not computed yet. The keys and values of
//! positions `0..computed` lie in `blocks`, whose full ones are in the prefix index; the last one enters it in the end. A
//! block that others hold too, or may find, is never written: the writer takes a copy first. Only the scheduler calls this.

use crate::blocks::BlockPool;
use crate::clients::ClientId;
use crate::plan::BlockCopy;
use crate::policy::{Priority, Standing, level, rank};
use crate::prefix::{Nearest, Node};
use crate::{Arrival, BLOCK_TOKENS, BlockId, Missed, RowState, Salt, SequenceId, StateId, TokenId, blocks_for};

/// One sequence on its way.
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) client: ClientId,
    pub(crate) salt: Salt,
    pub(crate) priority: Priority,
    /// The level it was admitted at, 0 before; it grows while its prompt is not read.
    pub(crate) level: u8,
    /// The number of its arrival.
    pub(crate) order: u64,
    pub(crate) arrived_ms: u64,
    /// When it was admitted, or last had a row.
    pub(crate) served_ms: u64,
    /// Another of the same tokens, whose prompt it waits to share.
    pub(crate) twin: Option<SequenceId>,
    /// Prompt and generated tokens; preemption keeps them.
    pub(crate) tokens: Vec<TokenId>,
    /// How many tokens it came with.
    pub(crate) prompt: u32,
    pub(crate) tokens_max: u32,
    /// The first position whose logits are still wanted to judge the token after it; `None` if no more are.
    judge_from: Option<u32>,
    /// What may come next, for the next row only.
    pub(crate) draft: Vec<TokenId>,
    pub(crate) blocks: Vec<BlockId>,
    /// How many positions are computed and committed.
    pub(crate) computed: u32,
    /// How many positions the row in flight computes, and how many logits it gives.
    pub(crate) planned: u32,
    pub(crate) samples: u32,
    /// Whether another computes what comes next of it.
    pub(crate) follows: bool,
    /// How many positions were found computed by others.
    pub(crate) cached: u32,
    /// Why not more, once it has been admitted.
    pub(crate) missed: Option<Missed>,
    /// The node of the last full computed block.
    node: Node,
    /// The recurrent state after what is computed, and the one that the row in flight leaves.
    pub(crate) state: Option<StateId>,
    pub(crate) next_state: Option<StateId>,
    /// How many drawn tokens are computed again, because a guess after them was wrong and a state cannot be cut.
    pub(crate) again: u32,
    /// Where others' prompts are known to go on as this one does.
    branch: u32,
    /// The block of the last state that it has kept.
    kept: Option<BlockId>,
    preempted: bool,
    /// Whether it waits for what is being brought back of it.
    pub(crate) aside: bool,
}

impl Sequence {
    pub(crate) fn new(arrival: Arrival, order: u64) -> Self {
        Self {
            id: arrival.id,
            client: arrival.client,
            salt: arrival.salt,
            priority: arrival.priority,
            level: 0,
            order,
            arrived_ms: arrival.now_ms,
            served_ms: arrival.now_ms,
            twin: arrival.twin,
            prompt: arrival.tokens.len() as u32,
            judge_from: arrival.judge_from.filter(|from| from + 1 < arrival.tokens.len() as u32),
            tokens: arrival.tokens,
            tokens_max: arrival.tokens_max,
            draft: Vec::new(),
            blocks: Vec::new(),
            computed: 0,
            planned: 0,
            samples: 0,
            follows: false,
            cached: 0,
            missed: None,
            node: Node::Start(arrival.salt),
            state: None,
            next_state: None,
            again: 0,
            branch: 0,
            kept: None,
            preempted: false,
            aside: false,
        }
    }

    /// Its place among those that run.
    pub(crate) fn standing(&self) -> Standing {
        Standing::new(self.level, self.order)
    }

    /// Whose prompt is read first in a step.
    pub(crate) fn rank(&self) -> u8 {
        rank(self.priority, self.level)
    }

    /// Counts as more urgent if nothing of it was computed for long.
    pub(crate) fn age(&mut self, now_ms: u64) -> bool {
        let aged = level(Priority::Low, self.served_ms, now_ms).min(Priority::High as u8 - self.level);
        if aged > 0 {
            (self.level, self.served_ms) = (self.level + aged, now_ms);
        }
        aged > 0
    }

    /// How many tokens wait to be computed; one while decoding.
    pub(crate) fn pending(&self) -> u32 {
        self.tokens.len() as u32 - self.computed
    }

    /// Whether its next row draws and computes nothing else that is new.
    pub(crate) fn decodes(&self) -> bool {
        self.pending() == 1 + self.again
    }

    /// Whether nothing was drawn for it here yet.
    pub(crate) fn in_prompt(&self) -> bool {
        self.tokens.len() as u32 == self.prompt
    }

    /// Whether logits of its prompt are wanted.
    pub(crate) fn is_judged(&self) -> bool {
        self.judge_from.is_some()
    }

    /// Of how many tokens of a row that ends before `end` the logits are wanted to judge the prompt: the last of the row,
    /// but for the last of the prompt, which are wanted in any case.
    pub(crate) fn judged_before(&self, end: u32) -> u32 {
        self.judge_from.map_or(0, |from| end.min(self.prompt - 1).saturating_sub(from.max(self.computed)))
    }

    /// How many blocks all its tokens take.
    pub(crate) fn blocks_needed(&self) -> u32 {
        blocks_for(self.tokens.len() as u32)
    }

    /// The node before the next block and that block's tokens, if it may come from the cache: the last token is
    /// always computed, because its logits are wanted, and so is what is still judged.
    pub(crate) fn next_block(&self) -> Option<(Node, &[TokenId])> {
        self.block_after(self.node, self.computed / BLOCK_TOKENS)
    }

    fn block_after(&self, node: Node, block: u32) -> Option<(Node, &[TokenId])> {
        let start = (block * BLOCK_TOKENS) as usize;
        let end = start + BLOCK_TOKENS as usize;
        let wanted = self.judge_from.is_some_and(|from| end > from as usize);
        (end < self.tokens.len() && !wanted).then(|| (node, &self.tokens[start..end]))
    }

    /// The blocks after `node` that hold its next tokens, from place `first` on, as far as it may take them over: of a model
    /// with recurrent states, up to the last that ends in one. And how many are known at all.
    fn reusable(&self, mut node: Node, first: u32, pool: &BlockPool) -> (Vec<(BlockId, Node)>, u32) {
        let (mut blocks, mut usable) = (Vec::new(), 0);
        while let Some((block, next)) =
            self.block_after(node, first + blocks.len() as u32).and_then(|(node, tokens)| pool.find(node, tokens))
        {
            blocks.push((block, next));
            node = next;
            if !pool.states.is_used() || pool.states.of_block(block).is_some() {
                usable = blocks.len();
            }
        }
        let known = blocks.len() as u32;
        blocks.truncate(usable);
        (blocks, known)
    }

    /// How many blocks it needs that must be taken, and how many cached blocks it would bring back to use.
    pub(crate) fn admission_cost(&self, pool: &BlockPool) -> (u32, u32) {
        let (found, _) = self.reusable(Node::Start(self.salt), 0, pool);
        let idle = found.iter().filter(|(block, _)| pool.holders(*block) == 0).count();
        (self.blocks_needed() - found.len() as u32, idle as u32)
    }

    /// Takes over every next block that is computed already, by others or by itself before a preemption; whether there was one.
    pub(crate) fn adopt(&mut self, pool: &mut BlockPool) -> bool {
        let (before, first) = (self.computed, self.computed / BLOCK_TOKENS);
        let (found, known) = self.reusable(self.node, first, pool);
        self.branch = self.branch.max((first + known) * BLOCK_TOKENS);
        for (place, (block, node)) in (first as usize..).zip(&found) {
            pool.hold(*block);
            match self.blocks.get_mut(place) {
                Some(own) => pool.release(std::mem::replace(own, *block)),
                None => self.blocks.push(*block),
            }
            self.node = *node;
        }
        let Some((last, _)) = found.last() else { return false };
        self.computed = (first + found.len() as u32) * BLOCK_TOKENS;
        if let Some(state) = pool.states.of_block(*last) {
            self.drop_next_state(pool);
            pool.states.mark(*last);
            pool.states.hold(state);
            if let Some(own) = self.state.replace(state) {
                pool.states.release(own);
            }
            (self.kept, self.again) = (None, 0);
        }
        // After a preemption it finds what it has computed itself.
        if !self.preempted {
            self.cached += self.computed - before;
        }
        true
    }

    /// Takes a copy of the block that begins most like its next one. It gets none of a model with recurrent states, which end
    /// with blocks.
    pub(crate) fn adopt_part(&mut self, pool: &mut BlockPool, copies: &mut Vec<BlockCopy>) {
        let start = self.computed as usize;
        let end = self.reusable_end().min(start + BLOCK_TOKENS as usize);
        if start >= end || pool.states.is_used() {
            return;
        }
        let nearest = pool.nearest(self.node, &self.tokens[start..end]).filter(|nearest| nearest.shared > 0);
        let Some(Nearest { block: from, shared, .. }) = nearest else { return };
        pool.hold(from);
        let own = pool.take();
        pool.release(from);
        let Some(to) = own else { return };
        copies.push(BlockCopy { from, to, positions: shared });
        self.blocks.push(to);
        self.computed += shared;
        if !self.preempted {
            self.cached += shared;
        }
    }

    /// Notes why no more of it was found computed; what it finds of its own after a preemption needs no reason.
    pub(crate) fn explain(&mut self, pool: &BlockPool) {
        if !self.preempted {
            let position = self.computed - self.computed % BLOCK_TOKENS;
            let end = self.tokens.len().min((position + BLOCK_TOKENS) as usize);
            let tokens = &self.tokens[position as usize..end];
            let states = pool.states.is_used();
            let all = match states {
                true => self.next_block().is_none(),
                false => self.computed as usize == self.reusable_end(),
            };
            self.missed = Some(if all {
                Missed::Nothing
            } else if states && pool.find(self.node, tokens).is_some() {
                // Its keys are here, and the state that goes with them is not.
                Missed::Evicted { position }
            } else {
                match pool.missed(self.node, tokens, position) {
                    // Of a block that is gone another may have held the beginning.
                    Missed::Evicted { .. } => Missed::Evicted { position: self.computed },
                    other => other,
                }
            });
        }
    }

    /// Up to where it may be found computed: the logits of its last token are wanted, and of those that are judged.
    fn reusable_end(&self) -> usize {
        self.judge_from.map_or(self.tokens.len() - 1, |from| from as usize)
    }

    /// Takes blocks until its tokens are covered and the next position is its own to write; false if the pool ran
    /// out, with what it took kept.
    pub(crate) fn grow(&mut self, pool: &mut BlockPool, copies: &mut Vec<BlockCopy>) -> bool {
        let place = (self.computed / BLOCK_TOKENS) as usize;
        if let Some(shared) = self.blocks.get_mut(place).filter(|block| pool.holders(**block) > 1) {
            let Some(own) = pool.take() else { return false };
            copies.push(BlockCopy { from: *shared, to: own, positions: self.computed % BLOCK_TOKENS });
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
        self.tokens.extend(drawn);
        if self.next_state.is_none() {
            self.computed += planned - samples + drawn.len() as u32;
            self.publish(full, pool);
        } else if drawn.len() as u32 == samples {
            (self.computed, self.again) = (self.computed + planned, 0);
            self.publish(full, pool);
            self.move_on(pool);
        } else {
            self.again = drawn.len() as u32;
            self.drop_next_state(pool);
        }
        self.judge_from = self.judge_from.map(|from| from.max(self.computed)).filter(|from| from + 1 < self.prompt);
    }

    /// Where the row in flight finds and leaves its recurrent state. A row with guesses leaves the state before them.
    pub(crate) fn plan_state(&mut self, drafted: bool, pool: &mut BlockPool) -> Option<RowState> {
        if !pool.states.is_used() {
            return None;
        }
        let from = self.state;
        let to = match from.filter(|from| !drafted && pool.states.is_own(*from)) {
            Some(own) => own,
            None => pool.take_state().expect("there are two states a sequence"),
        };
        self.next_state = Some(to);
        Some(RowState { from, to })
    }

    /// Goes on from the state that the row has left, and keeps it where a block has ended: the last one of each sequence,
    /// and those that others may come to.
    fn move_on(&mut self, pool: &mut BlockPool) {
        let next = self.next_state.take();
        if let Some(old) = self.state.filter(|old| Some(*old) != next) {
            pool.states.release(old);
        }
        self.state = next;
        let (true, Some(state)) = (self.computed.is_multiple_of(BLOCK_TOKENS), next) else { return };
        let block = self.blocks[(self.computed / BLOCK_TOKENS) as usize - 1];
        let tail = (self.prompt - 1) / BLOCK_TOKENS * BLOCK_TOKENS;
        let kept = pool.states.keep(block, state);
        if self.computed == tail || self.computed == self.branch {
            pool.states.mark(block);
        }
        if let Some(before) = std::mem::replace(&mut self.kept, kept.then_some(block)) {
            pool.states.forget(before, false);
        }
    }

    /// Gives up the state that the row in flight would have left.
    pub(crate) fn drop_next_state(&mut self, pool: &mut BlockPool) {
        if let Some(next) = self.next_state.take().filter(|next| Some(*next) != self.state) {
            pool.states.release(next);
        }
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
        (self.level, self.served_ms) = (twin.level, twin.served_ms);
        self.state = twin.state;
        self.state.iter().for_each(|state| pool.states.hold(*state));
    }

    /// Gives every block back, the last one first, so that prefixes stay cached longest.
    pub(crate) fn release(&mut self, pool: &mut BlockPool) {
        let start = self.computed - self.computed % BLOCK_TOKENS;
        if start < self.computed {
            let tokens = &self.tokens[start as usize..self.computed as usize];
            pool.publish_part(self.blocks[(start / BLOCK_TOKENS) as usize], self.node, tokens);
        }
        self.drop_next_state(pool);
        if let Some(state) = self.state.take() {
            pool.states.release(state);
        }
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
    }

    /// Gives every block back and starts over from its tokens.
    pub(crate) fn preempt(&mut self, pool: &mut BlockPool) {
        self.release(pool);
        (self.computed, self.planned, self.samples, self.node) = (0, 0, 0, Node::Start(self.salt));
        (self.again, self.branch, self.kept) = (0, 0, None);
        self.preempted = true;
        self.draft.clear();
    }
}
