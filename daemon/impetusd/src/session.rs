//! One client connection: whom it acts for, what it began, and the bridge it announced. When it is dropped, its work is
//! cancelled and its bridge is forgotten, whatever ended the connection. Made by `listener`, used by every verb of
//! `service`, which asks it first whether the verb is allowed.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::generation::Priority;
use protocol::key::KeyRole;
use protocol::trace::TraceParent;
use protocol::transcript::TranscriptId;
use protocol::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};

use crate::daemon::Daemon;
use crate::supervisor::Asker;
use crate::traces::Watched;
use crate::transcript::{Observer, Transcript};

/// Pieces of work that are remembered before ended ones are forgotten.
const BEGAN_MAX: usize = 256;

/// One connected client.
#[derive(Debug)]
pub struct Session {
    /// Its number, for logs.
    pub id: u64,
    /// Whom it speaks to.
    pub daemon: Arc<Daemon>,
    /// The key it acts for; never set is the user of the socket.
    key: OnceLock<String>,
    began: Mutex<BTreeSet<TranscriptId>>,
}

impl Session {
    /// Opens a session.
    pub fn open(daemon: Arc<Daemon>) -> Arc<Self> {
        let id = daemon.enter();
        Arc::new(Self { id, daemon, key: OnceLock::new(), began: Mutex::default() })
    }

    /// Gives up every right that a key does not have. There is no way back.
    pub fn act_for(&self, key: String) -> Result<()> {
        self.daemon.keys.role(&key)?;
        if self.key.get_or_init(|| key.clone()) == &key {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "this connection acts for another key already").hint("open another one"))
    }

    /// The id of the key it acts for; `None` is the user of the socket.
    pub fn key(&self) -> Option<&str> {
        self.key.get().map(String::as_str)
    }

    /// Who acts, for logs.
    pub fn actor(&self) -> String {
        self.key().map_or_else(|| format!("uid {}", protocol::socket::own_uid()), str::to_owned)
    }

    /// Refuses what only a higher role may do, and everything once the key is revoked or expired.
    pub fn allow(&self, least: KeyRole) -> Result<()> {
        let Some(key) = self.key() else { return Ok(()) };
        let role = self.daemon.keys.role(key)?;
        if role >= least {
            return Ok(());
        }
        let message = format!("this needs a key of the role {least}; this one is {role}");
        Err(Error::new(ErrorKind::Forbidden, message).hint("an administrator makes keys: `impetusctl key create`"))
    }

    /// Refuses to go before what others ask, unless this is an administrator.
    pub fn allow_priority(&self, priority: Priority) -> Result<()> {
        match priority {
            Priority::High => self.allow(KeyRole::Admin).map_err(|error| error.param("priority")),
            Priority::Normal | Priority::Low => Ok(()),
        }
    }

    /// Opens the transcript of work that this session begins; `start` hands the work to whoever does it. An observer sees
    /// its events, a refusal included. Dropping the future cancels the work.
    pub async fn begin<F>(
        &self,
        observer: Option<Box<dyn Observer>>,
        start: impl FnOnce(Arc<Transcript>) -> F,
    ) -> Result<TranscriptId>
    where
        F: Future<Output = Result<()>>,
    {
        let transcript = self.daemon.transcripts.open();
        let id = transcript.id();
        if let Some(observer) = observer {
            transcript.observe(observer);
        }
        // Before the work starts: a connection that is lost meanwhile must cancel it.
        self.remember(id);
        let mut untold = Untold { session: self, id: Some(id) };
        let started = start(transcript.clone()).await;
        untold.id = None;
        if let Err(error) = &started {
            transcript.fail(error.clone());
            tracing::info!(session = self.id, request = id.0, kind = ?error.kind, "refused");
            self.forget(id);
            self.daemon.transcripts.forget(id);
        }
        started.map(|()| id)
    }

    /// Begins to watch work for a span in a trace; `name` says what is done, and to what.
    pub fn watched(&self, trace: Option<TraceParent>, name: String) -> Watched {
        Watched::new(self.daemon.traces.begin(trace), name, self.owner())
    }

    /// Who asks: a key is one client over all its connections, and shares prefixes with itself alone; without a key everybody
    /// who speaks over this connection is one. What an administrator asks takes nobody's share.
    pub fn asker(&self, trace: Option<TraceParent>) -> Asker {
        let key = self.key().map(number);
        let holder = key.filter(|_| self.allow(KeyRole::Admin).is_err());
        Asker { client: key.unwrap_or(self.id), salt: key.unwrap_or(0), holder, tokens: None, trace }
    }

    /// Whose what this session keeps is: the id of its key; `None` is the user of the socket.
    pub fn owner(&self) -> Option<String> {
        self.key().map(str::to_owned)
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

/// Work whose id its client has not been told: a client that takes its call back, or waits no longer, cannot cancel it.
struct Untold<'a> {
    session: &'a Session,
    id: Option<TranscriptId>,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.session.forget(id);
            self.session.daemon.abandon(id);
        }
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

/// What stands for a key among others, and parts its prefixes from theirs; the same after a restart, so that what lies on disk is
/// found again.
fn number(key: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(key));
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
