//! One client connection: what it began, and the bridge it announced. When it is dropped, its work is cancelled and
//! its bridge is forgotten, whatever ended the connection. Made by `listener`, used by every verb of `service`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::Result;
use protocol::transcript::TranscriptId;

use crate::daemon::Daemon;
use crate::transcript::Transcript;

/// Pieces of work that are remembered before ended ones are forgotten.
const BEGAN_MAX: usize = 256;

/// One connected client.
#[derive(Debug)]
pub struct Session {
    /// Its number, for logs.
    pub id: u64,
    /// Whom it speaks to.
    pub daemon: Arc<Daemon>,
    began: Mutex<BTreeSet<TranscriptId>>,
}

impl Session {
    /// Opens a session.
    pub fn open(daemon: Arc<Daemon>) -> Arc<Self> {
        let id = daemon.enter();
        Arc::new(Self { id, daemon, began: Mutex::default() })
    }

    /// Opens the transcript of work that this session begins; `start` hands the work to whoever does it.
    pub async fn begin<F>(&self, start: impl FnOnce(Arc<Transcript>) -> F) -> Result<TranscriptId>
    where
        F: Future<Output = Result<()>>,
    {
        let transcript = self.daemon.transcripts.open();
        let id = transcript.id();
        // Before the work starts: a connection that is lost meanwhile must cancel it.
        self.remember(id);
        let started = start(transcript).await;
        if let Err(error) = &started {
            tracing::info!(session = self.id, request = id.0, kind = ?error.kind, "refused");
            self.forget(id);
            self.daemon.transcripts.forget(id);
        }
        started.map(|()| id)
    }

    /// Whose turns its requests share: everybody who speaks over this connection is one client.
    pub fn client(&self) -> u64 {
        self.id
    }

    /// Whose what this session keeps is: the id of its key; `None` is the user of the socket.
    pub fn owner(&self) -> Option<String> {
        None
    }

    /// Forgets work that has ended.
    pub fn forget(&self, id: TranscriptId) {
        self.lock().remove(&id);
    }

    fn remember(&self, id: TranscriptId) {
        let mut began = self.lock();
        if began.len() >= BEGAN_MAX {
            began.retain(|id| self.daemon.transcripts.goes_on(*id));
        }
        began.insert(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<TranscriptId>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.daemon.leave(self.id);
        for id in std::mem::take(&mut *self.lock()) {
            self.daemon.abandon(id);
        }
    }
}
