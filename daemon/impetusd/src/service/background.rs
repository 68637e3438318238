//! Work on models that goes on behind a transcript, `pull` and `import`: one at a time for each subject, a few at once,
//! ended by a cancellation or by the daemon's own end.

use std::sync::{Arc, PoisonError};

use protocol::generation::Finished;
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind, Result};
use tokio::sync::OwnedSemaphorePermit;

use crate::daemon::Daemon;
use crate::transcript::Transcript;

/// Work that goes on or waits for its turn.
const WAITING_MAX: usize = 64;

/// The right to work on one subject: two would write the same files.
pub struct Turn {
    /// The daemon.
    pub daemon: Arc<Daemon>,
    subject: String,
}

impl Turn {
    /// Takes the turn, unless somebody has it.
    pub fn take(daemon: &Arc<Daemon>, subject: &str) -> Result<Self> {
        let mut busy = daemon.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.len() >= WAITING_MAX {
            let message = format!("{} pulls and imports wait already", busy.len());
            return Err(Error::new(ErrorKind::Busy, message).hint("wait until some have ended").retry_after_ms(60_000));
        }
        if !busy.insert(subject.to_owned()) {
            let message = format!("{subject} is on its way already");
            return Err(Error::new(ErrorKind::Conflict, message).hint("wait until it is there, or cancel it"));
        }
        Ok(Self { daemon: daemon.clone(), subject: subject.to_owned() })
    }

    /// Waits for a place among the few that work at once.
    pub async fn place(&self, transcript: &Transcript) -> Result<OwnedSemaphorePermit> {
        let (subject, unit) = (self.subject.clone(), Unit::Bytes);
        transcript.append(Event::Progress(Progress { stage: Stage::Queued, subject, done: 0, total: None, unit }));
        let closed = |_| Error::new(ErrorKind::Closing, "the daemon is shutting down");
        self.daemon.fetches.clone().acquire_owned().await.map_err(closed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.daemon.fetching.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.subject);
    }
}

/// Runs `work` until it ends, its transcript is cancelled or the daemon ends, and ends the transcript with what came of it.
/// `left` says what becomes of what was done by then.
pub fn start(
    turn: &Arc<Turn>,
    transcript: Arc<Transcript>,
    left: &'static str,
    work: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<()> {
    let turn = turn.clone();
    if turn.daemon.shutdown.is_requested() {
        return Err(Error::new(ErrorKind::Closing, "the daemon is shutting down"));
    }
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = work => ended,
            () = transcript.cancelled().cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, format!("the work was cancelled; {left}")))
            }
            () = turn.daemon.shutdown.requested() => {
                transcript.cancelled().cancel();
                Err(Error::new(ErrorKind::Closing, format!("the daemon is shutting down; {left}")))
            }
        };
        match ended {
            Ok(()) => transcript.finish(Finished::default()),
            Err(error) => {
                let subject = &turn.subject;
                tracing::warn!(request = transcript.id().0, subject, kind = ?error.kind, "failed: {}", error.message);
                transcript.fail(error)
            }
        };
    });
    Ok(())
}
