//! Between the scheduler's cache and the shelf: what is evicted is put away, what a sequence needs is brought back first.
//!
//! Contents are copied on the heartbeat's thread, files are read and written on the keeper's. A request whose prefix is
//! being brought waits here, and a preempted sequence is set aside when its turn comes; both go on without it if anything
//! fails. The runner calls this.

use engine::Model;
use scheduler::{BLOCK_TOKENS, Held, Salt, SequenceId, blocks_for};

use super::Runner;
use super::drafter::Drafter;
use crate::generation::Ticket;
use crate::prompt::Prepared;
use crate::shelf::Loaded;

impl Runner {
    /// Puts away what the last plan, or a restore, gave up; called before that is overwritten.
    pub(super) fn store_evicted(&mut self) {
        let evicted = self.scheduler.take_evicted();
        let Some(shelf) = &mut self.shelf else { return };
        // The beginnings of prefixes are evicted last, and without them the rest is worth nothing.
        for kept in evicted.into_iter().rev() {
            let stored = shelf.store(&kept, || contents(&self.model, self.drafter.as_ref(), kept.held));
            if stored && matches!(kept.held, Held::Block(_)) {
                self.requests.count_stored(BLOCK_TOKENS);
            }
        }
    }

    /// Sends for what the disk has of a prompt; returns the request if there is nothing to wait for.
    pub(super) fn fetch(&mut self, prepared: Prepared) -> Option<Prepared> {
        let Ok(generation) = &prepared.result else { return Some(prepared) };
        // What is judged is computed, whatever there is.
        if generation.judge_from().is_some() {
            return Some(prepared);
        }
        if !self.requests.awaits(&prepared)
            || !self.send_for(prepared.ticket.sequence(0), generation.salt, &generation.prompt)
        {
            return Some(prepared);
        }
        self.fetching.insert(prepared.ticket, prepared);
        None
    }

    /// Sends for what the disk has of these tokens and memory has not; false if there is nothing.
    fn send_for(&mut self, sequence: SequenceId, salt: Salt, tokens: &[u32]) -> bool {
        let Some(shelf) = &mut self.shelf else { return false };
        // The last token is always computed.
        let prefix = &tokens[..tokens.len().saturating_sub(1)];
        shelf.fetch(sequence, salt, prefix, self.scheduler.known(salt, prefix))
    }

    /// Notes which sequences have lost their blocks: what of them is evicted is sent for when their turn comes.
    pub(super) fn note_preempted(&mut self, preempted: &[SequenceId]) {
        if self.shelf.is_some() && !preempted.is_empty() {
            self.preempted.retain(|id| self.scheduler.tokens(*id).is_some());
            self.preempted.extend(preempted);
        }
    }

    /// Sends for what was put away of preempted sequences whose turn has come, and sets them aside meanwhile.
    pub(super) fn recall(&mut self, now_ms: u64) {
        while !self.preempted.is_empty()
            && let Some(id) = self.scheduler.due(now_ms)
            && self.preempted.remove(&id)
        {
            let sought = self.asked_of(id).is_some_and(|(salt, tokens)| self.send_for(id, salt, &tokens));
            if sought {
                self.scheduler.set_aside(id);
            }
        }
    }

    /// Fills the cache with what came from the disk; returns the request that waited for it, unless more is on its way.
    pub(super) fn restore(&mut self, loaded: Loaded) -> Option<Prepared> {
        if let Some(shelf) = &mut self.shelf {
            shelf.forget_missing(&loaded);
        }
        let Some(prepared) = self.fetching.remove(&Ticket::of(loaded.sequence).0) else {
            self.restore_preempted(&loaded);
            return None;
        };
        let Ok(generation) = &prepared.result else { return Some(prepared) };
        match self.fill(&loaded, generation.salt, &generation.prompt) {
            true => self.fetch(prepared),
            false => Some(prepared),
        }
    }

    /// The same for a sequence that was set aside; it may be gone.
    fn restore_preempted(&mut self, loaded: &Loaded) {
        let id = loaded.sequence;
        let Some((salt, tokens)) = self.asked_of(id) else { return };
        if !self.fill(loaded, salt, &tokens) || !self.send_for(id, salt, &tokens) {
            self.scheduler.bring_back(id);
        }
    }

    /// The salt and the tokens of a living sequence.
    fn asked_of(&self, id: SequenceId) -> Option<(Salt, Vec<u32>)> {
        self.scheduler.salt(id).zip(self.scheduler.tokens(id).map(<[u32]>::to_vec))
    }

    /// Fills the cache with what came of a prefix of these tokens; true if there was room for all of it.
    fn fill(&mut self, loaded: &Loaded, salt: Salt, tokens: &[u32]) -> bool {
        let end = (loaded.first as usize + loaded.contents.len()) * BLOCK_TOKENS as usize;
        // What was before them in memory may be gone by now; then they are of no use.
        if end > tokens.len() || self.scheduler.known(salt, tokens).blocks < loaded.first {
            return false;
        }
        let prefix = &tokens[..end];
        let restored = self.scheduler.restore(salt, prefix);
        let contents = loaded.state_contents.as_ref();
        let state = contents.and_then(|contents| Some((self.scheduler.restore_state(salt, prefix)?, contents)));
        self.store_evicted();
        for (place, block) in &restored {
            let contents = &loaded.contents[(place - loaded.first) as usize];
            fill_block(&mut self.model, self.drafter.as_mut(), block.0, contents);
        }
        if let Some((state, contents)) = state {
            self.model.write_state(state.0, contents);
        }
        self.requests.count_restored(restored.len() as u32 * BLOCK_TOKENS);
        restored.last().is_some_and(|(place, _)| *place + 1 == blocks_for(end as u32))
    }

    /// Puts away what is worth keeping for a later worker.
    pub(super) fn close_shelf(&mut self) {
        let Some(shelf) = self.shelf.take() else { return };
        let (model, drafter) = (&self.model, self.drafter.as_ref());
        shelf.close(self.scheduler.kept(), |held| contents(model, drafter, held));
    }
}

/// What a block holds, of the model and then of the draft model; or what a state does.
fn contents(model: &Model, drafter: Option<&Drafter>, held: Held) -> Vec<u8> {
    match held {
        Held::Block(block) => {
            let mut contents = model.read_block(block.0);
            contents.extend(drafter.into_iter().flat_map(|drafter| drafter.read_block(block.0)));
            contents
        }
        Held::State(state) => model.read_state(state.0),
    }
}

/// Fills a block with its `contents`.
fn fill_block(model: &mut Model, drafter: Option<&mut Drafter>, block: u32, contents: &[u8]) {
    let (own, rest) = contents.split_at(model.block_bytes());
    model.write_block(block, own);
    if let Some(drafter) = drafter {
        drafter.write_block(block, rest);
    }
}
