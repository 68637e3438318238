//! Fetches a model from the Hugging Face hub into the cache that all its tools share: resumed where it stopped,
//! checked against the hub's digests, and never more than the files a model needs. It registers nothing; `service`
//! does. It blocks, and so runs on a thread of its own; only this file and its folder name hf-hub and ureq.

mod cache;
mod download;
mod listing;
mod made;
#[cfg(test)]
pub mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Repo, RepoType};
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind, Result};

use crate::transcript::Transcript;
use crate::{config, machine};
use cache::Cache;
use listing::{File, Listing};

/// How often a reader hears how far a download is, unless a file ends.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What a pull leaves free on the disk: others write there too, the database among them.
const ROOM_LEFT: u64 = 500_000_000;

/// A model that is to be fetched.
#[derive(Clone, Debug)]
pub struct Wish {
    /// `ORG/NAME`.
    pub repo: String,
    /// A branch, tag or commit.
    pub revision: String,
}

/// A model that is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder of its files.
    pub path: PathBuf,
    /// The commit they are of.
    pub commit: String,
}

/// A hub, as configured.
#[derive(Clone, Debug)]
pub struct Hub {
    config: config::Hub,
    cache: Cache,
    /// How much room is left on the disk of a folder.
    room: fn(&Path) -> Option<u64>,
}

impl Hub {
    /// Makes a hub; nothing is asked yet. In the folder `made` it keeps what it put into the cache.
    pub fn new(config: &config::Hub, made: PathBuf) -> Self {
        Self { config: config.clone(), cache: Cache::new(&config.cache, made), room: machine::disk_room }
    }

    /// Fetches a model; `transcript` hears of it, and ends it by being cancelled. Before the weights are fetched, `judge` may
    /// refuse the folder of all else.
    pub fn fetch(
        &self,
        wish: &Wish,
        transcript: &Transcript,
        judge: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Fetched> {
        let repo = Repo::with_revision(wish.repo.clone(), RepoType::Model, wish.revision.clone());
        let listing = match self.listing(&repo, wish) {
            Ok(listing) => listing,
            // Without a network, what was fetched before still serves.
            Err(error) if error.kind == ErrorKind::Unreachable => {
                return self.cache.complete(&repo).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let files = listing.needed(&wish.repo)?;
        let mut meter = Meter::new(transcript, wish, files.iter().map(|file| file.bytes).sum());
        let pinned = Repo::with_revision(wish.repo.clone(), RepoType::Model, listing.commit.clone());
        self.check_room(&pinned, &files)?;
        let path = self.cache.snapshot(&repo, &listing.commit);
        let (small, weights) = files.split_at(files.partition_point(|file| !file.is_weights()));
        for file in small {
            self.fetch_file(&pinned, file, &mut meter)?;
        }
        judge(&path)?;
        for file in weights {
            self.fetch_file(&pinned, file, &mut meter)?;
        }
        self.cache.remember(&repo, &listing.commit).map_err(|error| cache::broken(self.cache.root(), &error))?;
        Ok(Fetched { path, commit: listing.commit })
    }

    /// Refuses what the disk has no room for.
    fn check_room(&self, repo: &Repo, files: &[File]) -> Result<()> {
        let missing: u64 = files.iter().map(|file| self.cache.missing(repo, file)).sum();
        let folder = self.cache.root().ancestors().find(|folder| folder.exists());
        let Some(room) = folder.and_then(self.room) else { return Ok(()) };
        if missing == 0 || missing.saturating_add(ROOM_LEFT) <= room {
            return Ok(());
        }
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let message = format!(
            "{} needs {:.1} GB more on disk, and {} has room for {:.1} GB, of which {:.1} GB stay free",
            repo.url(),
            gigabytes(missing),
            self.cache.root().display(),
            gigabytes(room),
            gigabytes(ROOM_LEFT),
        );
        let hint = "make room, pull a smaller or more quantized model, or set HF_HOME to a folder on another disk";
        Err(Error::new(ErrorKind::NoMemory, message).hint(hint))
    }

    /// Deletes what was fetched of a repository, whatever the commit, unless one of `used` lies there: commits share files.
    /// What other tools put there stays.
    pub fn delete(&self, repo: &str, used: &[PathBuf]) -> Result<()> {
        let repo = Repo::new(repo.to_owned(), RepoType::Model);
        self.cache.delete(&repo, used).map_err(|error| cache::broken(self.cache.root(), &error))
    }

    fn listing(&self, repo: &Repo, wish: &Wish) -> Result<Listing> {
        if self.config.offline {
            let message = format!("{} is not fetched: HF_HUB_OFFLINE forbids it", wish.repo);
            return Err(Error::new(ErrorKind::Unreachable, message).hint("unset HF_HUB_OFFLINE and try again"));
        }
        listing::ask(&self.config, &self.cache, repo, wish)
    }
}

/// Tells a transcript how far a pull is, not too often; and the pull whether to go on.
struct Meter<'a> {
    transcript: &'a Transcript,
    subject: String,
    done: u64,
    total: u64,
    said: Option<std::time::Instant>,
}

impl<'a> Meter<'a> {
    fn new(transcript: &'a Transcript, wish: &Wish, total: u64) -> Self {
        Self { transcript, subject: wish.repo.clone(), done: 0, total, said: None }
    }

    /// Counts bytes that are on disk.
    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.say(Stage::Downloading);
    }

    /// Takes back bytes that turned out to be useless.
    fn withdraw(&mut self, bytes: u64) {
        self.done = self.done.saturating_sub(bytes);
    }

    fn say(&mut self, stage: Stage) {
        if self.done < self.total && self.said.is_some_and(|said| said.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.said = Some(std::time::Instant::now());
        let (subject, done, total) = (self.subject.clone(), self.done, Some(self.total));
        self.transcript.append(Event::Progress(Progress { stage, subject, done, total, unit: Unit::Bytes }));
    }

    /// Fails once the pull is cancelled.
    fn check(&self) -> Result<()> {
        match self.transcript.cancelled().is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "the pull was cancelled; what was fetched is kept")),
            false => Ok(()),
        }
    }
}
