//! How a step is shared: every decode, then prompts within the budget, the shortest first, nobody left out.
//!
//! A quarter of the budget goes to the first prompt in standing, so that a long one always moves. The rest goes by rank,
//! then to clients that are not far ahead of another, then to the prompt with least left. When a prompt is completed,
//! only others that are completed too share what is left: the step stays short for those who wait for their first
//! token. For the same reason the first in standing gives up its quarter in a step that ends another, which may take twice the
//! budget where that suffices, but not twice in a row. Of the prompts whose logits are wanted, which take much memory, a
//! step computes only the first in standing, and few of its tokens. A token costs more the further from the start it stands,
//! because it attends to all before it.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::clients::CREDIT_STEPS;
use crate::sequence::Sequence;
use crate::{Ahead, BLOCK_TOKENS, Plan, Row, Salt, Scheduler, SequenceId, TokenId, blocks_for};

impl Scheduler {
    /// Cuts one row per decoding sequence, and rows of prompts while the budget lasts.
    pub(crate) fn cut_rows(&mut self, prefill_tokens: u32, plan: &mut Plan) {
        self.forks.clear();
        for sequence in &mut self.running {
            (sequence.planned, sequence.samples, sequence.follows) = (0, 0, false);
            sequence.drop_next_state(&mut self.pool);
        }
        let decoding = self.running.iter().filter(|sequence| sequence.decodes());
        let (decodes, tokens) = decoding.fold((0, 0), |(count, tokens), next| (count + 1, tokens + next.pending()));
        let room = self.limits.step_tokens_max.saturating_sub(tokens);
        let budget = prefill_tokens.clamp(1, self.limits.prefill_tokens_max).min(room);
        let most = budget.saturating_mul(2).min(self.limits.prefill_tokens_max).min(room);
        // Prompts go before drafts.
        let mut spare = if decodes < self.running.len() { room - most } else { room };
        for index in 0..self.running.len() {
            if self.running[index].decodes() {
                let draft = self.cover_draft(index, spare);
                spare -= draft;
                self.cut(index, self.running[index].pending(), draft, plan);
            }
        }
        for (index, tokens) in self.share(budget, most) {
            self.cut(index, tokens, 0, plan);
        }
    }

    /// Shortens a draft to what may be computed and takes the blocks for it; a draft never costs anybody a block.
    fn cover_draft(&mut self, index: usize, room: u32) -> u32 {
        let sequence = &mut self.running[index];
        let end = sequence.tokens.len() as u32;
        let mut most = if sequence.in_prompt() { 0 } else { room.min(sequence.tokens_max - end) };
        if self.pool.states.is_used() {
            // A state is kept where a block ends, not beyond.
            most = most.min(blocks_for(end) * BLOCK_TOKENS - end);
        }
        sequence.draft.truncate(most as usize);
        let covered = self.cover(index, end + self.running[index].draft.len() as u32);
        let sequence = &mut self.running[index];
        sequence.draft.truncate(covered.saturating_sub(end) as usize);
        sequence.draft.len() as u32
    }

    /// Takes blocks for a sequence's positions up to `end`, as long as every running one is left another; returns up to
    /// where they are covered.
    fn cover(&mut self, index: usize, end: u32) -> u32 {
        let running = self.running.len() as u32;
        let sequence = &mut self.running[index];
        while (sequence.blocks.len() as u32) < blocks_for(end) && self.pool.available() > running {
            sequence.blocks.extend(self.pool.take());
        }
        sequence.blocks.len() as u32 * BLOCK_TOKENS
    }

    /// What a second model may compute of a decoding sequence before the next plan, to guess up to `more` tokens; `None`
    /// while it does not decode, or no block is its own to write.
    pub fn ahead(&mut self, id: SequenceId, more: u32) -> Option<Ahead<'_>> {
        let index = self.running_index(id)?;
        let sequence = &self.running[index];
        let place = (sequence.computed / BLOCK_TOKENS) as usize;
        let shared = sequence.blocks.get(place).is_some_and(|block| self.pool.holders(*block) > 1);
        if sequence.pending() != 1 || sequence.in_prompt() || shared {
            return None;
        }
        let end = sequence.tokens.len() as u32;
        let most = (end + more).min(sequence.tokens_max);
        let covered = self.cover(index, most).min(most);
        let sequence = &self.running[index];
        (covered >= end).then(|| Ahead { tokens: &sequence.tokens, blocks: &sequence.blocks, room: covered - end })
    }

    /// The tokens of a living sequence.
    pub fn tokens(&self, id: SequenceId) -> Option<&[TokenId]> {
        Some(&self.living(id)?.tokens)
    }

    /// The salt of a living sequence.
    pub fn salt(&self, id: SequenceId) -> Option<Salt> {
        Some(self.living(id)?.salt)
    }

    fn living(&self, id: SequenceId) -> Option<&Sequence> {
        if let Some(index) = self.running_index(id) {
            return Some(&self.running[index]);
        }
        let place = self.places.get(&id)?;
        self.clients.waiting_at(place.client, place.priority, place.order)
    }

    /// How many tokens of which prompts fit into the budget; the first to be read may take `most` if it then ends. Where
    /// several are about to compute the same block, only the first in standing does, and the others take it over in the
    /// next plan.
    fn share(&mut self, budget: u32, most: u32) -> Vec<(usize, u32)> {
        if budget == 0 {
            return Vec::new();
        }
        let (mut leading, mut judges) = (HashSet::new(), false);
        let mut prompts = Vec::new();
        for (index, sequence) in self.running.iter_mut().enumerate().filter(|(_, sequence)| !sequence.decodes()) {
            if sequence.is_judged() && std::mem::replace(&mut judges, true) {
                continue;
            }
            let leads = sequence.next_block().is_none_or(|(node, tokens)| leading.insert((node, tokens.to_vec())));
            sequence.follows = !leads;
            if leads {
                prompts.push(index);
            }
        }
        let Some(first) = prompts.first().copied() else { return Vec::new() };
        let service = |index: &usize| self.clients.service(self.running[*index].client);
        let least = prompts.iter().map(service).min().unwrap_or(0);
        prompts.sort_by_key(|index| {
            let sequence = &self.running[*index];
            let far_ahead = service(index) > least + CREDIT_STEPS;
            (Reverse(sequence.rank()), far_ahead, sequence.pending(), sequence.order)
        });
        let ends = !self.passed_over && self.affordable(prompts[0], most).0 == self.running[prompts[0]].pending();
        let kept = if ends || prompts[0] == first { 0 } else { (budget / 4).max(1) };
        let mut left = budget - kept;
        let mut shares: Vec<(usize, u32)> = Vec::new();
        let mut completes = false;
        for index in prompts {
            let room = if ends && shares.is_empty() { most } else { left };
            let (tokens, cost) = self.affordable(index, room);
            let whole = tokens == self.running[index].pending();
            if room == 0 || (completes && !whole) {
                continue;
            }
            left = left.saturating_sub(cost);
            completes |= whole;
            shares.push((index, tokens));
        }
        self.passed_over = !shares.iter().any(|(index, _)| *index == first);
        if kept > 0 && self.passed_over {
            shares.push((first, self.affordable(first, kept).0));
            self.passed_over = false;
        }
        shares
    }

    /// How many of a prompt's next tokens the budget bears, one at least, and what they cost.
    fn affordable(&self, index: usize, budget: u32) -> (u32, u32) {
        let sequence = &self.running[index];
        let context = u64::from(self.limits.context_tokens.max(1));
        let price = context + u64::from(sequence.computed);
        let most = if sequence.is_judged() { self.limits.judged_max } else { u32::MAX }.min(sequence.pending());
        let tokens = (u64::from(budget) * context / price).clamp(1, u64::from(most));
        let tokens = self.to_end_of_block(sequence, tokens as u32);
        (tokens, self.cost(sequence, tokens).min(budget))
    }

    /// What a sequence's next tokens cost, in tokens at an empty context.
    pub(crate) fn cost(&self, sequence: &Sequence, tokens: u32) -> u32 {
        let context = u64::from(self.limits.context_tokens.max(1));
        let cost = (u64::from(tokens) * (context + u64::from(sequence.computed)) + context / 2) / context;
        u32::try_from(cost).unwrap_or(u32::MAX)
    }

    /// Of a model with recurrent states, fewer tokens, so that a row that crosses the end of a block ends with one.
    fn to_end_of_block(&self, sequence: &Sequence, tokens: u32) -> u32 {
        let end = sequence.computed + tokens;
        let block = end - end % BLOCK_TOKENS;
        let crosses = self.pool.states.is_used() && block > sequence.computed;
        if crosses { block - sequence.computed } else { tokens }
    }

    /// Cuts a row of a sequence's next tokens and its draft, and finds those that share its logits.
    fn cut(&mut self, index: usize, tokens: u32, draft: u32, plan: &mut Plan) {
        let forks = self.find_forks(index, tokens, plan);
        let sequence = &mut self.running[index];
        let (start, end) = (sequence.computed, sequence.computed + tokens);
        let complete = end as usize == sequence.tokens.len();
        let judged = sequence.judged_before(end);
        sequence.planned = tokens + draft;
        sequence.samples = if complete { 1 + draft } else { 0 };
        let state = sequence.plan_state(draft > 0, &mut self.pool);
        let mut tokens = sequence.tokens[start as usize..end as usize].to_vec();
        tokens.append(&mut sequence.draft);
        plan.rows.push(Row {
            id: sequence.id,
            start,
            tokens,
            blocks: sequence.blocks[..blocks_for(end + draft) as usize].to_vec(),
            state,
            samples: sequence.samples,
            judged,
            forks,
        });
    }

    /// The sequences that wait for a prompt which the coming row completes, as far as there is room for them: each
    /// needs a place, and soon a block to copy the last one into.
    fn find_forks(&mut self, index: usize, tokens: u32, plan: &Plan) -> Vec<SequenceId> {
        let leader = &self.running[index];
        if !leader.in_prompt() || tokens < leader.pending() {
            return Vec::new();
        }
        let planned: u32 = plan.rows.iter().map(|row| row.forks.len() as u32).sum();
        let running = self.running.len() as u32 + planned;
        let places = self.limits.sequences_max - running;
        let spare = self.pool.available().saturating_sub(running) / 2;
        let forks: Vec<SequenceId> =
            self.clients.twins_of(leader).take(places.min(spare) as usize).map(|sequence| sequence.id).collect();
        self.forks.extend(forks.iter().map(|fork| (leader.id, *fork)));
        forks
    }

    /// Lets the forks of a leader take over what it has computed; they draw from the same logits.
    pub(crate) fn fork(&mut self, leader: SequenceId, drawn: impl Fn(SequenceId) -> bool) {
        let forks: Vec<SequenceId> =
            self.forks.iter().filter(|(twin, fork)| *twin == leader && drawn(*fork)).map(|(_, fork)| *fork).collect();
        for fork in forks {
            let place = self.places[&fork];
            let sequence = self.clients.admit(place.client, place.priority, place.order, 0);
            let mut sequence: Sequence = sequence.expect("a fork waits until its leader has its first token");
            let index = self.running_index(leader).expect("a leader runs");
            sequence.share(&self.running[index], &mut self.pool);
            self.run(sequence);
        }
    }
}
