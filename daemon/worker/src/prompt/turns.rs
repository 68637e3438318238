//! Lets only some of the threads do what may take long, so that there are always others for what does not.
//!
//! A thread waits a moment for its turn and then gives up. The prompt threads take turns at trying grammars.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many turns are free.
pub struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A turn, free again when it is dropped.
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// So many at once.
    pub fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits for a turn, no longer than this.
    pub fn take(&self, patience: Duration) -> Option<Turn<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(free, patience, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_free_again_when_it_was_used_and_nobody_waits_longer_than_it_wants() {
        let turns = Turns::new(1);
        let turn = turns.take(Duration::ZERO).unwrap();
        assert!(turns.take(Duration::from_millis(1)).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| turns.take(Duration::from_secs(60)).is_some());
            drop(turn);
            assert!(waiting.join().unwrap());
        });
        assert!(turns.take(Duration::ZERO).is_some());
    }
}
