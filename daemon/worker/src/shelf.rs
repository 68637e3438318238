//! Prefixes that memory has no room for, put away on disk: blocks of keys and values, found again by what they hold.
//!
//! A block's name is a digest of the model, the salt and all tokens up to the block's end, so a prefix is found by its tokens,
//! in this worker or in a later one, and never shown for other tokens or to whom another salt belongs. Of a model with recurrent states, the state at a block's
//! end lies beside it under a name made of the block's, and a prefix is brought up to the last state that is there. The
//! heartbeat owns the shelf and never touches a file: the keeper's thread does. Everything here may be deleted at any time,
//! and is worth a little time at most.

mod file;
mod keeper;
mod names;
mod seal;
#[cfg(test)]
mod tests;
mod wear;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use scheduler::{BLOCK_TOKENS, Held, Kept, Known, Salt, SequenceId};
use sha2::{Digest as _, Sha256};

use crate::inbox::Message;
use keeper::{Job, Keeper};
use names::{Names, state_of};

pub use file::{BUILD, model_digest};

/// The name of a block: all tokens up to its end, for one model and one salt.
pub type Digest = [u8; 32];

/// Bytes of what a model puts away.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of a block.
    pub block: usize,
    /// Of a recurrent state; 0 for a model without.
    pub state: usize,
}

/// The most blocks and bytes on their way to the disk; what comes beyond is forgotten.
const JOBS_MAX: usize = 4096;
const UNWRITTEN_BYTES_MAX: usize = 128 << 20;
/// The most bytes that one request waits for at a time.
const PIECE_BYTES: usize = 64 << 20;
/// How long a worker that ends puts blocks away.
const LAST_STORES_MAX: Duration = Duration::from_millis(1_200);
/// How often is looked where something is waited for.
const PAUSE: Duration = Duration::from_millis(2);

/// Blocks that were asked for, as far as they are there and sound.
pub struct Loaded {
    /// Who waits for them: of a request that is not admitted yet, its first sequence.
    pub sequence: SequenceId,
    /// The place of the first of them in the prefix.
    pub first: u32,
    /// The names that were asked for, in the order of their places.
    pub wanted: Vec<Digest>,
    /// What the blocks hold, up to the first that is missing.
    pub contents: Vec<Vec<u8>>,
    /// The name of the state that was asked for at their end.
    pub state: Option<Digest>,
    /// What it holds, if it is there and no block is missing.
    pub state_contents: Option<Vec<u8>>,
}

impl Loaded {
    /// The first name that was asked for and is not there.
    fn missing(&self) -> Option<&Digest> {
        let block = self.wanted.get(self.contents.len());
        block.or(self.state.as_ref().filter(|_| self.state_contents.is_none()))
    }
}

/// What is put away.
pub struct Shelf {
    sizes: Sizes,
    names: Names,
    /// Names of what was there when last seen.
    known: HashSet<Digest>,
    jobs: SyncSender<Job>,
    unwritten: Arc<AtomicUsize>,
    keeper: JoinHandle<()>,
}

impl Shelf {
    /// Opens the shelf of a model.
    pub fn open(options: &pipe::Shelf, model: Digest, sizes: Sizes, inbox: SyncSender<Message>) -> io::Result<Self> {
        let model = secret(model, options.key.as_ref());
        let (keeper, known) = Keeper::open(Path::new(&options.dir), &model, options, sizes)?;
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let unwritten = Arc::new(AtomicUsize::new(0));
        let written = unwritten.clone();
        let keeper = Builder::new().name("shelf".to_string()).spawn(move || keeper.run(&queue, &inbox, &written))?;
        Ok(Self { sizes, names: Names::new(model), known, jobs, unwritten, keeper })
    }

    /// Puts the last block of a prefix, or the state at its end, away, unless it is there or too much is on its way; true if
    /// it is on its way.
    pub fn store(&mut self, kept: &Kept, contents: impl FnOnce() -> Vec<u8>) -> bool {
        let Some(block) = self.names.of(kept.salt, &kept.tokens).last() else { return false };
        let (digest, bytes) = match kept.held {
            Held::Block(_) => (*block, self.sizes.block),
            Held::State(_) => (state_of(block), self.sizes.state),
        };
        if self.known.contains(&digest) || self.is_full() {
            return false;
        }
        self.unwritten.fetch_add(bytes, Ordering::Relaxed);
        let place = (kept.tokens.len() / BLOCK_TOKENS as usize) as u32 - 1;
        if self.jobs.try_send(Job::Store { place, digest, contents: contents() }).is_err() {
            self.unwritten.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.known.insert(digest)
    }

    fn is_full(&self) -> bool {
        let next = self.sizes.block.max(self.sizes.state);
        let unwritten = self.unwritten.load(Ordering::Relaxed);
        unwritten > 0 && unwritten + next > UNWRITTEN_BYTES_MAX
    }

    /// Has the next blocks of a prefix brought, of which so much is `known` in memory, as far as it helps; false if
    /// nothing is.
    pub fn fetch(&mut self, sequence: SequenceId, salt: Salt, prefix: &[u32], known: Known) -> bool {
        let digests = self.names.of(salt, prefix);
        let mut first = known.blocks as usize;
        let here = digests.iter().skip(first).take_while(|digest| self.known.contains(*digest)).count();
        let (mut end, mut state) = (first + here, None);
        if self.sizes.state > 0 {
            // Beyond the last state nothing can be gone on from.
            let ends = digests.iter().enumerate().take(end).skip(known.usable as usize).rev();
            let mut states = ends.map(|(place, block)| (place + 1, state_of(block)));
            let Some(last) = states.find(|(_, state)| self.known.contains(state)) else { return false };
            (end, state) = (last.0, Some(last.1));
            first = first.min(end);
        }
        let most = (PIECE_BYTES / self.sizes.block.max(1)).max(1);
        let wanted: Vec<Digest> = digests[first..end].iter().take(most).copied().collect();
        let state = state.filter(|_| first + wanted.len() == end);
        (!wanted.is_empty() || state.is_some())
            && self.jobs.try_send(Job::Load { sequence, first: first as u32, wanted, state }).is_ok()
    }

    /// Forgets what was asked for and is not there, and all that follows it: what has damaged one file has often damaged many,
    /// and each would be found by a request of its own. What is sound after all is written once more.
    pub fn forget_missing(&mut self, loaded: &Loaded) {
        let Some(missing) = loaded.missing() else { return };
        self.known.remove(missing);
        let asked = loaded.wanted[loaded.contents.len()..].iter();
        let further = self.names.last().iter().skip_while(|block| *block != missing);
        for block in asked.chain(further) {
            self.known.remove(block);
            self.known.remove(&state_of(block));
        }
    }

    /// Puts away as much as there is time for, and ends the keeper.
    pub fn close(mut self, all: impl Iterator<Item = Kept>, contents: impl Fn(Held) -> Vec<u8>) {
        let end = Instant::now() + LAST_STORES_MAX;
        for kept in all {
            while self.is_full() && Instant::now() < end {
                sleep(PAUSE);
            }
            if Instant::now() >= end {
                break;
            }
            self.store(&kept, || contents(kept.held));
        }
        drop(self.jobs);
        // A keeper that panicked has nothing more to write.
        let _ = self.keeper.join();
    }
}

/// What names begin from: with a key nobody else can tell which prompt a name stands for.
fn secret(model: Digest, key: Option<&pipe::ShelfKey>) -> Digest {
    match key {
        Some(key) => Sha256::new_with_prefix(key.0).chain_update(model).finalize().into(),
        None => model,
    }
}
