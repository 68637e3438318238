//! What happens, for those who watch: the youngest of it, in a ring that is read with a cursor. Whoever tells something
//! waits for nobody; a reader that is too slow loses the oldest and is told so. Told by `supervisor`, `journal` and
//! `service::pull`, read by `service::news`, which also judges who may see what.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::news::{Downloaded, Happening};
use protocol::transcript::{Event, Stage};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::transcript::Observer;

/// Happenings that are kept: minutes of a busy daemon.
const KEPT: usize = 1_024;

/// The most happenings in one answer.
const PAGE: usize = 256;

/// Where happenings are told; clones are one.
#[derive(Clone, Debug, Default)]
pub struct Newsroom(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// The number of the youngest: a waiting reader wakes when it grows.
    youngest: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { ring: Mutex::default(), youngest: watch::Sender::new(0) }
    }
}

#[derive(Debug, Default)]
struct Ring {
    happenings: VecDeque<Happening>,
    /// How many there were before the first of them.
    dropped: u64,
}

/// What was read.
#[derive(Debug, PartialEq)]
pub struct Read {
    /// Oldest first.
    pub happenings: Vec<Happening>,
    /// What to read after next.
    pub next: u64,
    /// Whether some were dropped before they were read.
    pub missed: bool,
}

impl Newsroom {
    /// Tells something.
    pub fn tell(&self, happening: Happening) {
        let youngest = {
            let mut ring = self.lock();
            if ring.happenings.len() == KEPT {
                ring.happenings.pop_front();
                ring.dropped += 1;
            }
            ring.happenings.push_back(happening);
            ring.youngest()
        };
        self.0.youngest.send_replace(youngest);
    }

    /// Returns the number of the youngest.
    pub fn now(&self) -> u64 {
        self.lock().youngest()
    }

    /// Returns what was told after `after`; waits until `deadline` for the first.
    pub async fn read(&self, after: u64, deadline: Instant) -> Read {
        let mut youngest = self.0.youngest.subscribe();
        loop {
            youngest.mark_unchanged();
            let read = self.lock().after(after);
            if !read.happenings.is_empty() || read.missed {
                return read;
            }
            // The sender lives in self, so only the deadline ends the wait early.
            if tokio::time::timeout_at(deadline, youngest.changed()).await.is_err() {
                return read;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn youngest(&self) -> u64 {
        self.dropped + self.happenings.len() as u64
    }

    fn after(&self, after: u64) -> Read {
        // A number from before a restart is beyond the youngest: everything is news then.
        let (after, missed) = match after {
            after if after > self.youngest() => (self.dropped, true),
            after => (after.max(self.dropped), after < self.dropped),
        };
        let start = (after - self.dropped) as usize;
        let happenings: Vec<_> = self.happenings.iter().skip(start).take(PAGE).cloned().collect();
        Read { next: after + happenings.len() as u64, happenings, missed }
    }
}

/// Tells how a download goes.
#[derive(Debug)]
pub struct Download {
    newsroom: Newsroom,
    repo: String,
    said: Option<Instant>,
}

/// The shortest time between two tellings of how far a download is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

impl Download {
    /// Will tell `newsroom` of the download of `repo`.
    pub fn new(newsroom: Newsroom, repo: String) -> Self {
        Self { newsroom, repo, said: None }
    }
}

impl Observer for Download {
    fn see(&mut self, event: &Event) {
        let ended = |error| Happening::Downloaded(Downloaded { repo: self.repo.clone(), error });
        match event {
            Event::Progress(progress) => {
                let early = self.said.is_some_and(|said| said.elapsed() < PROGRESS_EVERY);
                if early && progress.stage == Stage::Downloading && Some(progress.done) != progress.total {
                    return;
                }
                self.said = Some(Instant::now());
                self.newsroom.tell(Happening::Downloading(progress.clone()));
            }
            Event::Finished(_) => self.newsroom.tell(ended(None)),
            Event::Failed(error) => self.newsroom.tell(ended(Some(error.clone()))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forgotten(name: impl ToString) -> Happening {
        Happening::Forgotten(name.to_string())
    }

    #[tokio::test]
    async fn a_reader_gets_what_came_after_its_cursor_and_waits_for_the_first() {
        let newsroom = Newsroom::default();
        newsroom.tell(forgotten("a"));
        let from = newsroom.now();
        let (waiting, teller) = (newsroom.clone(), newsroom.clone());
        let read = tokio::spawn(async move { waiting.read(from, Instant::now() + Duration::from_secs(20)).await });
        teller.tell(forgotten("b"));
        let read = read.await.unwrap();
        assert_eq!(read, Read { happenings: vec![forgotten("b")], next: from + 1, missed: false });
        let idle = newsroom.read(read.next, Instant::now()).await;
        assert_eq!(idle, Read { happenings: vec![], next: read.next, missed: false });
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_that_something_is_lost() {
        let newsroom = Newsroom::default();
        (0..KEPT + 10).for_each(|number| newsroom.tell(forgotten(number)));
        let read = newsroom.read(0, Instant::now()).await;
        assert!(read.missed && read.happenings.len() == PAGE);
        assert_eq!(read.happenings[0], forgotten(10));
        let next = newsroom.read(read.next, Instant::now()).await;
        assert!(!next.missed);
        assert_eq!(next.happenings[0], forgotten(10 + PAGE));
        let restarted = Newsroom::default();
        assert!(restarted.read(99, Instant::now()).await.missed, "a cursor of another life");
    }
}
