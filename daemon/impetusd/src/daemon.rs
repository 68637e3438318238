//! What all sessions share: configuration, supervisor, transcripts, catalogue, keys, and who is connected.
//! It wires and counts; it decides nothing. Made by `run`, reached through `session`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::status::{Bridge, Machine};
use protocol::transcript::TranscriptId;
use protocol::{Error, ErrorKind, Result};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::hub::Hub;
use crate::inspect::Inspector;
use crate::journal::Journal;
use crate::keys::Keys;
use crate::news::Newsroom;
use crate::paths::Paths;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::supervisor::Supervisor;
use crate::traces::Traces;
use crate::transcript::Transcripts;

/// The daemon, as its sessions see it.
#[derive(Debug)]
pub struct Daemon {
    /// The configuration.
    pub config: Config,
    /// Where things live.
    pub paths: Paths,
    /// The owner of models and workers.
    pub supervisor: Supervisor,
    /// Long work.
    pub transcripts: Transcripts,
    /// What is on disk.
    pub catalogue: Catalogue,
    /// Who may come in over HTTP.
    pub keys: Arc<Keys>,
    /// What was asked of which model.
    pub journal: Journal,
    /// What may be changed while it runs; `config` is what it started with.
    pub settings: Settings,
    /// What happens, for those who watch.
    pub newsroom: Newsroom,
    /// Where spans of traces go.
    pub traces: Traces,
    /// Reads model folders.
    pub inspector: Inspector,
    /// Where models are pulled from.
    pub hub: Hub,
    /// Pulls and imports at once.
    pub fetches: Arc<Semaphore>,
    /// Repositories that are being pulled, and names of models that are being imported.
    pub fetching: Mutex<BTreeSet<String>>,
    /// Held while a model is made known or forgotten, on disk and to the supervisor.
    pub registering: tokio::sync::Mutex<()>,
    /// How the daemon is asked to end.
    pub shutdown: Shutdown,
    /// The machine.
    pub machine: Machine,
    /// When it started.
    pub started: Instant,
    /// Becomes true when the bundled models are known.
    pub prepared: watch::Sender<bool>,
    /// Why the bundled models are not there, if they are not.
    pub unbundled: OnceLock<Error>,
    /// Counts sessions.
    pub sessions: AtomicU64,
    /// Sessions that are open, with the bridges they announced.
    pub open: Mutex<BTreeMap<u64, Option<Bridge>>>,
}

impl Daemon {
    /// Counts a session in, and returns its number.
    pub fn enter(&self) -> u64 {
        let id = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        self.lock().insert(id, None);
        id
    }

    /// Counts a session out, and forgets its bridge.
    pub fn leave(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Notes the bridge of a session.
    pub fn announce(&self, id: u64, bridge: Bridge) {
        self.lock().entry(id).and_modify(|known| *known = Some(bridge));
    }

    /// How many sessions are open, and the bridges among them.
    pub fn connected(&self) -> (usize, Vec<Bridge>) {
        let open = self.lock();
        (open.len(), open.values().flatten().cloned().collect())
    }

    /// Waits until the bundled models are known, so that the first request of a fresh installation finds them.
    pub async fn prepared(&self) {
        // The sender lives in self. A slow disk must not keep the verbs waiting for ever.
        let known = async { self.prepared.subscribe().wait_for(|prepared| *prepared).await.is_ok() };
        let _ = tokio::time::timeout(self.config.worker.inspect, known).await;
    }

    /// Adds to the refusal of an absent model why the bundled ones are absent, if they are.
    pub fn explain(&self, error: Error) -> Error {
        match self.unbundled.get() {
            Some(cause) if error.kind == ErrorKind::ModelNotFound => {
                let message = format!("{}; {}", error.message, cause.message);
                Error { message, hint: cause.hint.clone().or(error.hint.clone()), ..error }
            }
            _ => error,
        }
    }

    /// Cancels work from a place that cannot wait.
    pub fn abandon(self: &Arc<Self>, id: TranscriptId) {
        let daemon = self.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                daemon.cancel(id).await;
                // Work that is refused while its client leaves has nobody else who ends its transcript.
                if let Ok(transcript) = daemon.transcripts.find(id) {
                    transcript.fail(Error::new(ErrorKind::Cancelled, "the client left"));
                }
            });
        }
    }

    /// Cancels the work of a transcript, whoever does it.
    pub async fn cancel(&self, id: TranscriptId) {
        if let Ok(transcript) = self.transcripts.find(id)
            && transcript.ended().is_none()
        {
            transcript.cancelled().cancel();
            self.supervisor.cancel(id).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Option<Bridge>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a blocking task did not come to its end.
pub fn lost(error: tokio::task::JoinError) -> Error {
    Error::internal(format!("a task of the daemon failed: {error}"))
}

/// Runs blocking work on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}
