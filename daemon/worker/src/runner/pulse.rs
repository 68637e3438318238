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

    /// Tells how the worker is if that has changed, or if it works and has long been silent.
    pub fn beat(
        &mut self,
        stats: Stats,
        (running, waiting): (u32, u32),
        measures: &Measures,
        now: Instant,
    ) -> Result<(), Deaf> {
        let working = running + waiting > 0;
        let changed = (running, waiting) != (self.last.running, self.last.waiting);
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
            measures: Measures { preemptions: stats.preemptions, ..*measures },
        };
        self.emitter.send(FromWorker::Pulse(self.last))
    }
}
