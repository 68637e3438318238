//! The models that come with Impetus: at the start they are written to disk and registered, unless a marker says
//! that this very worker program did so before. In the background: the socket answers meanwhile. Called by `run`.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use protocol::model::Source;
use protocol::{Error, Result};

use crate::daemon::Daemon;
use crate::{COMMIT, VERSION, service};

/// Makes the bundled models known, and then lets the verbs that need them go on.
pub async fn prepare(daemon: Arc<Daemon>) {
    if let Err(error) = install(&daemon).await {
        tracing::error!(kind = ?error.kind, "the bundled models are not there: {}", error.message);
        // Set once: this runs once.
        let _ = daemon.unbundled.set(error);
    }
    daemon.prepared.send_replace(true);
}

async fn install(daemon: &Daemon) -> Result<()> {
    let folder = daemon.paths.bundled();
    let marker = daemon.paths.models().join("bundled.marker");
    let program = daemon.inspector.program().to_owned();
    let stamp = stamp(&program);
    if std::fs::read_to_string(&marker).is_ok_and(|known| known == stamp) && known(daemon).await? {
        return Ok(());
    }
    for model in daemon.inspector.bundled(&folder).await? {
        let card = service::register(daemon, "impetusd", model.name, Path::new(&model.path), Source::Bundled).await?;
        tracing::info!(model = %card.name, path = %card.path, "bundled model is ready");
    }
    // Last: a crash before this line only does the work again.
    std::fs::write(&marker, stamp)
        .map_err(|error| Error::internal(format!("{} cannot be written: {error}", marker.display())))
}

/// Whether the bundled models are registered and their folders are there.
async fn known(daemon: &Daemon) -> Result<bool> {
    let models = daemon.supervisor.look().await?.models;
    let mut bundled = models.iter().filter(|card| card.source == Source::Bundled).peekable();
    Ok(bundled.peek().is_some() && bundled.all(|card| Path::new(&card.path).join("config.json").is_file()))
}

/// What tells one build of the worker program from another.
fn stamp(program: &Path) -> String {
    let metadata = std::fs::metadata(program).ok();
    let length = metadata.as_ref().map_or(0, std::fs::Metadata::len);
    let changed = metadata.and_then(|metadata| metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    format!("{VERSION} {COMMIT} {length} {}\n", changed.unwrap_or_default().as_nanos())
}
