//! Prefixes that memory has no room for, put away on disk: blocks of keys and values, found again by what they hold.
//!
//! A block's name is a digest of the model and of all tokens up to the block's end, so a prefix is found by its tokens, in
//! this worker or in a later one, and never shown for other tokens. The heartbeat owns the shelf and never touches a file:
//! the keeper's thread does. Everything here may be deleted at any time, and is worth a little time at most.

mod file;
mod keeper;
mod seal;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use scheduler::{BLOCK_TOKENS, BlockId, Kept};
use sha2::{Digest as _, Sha256};

use crate::generation::Ticket;
use crate::inbox::Message;
use keeper::{Job, Keeper};

pub use file::model_digest;

/// The name of a block: all tokens up to its end, for one model.
pub type Digest = [u8; 32];

/// The most blocks and bytes on their way to the disk; what comes beyond is forgotten.
const JOBS_MAX: usize = 4096;
const UNWRITTEN_BYTES_MAX: usize = 128 << 20;
/// The most bytes that one request waits for at a time.
const PIECE_BYTES: usize = 64 << 20;
/// How long a worker that ends puts blocks away.
const LAST_STORES_MAX: Duration = Duration::from_millis(1_200);
/// How often the last stores look whether there is room.
const PAUSE: Duration = Duration::from_millis(2);

/// Blocks that were asked for, as far as they are there and sound.
pub struct Loaded {
    /// Who waits for them.
    pub ticket: Ticket,
    /// The place of the first of them in the prefix.
    pub first: u32,
    /// The names that were asked for, in the order of their places.
    pub wanted: Vec<Digest>,
    /// What the blocks hold, up to the first that is missing.
    pub contents: Vec<Vec<u8>>,
}

/// What is put away.
pub struct Shelf {
    model: Digest,
    block_bytes: usize,
    /// Names of what was there when last seen.
    known: HashSet<Digest>,
    jobs: SyncSender<Job>,
    unwritten: Arc<AtomicUsize>,
    keeper: JoinHandle<()>,
    /// The names of one prefix's blocks: neighbours are asked for together.
    last: (Vec<u32>, Vec<Digest>),
}

impl Shelf {
    /// Opens the shelf of a model, whose blocks have `block_bytes`.
    pub fn open(
        options: &pipe::Shelf,
        model: Digest,
        block_bytes: usize,
        inbox: SyncSender<Message>,
    ) -> io::Result<Self> {
        let model = secret(model, options.key.as_ref());
        let (keeper, known) = Keeper::open(Path::new(&options.dir), &model, options, block_bytes)?;
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let unwritten = Arc::new(AtomicUsize::new(0));
        let written = unwritten.clone();
        let keeper = Builder::new().name("shelf".to_string()).spawn(move || keeper.run(&queue, &inbox, &written))?;
        Ok(Self { model, block_bytes, known, jobs, unwritten, keeper, last: Default::default() })
    }

    /// The names of the full blocks of a prefix.
    fn digests(&mut self, tokens: &[u32]) -> Vec<Digest> {
        let full = tokens.len() / BLOCK_TOKENS as usize;
        let tokens = &tokens[..full * BLOCK_TOKENS as usize];
        if !self.last.0.starts_with(tokens) {
            let mut digest = self.model;
            let next = |block: &[u32]| {
                let mut hash = Sha256::new_with_prefix(digest);
                block.iter().for_each(|token| hash.update(token.to_le_bytes()));
                digest = hash.finalize().into();
                digest
            };
            let digests = tokens.chunks_exact(BLOCK_TOKENS as usize).map(next).collect();
            self.last = (tokens.to_vec(), digests);
        }
        self.last.1[..full].to_vec()
    }

    /// Puts the last block of a prefix away, unless it is there or too much is on its way; true if it is on its way.
    pub fn store(&mut self, tokens: &[u32], contents: impl FnOnce() -> Vec<u8>) -> bool {
        let Some(digest) = self.digests(tokens).pop() else { return false };
        if self.known.contains(&digest) || self.is_full() {
            return false;
        }
        self.unwritten.fetch_add(self.block_bytes, Ordering::Relaxed);
        let place = (tokens.len() / BLOCK_TOKENS as usize) as u32 - 1;
        if self.jobs.try_send(Job::Store { place, digest, contents: contents() }).is_err() {
            self.unwritten.fetch_sub(self.block_bytes, Ordering::Relaxed);
            return false;
        }
        self.known.insert(digest)
    }

    fn is_full(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) + self.block_bytes > UNWRITTEN_BYTES_MAX
    }

    /// Has the next blocks of a prompt brought, of which `cached` are in memory; false if there are none.
    pub fn fetch(&mut self, ticket: Ticket, prompt: &[u32], cached: u32) -> bool {
        // The last token is always computed.
        let digests = self.digests(&prompt[..prompt.len().saturating_sub(1)]);
        let most = (PIECE_BYTES / self.block_bytes.max(1)).max(1);
        let here = |digest: &&Digest| self.known.contains(*digest);
        let wanted: Vec<Digest> = digests.iter().skip(cached as usize).take_while(here).take(most).copied().collect();
        !wanted.is_empty() && self.jobs.try_send(Job::Load { ticket, first: cached, wanted }).is_ok()
    }

    /// Forgets what was asked for and is not there.
    pub fn forget_missing(&mut self, loaded: &Loaded) {
        if let Some(missing) = loaded.wanted.get(loaded.contents.len()) {
            self.known.remove(missing);
        }
    }

    /// Puts away as many blocks as there is time for, and ends the keeper.
    pub fn close(mut self, blocks: impl Iterator<Item = Kept>, contents: impl Fn(BlockId) -> Vec<u8>) {
        let end = Instant::now() + LAST_STORES_MAX;
        for Kept { block, tokens } in blocks {
            while self.is_full() && Instant::now() < end {
                sleep(PAUSE);
            }
            if Instant::now() >= end {
                break;
            }
            self.store(&tokens, || contents(block));
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
