//! Fetches a model from the Hugging Face hub into the cache that all its tools share: resumed where it stopped,
//! checked against the hub's digests, and never more than the files a model needs. It registers nothing; `service`
//! does. It blocks, and so runs on a thread of its own; only this file and its folder name hf-hub and ureq.

mod cache;
mod download;
mod listing;
mod made;
#[cfg(test)]
pub mod tests;

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::{Repo, RepoType};
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind, Result};

use crate::config;
use crate::transcript::Transcript;
use cache::Cache;
use listing::Listing;

/// How often a reader hears how far a download is, unless a file ends.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

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
}

impl Hub {
    /// Makes a hub; nothing is asked yet. In the folder `made` it keeps what it put into the cache.
    pub fn new(config: &config::Hub, made: PathBuf) -> Self {
        Self { config: config.clone(), cache: Cache::new(&config.cache, made) }
    }

    /// Fetches a model; `transcript` hears of it, and ends it by being cancelled.
    pub fn fetch(&self, wish: &Wish, transcript: &Transcript) -> Result<Fetched> {
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
        for file in &files {
            self.fetch_file(&pinned, file, &mut meter)?;
        }
        self.cache.remember(&repo, &listing.commit).map_err(|error| cache::broken(self.cache.root(), &error))?;
        Ok(Fetched { path: self.cache.snapshot(&repo, &listing.commit), commit: listing.commit })
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
