//! Ends this process where a task takes too long or too much memory: whatever a stranger's template or file does costs one
//! task, and no machine.
//!
//! A thread looks every few milliseconds. Memory is what the process holds of its own: the pages of mapped files are the
//! system's, which takes them back when it needs them. `render` begins and ends every task of its process, and the program
//! reads folders and files under one.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::facts::own_bytes;

/// How often it looks.
const WATCH_EVERY: Duration = Duration::from_millis(2);

/// What one task may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest time.
    pub time: Duration,
    /// The most memory, in bytes on top of what the process held before.
    pub bytes: u64,
}

/// What reading a model's folder or file may take, whatever it asks: a tokenizer of a million words takes some hundred
/// megabytes. How long it may take is the daemon's to say.
pub const FILE_LIMITS: Limits = Limits { time: Duration::MAX, bytes: 2 << 30 };

/// Which limit a task went past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// It took longer than this.
    #[error("takes more than {} s", .0.as_secs_f32())]
    Late(Duration),
    /// It took more bytes than this.
    #[error("takes more than {} MiB of memory", .0 >> 20)]
    Large(u64),
}

/// Watches one task at a time.
pub struct Guard {
    watched: Arc<(Mutex<Option<Watched>>, Condvar)>,
}

/// A task that goes on.
#[derive(Clone, Copy)]
struct Watched {
    limits: Limits,
    began: Instant,
    bytes_before: u64,
}

impl Watched {
    /// What it is past, if it is past anything.
    fn excess(&self) -> Option<Excess> {
        let Limits { time, bytes } = self.limits;
        if self.began.elapsed() > time {
            return Some(Excess::Late(time));
        }
        (own_bytes().saturating_sub(self.bytes_before) > bytes).then_some(Excess::Large(bytes))
    }
}

impl Guard {
    /// Starts to watch; `end` is called once, on another thread, and has to end the process.
    pub fn start(end: impl FnOnce(Excess) + Send + 'static) -> io::Result<Self> {
        let watched = Arc::new((Mutex::new(None), Condvar::new()));
        let guarded = watched.clone();
        Builder::new().name("guard".to_string()).spawn(move || end(watch(&guarded)))?;
        Ok(Self { watched })
    }

    /// A task begins.
    pub fn begin(&self, limits: Limits) {
        self.set(Some(Watched { limits, began: Instant::now(), bytes_before: own_bytes() }));
    }

    /// It has ended.
    pub fn end(&self) {
        self.set(None);
    }

    fn set(&self, to: Option<Watched>) {
        let (watched, changed) = &*self.watched;
        *watched.lock().unwrap_or_else(PoisonError::into_inner) = to;
        changed.notify_one();
    }
}

/// Waits until a task is past its limits.
fn watch((watched, changed): &(Mutex<Option<Watched>>, Condvar)) -> Excess {
    let mut current = watched.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        current = match &*current {
            None => changed.wait(current).unwrap_or_else(PoisonError::into_inner),
            Some(watched) => match watched.excess() {
                Some(excess) => return excess,
                None => changed.wait_timeout(current, WATCH_EVERY).unwrap_or_else(PoisonError::into_inner).0,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn guard() -> (Guard, Receiver<Excess>) {
        let (sender, excess) = sync_channel(1);
        (Guard::start(move |excess| sender.send(excess).unwrap()).unwrap(), excess)
    }

    #[test]
    fn a_task_past_its_time_or_its_memory_is_told_apart() {
        let (late, excess) = guard();
        late.begin(Limits { time: Duration::ZERO, bytes: u64::MAX });
        assert_eq!(excess.recv_timeout(PATIENCE), Ok(Excess::Late(Duration::ZERO)));
        let (large, excess) = guard();
        large.begin(Limits { time: Duration::MAX, bytes: 64 << 20 });
        let held = vec![1_u8; 128 << 20];
        assert_eq!(excess.recv_timeout(PATIENCE), Ok(Excess::Large(64 << 20)));
        drop(held);
    }

    #[test]
    fn what_has_ended_is_not_watched() {
        let (guard, excess) = guard();
        guard.begin(Limits { time: Duration::MAX, bytes: u64::MAX });
        guard.end();
        assert!(guard.watched.0.lock().unwrap().is_none() && excess.try_recv().is_err());
    }

    #[test]
    fn pages_of_mapped_files_are_not_counted() {
        let (own, all) = (own_bytes(), crate::facts::resident_bytes());
        assert!(0 < own && own < all, "the program itself is a mapped file: {own} of {all}");
    }
}
