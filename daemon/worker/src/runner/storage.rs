//! Between the scheduler's blocks and the shelf: what is evicted is put away, what a prompt needs is brought back first.
//!
//! Contents are copied on the heartbeat's thread, files are read and written on the keeper's. A request whose prefix is
//! being brought waits here; it goes on without it if anything fails. The runner calls this.

use engine::Model;
use scheduler::{BLOCK_TOKENS, blocks_for};

use super::Runner;
use super::drafter::Drafter;
use crate::prompt::Prepared;
use crate::shelf::Loaded;

impl Runner {
    /// Puts away what the last plan, or a restore, gave up; called before those blocks are written.
    pub(super) fn store_evicted(&mut self) {
        let evicted = self.scheduler.take_evicted();
        let Some(shelf) = &mut self.shelf else { return };
        // The beginnings of prefixes are evicted last, and without them the rest is worth nothing.
        for kept in evicted.into_iter().rev() {
            if shelf.store(&kept.tokens, || contents(&self.model, self.drafter.as_ref(), kept.block.0)) {
                self.requests.count_stored(BLOCK_TOKENS);
            }
        }
    }

    /// Sends for what the disk has of a prompt; returns the request if there is nothing to wait for.
    pub(super) fn fetch(&mut self, prepared: Prepared) -> Option<Prepared> {
        let (Some(shelf), Ok(generation)) = (&mut self.shelf, &prepared.result) else { return Some(prepared) };
        let cached = self.scheduler.known_blocks(&generation.prompt);
        if !self.requests.awaits(&prepared) || !shelf.fetch(prepared.ticket, &generation.prompt, cached) {
            return Some(prepared);
        }
        self.fetching.insert(prepared.ticket, prepared);
        None
    }

    /// Fills blocks with what came from the disk; returns the request unless more is on its way.
    pub(super) fn restore(&mut self, loaded: Loaded) -> Option<Prepared> {
        let prepared = self.fetching.remove(&loaded.ticket)?;
        let (Some(shelf), Ok(generation)) = (&mut self.shelf, &prepared.result) else { return Some(prepared) };
        shelf.forget_missing(&loaded);
        let prompt = &generation.prompt;
        // What was before them in memory may be gone by now; then they are of no use.
        if loaded.contents.is_empty() || self.scheduler.known_blocks(prompt) < loaded.first {
            return Some(prepared);
        }
        let end = (loaded.first as usize + loaded.contents.len()) * BLOCK_TOKENS as usize;
        let restored = self.scheduler.restore(&prompt[..end]);
        let complete = restored.last().is_some_and(|(place, _)| *place + 1 == blocks_for(end as u32));
        self.store_evicted();
        for (place, block) in &restored {
            let contents = &loaded.contents[(place - loaded.first) as usize];
            fill(&mut self.model, self.drafter.as_mut(), block.0, contents);
        }
        self.requests.count_restored(restored.len() as u32 * BLOCK_TOKENS);
        if complete { self.fetch(prepared) } else { Some(prepared) }
    }

    /// Puts away what is worth keeping for a later worker.
    pub(super) fn close_shelf(&mut self) {
        let Some(shelf) = self.shelf.take() else { return };
        let (model, drafter) = (&self.model, self.drafter.as_ref());
        shelf.close(self.scheduler.kept(), |block| contents(model, drafter, block.0));
    }
}

/// What a block holds, of the model and then of the draft model.
fn contents(model: &Model, drafter: Option<&Drafter>, block: u32) -> Vec<u8> {
    let mut contents = model.read_block(block);
    contents.extend(drafter.into_iter().flat_map(|drafter| drafter.read_block(block)));
    contents
}

/// Fills a block with its `contents`.
fn fill(model: &mut Model, drafter: Option<&mut Drafter>, block: u32, contents: &[u8]) {
    let (own, rest) = contents.split_at(model.block_bytes());
    model.write_block(block, own);
    if let Some(drafter) = drafter {
        drafter.write_block(block, rest);
    }
}
