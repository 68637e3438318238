//! How the worker is, told when it changes and once a second while it works.
//!
//! The daemon shows it and decides by it which model is idle. The runner calls `beat` after each step and before it
//! waits; the clock is an argument.

use std::time::{Duration, Instant};

use pipe::{FromWorker, Pulse};
use protocol::measures::Measures;
use scheduler::Stats;

use crate::emit::{Deaf, Emitter};
use crate::facts::resident_bytes;

/// The longest silence while there is work.
const SILENCE_MAX: Duration = Duration::from_millis(900);
/// Asking the system how much memory is held costs more than a fast step may.
const MEMORY_EVERY: Duration = Duration::from_millis(250);

/// Tells how the worker is.
pub struct Heart {
    emitter: Emitter,
    last: Pulse,
    told: Instant,
    weighed: Instant,
}

impl Heart {
    /// Begins with the pulse that the daemon has already seen.
    pub fn new(emitter: Emitter, last: Pulse, now: Instant) -> Self {
        Self { emitter, last, told: now, weighed: now }
    }

    /// How long the next beat may take to come: the daemon takes silence for a hang while there is work, though all of it
    /// be prompts that are read elsewhere.
    pub fn pause(&self) -> Duration {
        if self.last.running + self.last.waiting > 0 { SILENCE_MAX } else { Duration::MAX }
    }

    /// Tells how the worker is if that has changed, or if it works and has long been silent. A request that came and went
    /// between two beats is told too: the counts are as before, and what was measured is not.
    pub fn beat(
        &mut self,
        stats: Stats,
        (running, waiting): (u32, u32),
        measures: &Measures,
        now: Instant,
    ) -> Result<(), Deaf> {
        let working = running + waiting > 0;
        let measures = Measures { preemptions: stats.preemptions, ..*measures };
        let changed = (running, waiting) != (self.last.running, self.last.waiting)
            || (!working && measures != self.last.measures);
        let overdue = working && now.saturating_duration_since(self.told) >= SILENCE_MAX;
        if !changed && !overdue {
            return Ok(());
        }
        if now.saturating_duration_since(self.weighed) >= MEMORY_EVERY {
            (self.last.memory_bytes, self.weighed) = (resident_bytes(), now);
        }
        self.told = now;
        self.last = Pulse {
            running,
            waiting,
            blocks_used: stats.blocks_used,
            blocks_total: stats.blocks_total,
            memory_bytes: self.last.memory_bytes,
            measures,
        };
        self.emitter.send(FromWorker::Pulse(self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at each of some beats, by the number of requests measured then.
    fn told(beats: &[((u32, u32), u64)]) -> Vec<(u32, u64)> {
        let (mut heard, output) = std::io::pipe().unwrap();
        let (emitter, writer) = Emitter::start(output).unwrap();
        let now = Instant::now();
        let mut heart = Heart::new(emitter.clone(), Pulse::default(), now);
        for (counts, requests) in beats {
            let measures = Measures { requests: *requests, ..Measures::default() };
            heart.beat(Stats::default(), *counts, &measures, now).unwrap();
        }
        emitter.close().unwrap();
        writer.join().unwrap().unwrap();
        std::iter::from_fn(|| pipe::read(&mut heard).ok())
            .map(|message| match message {
                FromWorker::Pulse(pulse) => (pulse.running, pulse.measures.requests),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_request_that_came_and_went_between_two_beats_is_told_and_nothing_is_told_twice() {
        assert_eq!(told(&[((0, 0), 1), ((0, 0), 1), ((0, 0), 2)]), [(0, 1), (0, 2)]);
    }

    #[test]
    fn measures_alone_are_no_news_while_there_is_work() {
        assert_eq!(told(&[((1, 0), 0), ((1, 0), 1), ((0, 0), 1)]), [(1, 0), (0, 1)]);
    }
}
