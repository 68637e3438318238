//! impetusd, the control plane of Impetus: it owns the socket, the models, their worker processes and what is known
//! on disk. It links no tensor code: weights live in workers, one process each.
//!
//! `run` is the whole daemon as one call, given listeners and a wish to end, so that tests need no signals and no
//! fixed paths. From the door inwards: `listener` → `session` → `service` → `supervisor`, which alone decides, advised
//! by `admission`, `residency` and `placement`, which are pure. `transcript` carries what comes back.

pub mod config;
pub mod listener;
pub mod paths;
pub mod shutdown;
pub mod telemetry;

mod admission;
mod bundled;
mod catalogue;
mod daemon;
mod hub;
mod inspect;
mod journal;
mod keys;
mod machine;
mod nearest;
mod news;
mod placement;
mod prefixes;
mod random;
mod residency;
mod seal;
mod service;
mod session;
mod settings;
mod supervisor;
mod tally;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time;
mod traces;
mod transcript;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use protocol::socket::Listener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::hub::Hub;
use crate::inspect::Inspector;
use crate::journal::Journal;
use crate::keys::Keys;
use crate::news::Newsroom;
use crate::paths::Paths;
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::supervisor::{Pools, Setting, Supervisor};
use crate::traces::Traces;
use crate::transcript::Transcripts;

/// The version of the daemon.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from.
pub const COMMIT: &str = match option_env!("IMPETUS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// How long clients may still read the last events, once all work has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often ended transcripts are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(15);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder of its state cannot be made.
    #[error("the folder {home} cannot be used: {source}; set IMPETUS_HOME to one that can be written")]
    Home {
        /// The folder.
        home: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// What is known on disk cannot be read.
    #[error("{0}")]
    Catalogue(protocol::Error),
    /// Prefixes are to be sealed, and there is no key.
    #[error("the key of the prefixes on disk, {path}, cannot be used: {source}; delete it to have a new one made")]
    PrefixKey {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Runs the daemon on `listeners` until `shutdown` is requested and its work has ended.
pub async fn run(config: Config, listeners: Vec<Listener>, shutdown: Shutdown) -> Result<(), RunError> {
    let home = |source| RunError::Home { home: config.home.clone(), source };
    let paths = Paths::make(&config.home).map_err(home)?;
    let (daemon, supervision) = assemble(config, paths, shutdown)?;
    let closing = CancellationToken::new();
    for listener in listeners {
        tokio::spawn(listener::serve(listener, daemon.clone(), closing.clone()));
    }
    tracing::info!(version = VERSION, commit = COMMIT, pid = std::process::id(), socket = %daemon.config.socket.display(), "impetusd serves");
    let background = [tokio::spawn(bundled::prepare(daemon.clone())), tokio::spawn(prune(daemon.clone()))];
    end(&daemon, supervision).await;
    closing.cancel();
    background.iter().for_each(tokio::task::JoinHandle::abort);
    daemon.journal.flush().await;
    daemon.keys.write_uses().await;
    daemon.traces.flush().await;
    tracing::info!("impetusd ends");
    Ok(())
}

/// Opens what is on disk, and puts the daemon together.
fn assemble(
    config: Config,
    paths: Paths,
    shutdown: Shutdown,
) -> Result<(Arc<Daemon>, tokio::task::JoinHandle<()>), RunError> {
    let catalogue = Catalogue::open(&paths.database()).map_err(RunError::Catalogue)?;
    let models = catalogue.models().map_err(RunError::Catalogue)?;
    service::sweep(&paths.imported(), &models);
    keys::first::prepare(&paths, &catalogue).map_err(RunError::Catalogue)?;
    let keys = Arc::new(Keys::open(catalogue.clone()).map_err(RunError::Catalogue)?);
    let settings = Settings::open(catalogue.clone(), config.clone()).map_err(RunError::Catalogue)?;
    let current = settings.config().map_err(RunError::Catalogue)?;
    telemetry::set_level(current.log.level);
    prefixes::discard(&paths, &current.cache);
    prefixes::sweep(&paths, &models);
    let newsroom = Newsroom::default();
    let inspector = Inspector::new(inspect::locate(&config.worker.program), config.worker.inspect);
    // Whether or not there is a cache now: it may be given room while the daemon runs.
    let prefix_key = config.cache.encrypt.then(|| seal::key(&paths.prefix_key())).transpose();
    let prefix_key = prefix_key.map_err(|source| RunError::PrefixKey { path: paths.prefix_key(), source })?;
    let setting = Setting {
        pools: Pools::of(&current, machine::memory().total),
        machine: machine::for_placement(),
        program: inspector.program().to_owned(),
        prefixes: paths.prefixes(config.cache.encrypt),
        prefix_key,
        config: current,
        newsroom: newsroom.clone(),
    };
    let (supervisor, supervision) = Supervisor::start(setting, models);
    let hub = Hub::new(&config.hub, paths.fetched());
    let daemon = Daemon {
        paths,
        supervisor,
        transcripts: Transcripts::new(&config.transcripts),
        journal: Journal::start(catalogue.clone(), keys.clone(), newsroom.clone()),
        keys,
        settings,
        newsroom,
        traces: Traces::start(&config.traces),
        catalogue,
        inspector,
        hub,
        fetches: Arc::new(Semaphore::new(config.hub.pulls_max)),
        fetching: Default::default(),
        registering: Default::default(),
        shutdown,
        machine: machine::describe(),
        started: Instant::now(),
        prepared: watch::Sender::new(false),
        unbundled: Default::default(),
        sessions: AtomicU64::new(0),
        open: Default::default(),
        config,
    };
    Ok((Arc::new(daemon), supervision))
}

async fn prune(daemon: Arc<Daemon>) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        daemon.transcripts.prune(Instant::now());
        daemon.keys.write_uses().await;
        // A worker that was told otherwise may still have been ending.
        if let Ok(current) = daemon.settings.config() {
            let daemon = daemon.clone();
            let _ = tokio::task::spawn_blocking(move || prefixes::discard(&daemon.paths, &current.cache)).await;
        }
    }
}

/// Waits for the wish to end, and then for the supervisor to do so; a later wish may hurry it.
async fn end(daemon: &Arc<Daemon>, mut supervision: tokio::task::JoinHandle<()>) {
    let mut wishes = daemon.shutdown.watch();
    wishes.mark_changed();
    loop {
        tokio::select! {
            // The sender lives in the daemon.
            Ok(()) = wishes.changed() => {
                let deadline = *wishes.borrow_and_update();
                if let Some(deadline) = deadline {
                    daemon.supervisor.drain(deadline).await;
                }
            }
            ended = &mut supervision => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the supervisor failed");
                }
                break;
            }
        }
    }
    let leave = Instant::now() + LAST_WORDS;
    while daemon.connected().0 > 0 && Instant::now() < leave {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
