//! The line in which prompts wait to be read: long ones never hold all threads, so that a short one finds its own.
//!
//! One of the idle threads listens for what comes, and works on it itself where it may; so nothing changes hands before
//! somebody reads it. What nobody wants any more is left out. So what waits here is bounded by who sends: the heartbeat lets
//! in no more requests than it has places for, however many are given up.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What waits, and who works.
pub struct Line<T> {
    coming: Mutex<Receiver<T>>,
    is_long: fn(&T) -> bool,
    is_wanted: fn(&T) -> bool,
    long_most: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    short: VecDeque<T>,
    long: VecDeque<T>,
    /// How many long ones are being worked on.
    long_now: usize,
    /// Whether somebody listens for what comes.
    listened: bool,
    /// Nothing comes any more.
    over: bool,
}

/// What is worked on; dropping it lets the next long one begin.
pub struct Taken<'a, T> {
    line: &'a Line<T>,
    /// Taken out by whoever works on it.
    pub job: Option<T>,
    long: bool,
}

impl<T> Line<T> {
    /// A line of what comes, in which so many long ones at most are worked on at once.
    pub fn new(coming: Receiver<T>, long_most: usize, is_long: fn(&T) -> bool, is_wanted: fn(&T) -> bool) -> Self {
        let (short, long) = (VecDeque::new(), VecDeque::new());
        let state = Mutex::new(State { short, long, long_now: 0, listened: false, over: false });
        Self { coming: Mutex::new(coming), is_long, is_wanted, long_most, state, changed: Condvar::new() }
    }

    /// Waits for something to work on; nothing if no more comes.
    pub fn next(&self) -> Option<Taken<'_, T>> {
        let mut state = self.lock();
        loop {
            if let Some(taken) = self.take(&mut state) {
                return Some(taken);
            }
            if state.over {
                return None;
            }
            if std::mem::replace(&mut state.listened, true) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            let came = self.coming.lock().unwrap_or_else(PoisonError::into_inner).recv();
            state = self.lock();
            state.listened = false;
            match came {
                Ok(job) if (self.is_long)(&job) => {
                    state.long.retain(self.is_wanted);
                    state.long.push_back(job);
                }
                Ok(job) => state.short.push_back(job),
                Err(_) => state.over = true,
            }
            // Whoever wakes listens on; at the end all go.
            if state.over { self.changed.notify_all() } else { self.changed.notify_one() }
        }
    }

    fn take(&self, state: &mut State<T>) -> Option<Taken<'_, T>> {
        if let Some(job) = self.first(&mut state.short) {
            return Some(Taken { line: self, job: Some(job), long: false });
        }
        if state.long_now == self.long_most {
            return None;
        }
        let job = self.first(&mut state.long)?;
        state.long_now += 1;
        Some(Taken { line: self, job: Some(job), long: true })
    }

    /// The first that somebody wants.
    fn first(&self, waiting: &mut VecDeque<T>) -> Option<T> {
        std::iter::from_fn(|| waiting.pop_front()).find(self.is_wanted)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        if self.long {
            self.line.lock().long_now -= 1;
            self.line.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A line with room for one long job; numbers from 100 on are long, and from 1000 on nobody wants them.
    fn line(jobs: &[u32]) -> Line<u32> {
        let (sender, coming) = sync_channel(jobs.len().max(1));
        jobs.iter().for_each(|job| sender.send(*job).unwrap());
        Line::new(coming, 1, |job| *job >= 100, |job| *job < 1000)
    }

    #[test]
    fn a_short_job_passes_long_ones_that_wait_for_each_other() {
        let line = line(&[100, 101, 1, 102, 2]);
        let first = line.next().unwrap();
        let second = line.next().unwrap();
        let third = line.next().unwrap();
        assert_eq!([first.job, second.job, third.job], [Some(100), Some(1), Some(2)]);
        drop(first);
        assert_eq!(line.next().unwrap().job, Some(101));
        assert_eq!(line.next().unwrap().job, Some(102));
        assert!(line.next().is_none());
    }

    #[test]
    fn what_nobody_wants_any_more_is_passed_over_and_does_not_pile_up() {
        let line = line(&[100, 1001, 1002, 101, 1003, 1004, 1]);
        let first = line.next().unwrap();
        assert_eq!((first.job, line.next().unwrap().job), (Some(100), Some(1)));
        assert!(line.lock().long.len() <= 2, "{:?}", line.lock().long);
        drop(first);
        assert_eq!(line.next().unwrap().job, Some(101));
        assert!(line.next().is_none());
    }

    #[test]
    fn every_job_is_worked_on_once_by_however_many_threads_and_all_of_them_end() {
        let jobs: Vec<u32> = (0..200).collect();
        let line = line(&jobs);
        let mut done = Vec::new();
        std::thread::scope(|scope| {
            let work = || std::iter::from_fn(|| line.next().map(|mut taken| taken.job.take().unwrap())).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            done.extend(threads.into_iter().flat_map(|thread| -> Vec<u32> { thread.join().unwrap() }));
        });
        done.sort_unstable();
        assert_eq!(done, jobs);
    }
}
