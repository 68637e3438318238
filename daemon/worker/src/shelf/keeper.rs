//! The thread that reads and writes the shelf's files, within a budget of space and one of wear.
//!
//! All models share one folder and one budget, each with a folder of its own inside, and in that one for what is computed
//! alike: another build or draft model finds an empty one. When the space is used up, the files that were not asked for
//! longest go first. Writing stops for the day when a day's share is written, by all workers together. It decides nothing
//! about what is worth keeping: `shelf` asks, this does.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scheduler::SequenceId;

use super::seal::Seal;
use super::{Digest, Loaded, Sizes, file, wear};
use crate::inbox::Message;

/// Room is made for a part of the budget at a time, because it takes a look at every file.
const ROOM_PARTS: u64 = 16;
/// After how small a part of the budget is looked again at what others have written.
const LOOK_PARTS: u64 = 64;
/// How much older a block counts than the one before it in its prefix.
const DEEPER: Duration = Duration::from_micros(1);

/// What the keeper is to do.
pub enum Job {
    /// Puts a block, or the state at its end, away.
    Store {
        /// The block's place in its prefix.
        place: u32,
        /// Its name.
        digest: Digest,
        /// What it holds.
        contents: Vec<u8>,
    },
    /// Brings blocks.
    Load {
        /// Who waits for them.
        sequence: SequenceId,
        /// The place of the first in the prefix.
        first: u32,
        /// Their names.
        wanted: Vec<Digest>,
        /// The name of the state at their end, if that is wanted too.
        state: Option<Digest>,
    },
}

/// The files of one model.
pub struct Keeper {
    /// Of all models.
    root: PathBuf,
    dir: PathBuf,
    sizes: Sizes,
    seal: Option<Seal>,
    bytes_max: u64,
    day_bytes_max: u64,
    /// Of all models, as far as is known.
    used: u64,
    /// Written since that was looked at.
    unseen: u64,
    /// Which place of the prefix that is being stored comes next, and when its first block was stored.
    chain: (u32, SystemTime),
}

struct Stored {
    path: PathBuf,
    bytes: u64,
    asked_for: SystemTime,
}

impl Keeper {
    /// Opens a model's folder and returns what it holds.
    pub fn open(
        root: &Path,
        model: &Digest,
        options: &pipe::Shelf,
        sizes: Sizes,
    ) -> io::Result<(Self, HashSet<Digest>)> {
        let dir = root.join(&options.model).join(file::hex(model));
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let (bytes_max, day_bytes_max) = (options.bytes_max, options.day_bytes_max);
        let seal = options.key.as_ref().map(Seal::new).transpose()?;
        let mut keeper = Self {
            root: root.to_path_buf(),
            dir,
            sizes,
            seal,
            bytes_max,
            day_bytes_max,
            used: 0,
            unseen: 0,
            chain: (0, UNIX_EPOCH),
        };
        for entry in fs::read_dir(&keeper.dir)? {
            let path = entry?.path();
            if file::is_unfinished(&path) {
                fs::remove_file(path)?;
            }
        }
        keeper.make_room();
        let names = fs::read_dir(&keeper.dir)?.filter_map(|entry| file::digest_of(&entry.ok()?.path()));
        let known = names.collect();
        Ok((keeper, known))
    }

    /// Works until nobody has jobs. `unwritten` counts the bytes that wait to be written.
    pub fn run(mut self, jobs: &Receiver<Job>, inbox: &SyncSender<Message>, unwritten: &AtomicUsize) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Store { place, digest, contents } => {
                    self.store(place, &digest, &contents);
                    unwritten.fetch_sub(contents.len(), Ordering::Relaxed);
                }
                Job::Load { sequence, first, wanted, state } => {
                    let block = self.sizes.block;
                    let places = wanted.iter().zip(first..);
                    let contents: Vec<_> =
                        places.map_while(|(digest, place)| self.load(place, digest, block)).collect();
                    let end = (first + wanted.len() as u32).saturating_sub(1);
                    let complete = contents.len() == wanted.len();
                    let wanted_state = state.filter(|_| complete);
                    let state_contents = wanted_state.and_then(|digest| self.load(end, &digest, self.sizes.state));
                    let loaded = Loaded { sequence, first, wanted, contents, state, state_contents };
                    if inbox.send(Message::Loaded(loaded)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn store(&mut self, place: u32, digest: &Digest, contents: &[u8]) {
        let bytes = contents.len() as u64;
        if wear::written(&self.root).saturating_add(bytes) > self.day_bytes_max {
            return;
        }
        let look = self.unseen.saturating_add(bytes) > self.bytes_max / LOOK_PARTS;
        if look || self.used.saturating_add(bytes) > self.bytes_max {
            self.make_room();
        }
        if self.used.saturating_add(bytes) > self.bytes_max {
            return;
        }
        match file::write(&self.dir, digest, contents, self.seal.as_ref()) {
            Ok(written) => {
                // The state at the end of a block has the block's place.
                if place == 0 || (place != self.chain.0 && place + 1 != self.chain.0) {
                    self.chain.1 = SystemTime::now();
                }
                self.chain.0 = place + 1;
                self.note_asked_for(place, digest, self.chain.1);
                (self.used, self.unseen) = (self.used + written, self.unseen + written);
                if let Err(error) = wear::add(&self.root, written) {
                    tracing::warn!(%error, "what was written today cannot be noted");
                }
            }
            Err(error) => tracing::warn!(%error, dir = %self.dir.display(), "a part of a prefix cannot be stored"),
        }
    }

    fn load(&self, place: u32, digest: &Digest, bytes: usize) -> Option<Vec<u8>> {
        match file::read(&self.dir, digest, bytes, self.seal.as_ref()) {
            Ok(contents) => {
                self.note_asked_for(place, digest, SystemTime::now());
                Some(contents)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, "a stored part of a prefix is removed");
                let _ = fs::remove_file(file::path(&self.dir, digest));
                None
            }
        }
    }

    /// Files are removed in the order of these times. What stands further on in a prefix counts as older, because without
    /// its beginning it is worth nothing.
    fn note_asked_for(&self, place: u32, digest: &Digest, time: SystemTime) {
        let time = time - DEEPER * place;
        // A failure costs an early removal at most.
        let _ = File::open(file::path(&self.dir, digest)).and_then(|file| file.set_modified(time));
    }

    /// Looks at the files of all models, and removes the oldest if they take more than a part less than the budget.
    fn make_room(&mut self) {
        let mut stored = self.all_stored();
        (self.used, self.unseen) = (stored.iter().map(|file| file.bytes).sum(), 0);
        if self.used <= self.bytes_max - self.bytes_max / ROOM_PARTS {
            return;
        }
        stored.sort_by_key(|file| file.asked_for);
        for file in stored {
            if self.used <= self.bytes_max - self.bytes_max / ROOM_PARTS {
                return;
            }
            if fs::remove_file(&file.path).is_ok() {
                self.used -= file.bytes;
            }
        }
    }

    /// Files of all models; what cannot be looked at is not counted.
    fn all_stored(&self) -> Vec<Stored> {
        let inside = |entry: fs::DirEntry| fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let models = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let files = models.flat_map(inside).flat_map(inside);
        let stored = |entry: fs::DirEntry| {
            let (path, facts) = (entry.path(), entry.metadata().ok()?);
            file::digest_of(&path)?;
            Some(Stored { path, bytes: facts.len(), asked_for: facts.modified().unwrap_or(UNIX_EPOCH) })
        };
        files.filter_map(stored).collect()
    }
}
