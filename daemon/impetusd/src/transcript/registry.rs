//! All transcripts of the daemon, by id. Ended ones are kept for a while, so that a lost reply can be read again, and
//! never more than a bound. Opened by `service` before the work begins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::transcript::TranscriptId;
use protocol::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::{PageLimits, Transcript};
use crate::config;

/// Every transcript that can be read.
#[derive(Debug)]
pub struct Transcripts {
    next: AtomicU64,
    limits: PageLimits,
    keep: Duration,
    ended_max: usize,
    ended_bytes_max: u64,
    /// What ended ones take.
    ended_bytes: Arc<AtomicU64>,
    by_id: Mutex<HashMap<TranscriptId, Arc<Transcript>>>,
}

impl Transcripts {
    /// Starts with none.
    pub fn new(config: &config::Transcripts) -> Self {
        let bytes_max = usize::try_from(config.page_bytes_max).unwrap_or(usize::MAX);
        let limits = PageLimits { events_max: config.page_events_max.max(1), bytes_max: bytes_max.max(1) };
        let (keep, ended_max, ended_bytes_max) = (config.keep, config.ended_max, config.ended_bytes_max);
        let (next, ended_bytes, by_id) = (AtomicU64::new(1), Arc::default(), Mutex::default());
        Self { next, limits, keep, ended_max, ended_bytes_max, ended_bytes, by_id }
    }

    /// Opens a new one.
    pub fn open(&self) -> Arc<Transcript> {
        // Between two regular prunings many may come and go. A little too much is let pass, or each would prune.
        let much =
            self.ended_bytes.load(Ordering::Relaxed) > self.ended_bytes_max.saturating_add(self.ended_bytes_max / 8);
        if much || self.lock().len() > 4 * self.ended_max {
            self.prune(Instant::now());
        }
        let id = TranscriptId(self.next.fetch_add(1, Ordering::Relaxed));
        let transcript = Arc::new(Transcript::new(id, self.limits, self.ended_bytes.clone()));
        self.lock().insert(id, transcript.clone());
        transcript
    }

    /// Finds one that goes on, or that ended not long ago.
    pub fn find(&self, id: TranscriptId) -> Result<Arc<Transcript>> {
        self.lock().get(&id).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no transcript {}", id.0))
                .param("id")
                .hint(format!("ended transcripts are kept for {} s; begin again", self.keep.as_secs()))
        })
    }

    /// Forgets one whose work was refused before it began.
    pub fn forget(&self, id: TranscriptId) {
        self.lock().remove(&id);
    }

    /// Whether it is there and has not ended.
    pub fn goes_on(&self, id: TranscriptId) -> bool {
        self.lock().get(&id).is_some_and(|transcript| transcript.ended().is_none())
    }

    /// How many pieces of work go on.
    pub fn active(&self) -> usize {
        self.lock().values().filter(|transcript| transcript.ended().is_none()).count()
    }

    /// Forgets what ended too long ago, and the oldest of what are too many.
    pub fn prune(&self, now: Instant) {
        let mut by_id = self.lock();
        let mut ended: Vec<(Instant, TranscriptId)> =
            by_id.values().filter_map(|transcript| Some((transcript.ended()?, transcript.id()))).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(self.ended_max);
        let old = |at: Instant| now.saturating_duration_since(at) >= self.keep;
        let (mut bytes, mut kept) = (0_u64, 0);
        // The youngest first, so that the oldest go when there are too many bytes.
        for (index, (at, id)) in ended.into_iter().enumerate().rev() {
            bytes = bytes.saturating_add(by_id.get(&id).map_or(0, |transcript| transcript.held()));
            if index < surplus || old(at) || bytes > self.ended_bytes_max {
                by_id.remove(&id);
            } else {
                kept = bytes;
            }
        }
        self.ended_bytes.store(kept, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TranscriptId, Arc<Transcript>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
