//! `models`, `texts`, `add`, `remove`, `load` and `unload`: which models are known and in memory. The supervisor
//! judges first; what it would take is written into the catalogue on disk, and only then taken.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::key::KeyRole;
use protocol::model::{AddRequest, LoadRequest, ModelCard, ModelState, ModelTexts, RemoveRequest, Source};
use protocol::trace::TraceParent;
use protocol::transcript::TranscriptId;
use protocol::{Error, ErrorKind, Result};

use super::absolute;
use crate::admission::{NAME_BYTES_MAX, nameable, unknown_model};
use crate::daemon::{Daemon, blocking};
use crate::prefixes;
use crate::session::Session;
use crate::time::now_s;

/// How long `unload` waits for a model with work to be out, before it answers that it is on its way.
const UNLOAD_WAIT: Duration = Duration::from_secs(10);

pub async fn list(session: &Session) -> Result<Vec<ModelCard>> {
    let daemon = &session.daemon;
    daemon.prepared().await;
    let mut models = daemon.supervisor.look().await?.models;
    only_allowed(session, &mut models)?;
    Ok(models)
}

/// Hides the models that the key of a connection may not use.
pub(crate) fn only_allowed(session: &Session, models: &mut Vec<ModelCard>) -> Result<()> {
    let allowed = session.key().map_or(Ok(Vec::new()), |key| session.daemon.keys.models(key))?;
    if !allowed.is_empty() {
        models.retain(|card| allowed.contains(&card.name));
    }
    Ok(())
}

pub async fn texts(session: &Session, model: &str) -> Result<ModelTexts> {
    let models = list(session).await?;
    let card = models.iter().find(|card| card.name == model);
    let card = card.ok_or_else(|| unknown_model(model, models.iter().map(|card| card.name.as_str())))?;
    session.daemon.inspector.texts(Path::new(&card.path)).await
}

pub async fn add(session: &Session, request: AddRequest) -> Result<ModelCard> {
    let daemon = &session.daemon;
    let asked = absolute(&request.path)?;
    let path = blocking(move || folder(&asked)).await?;
    let name = request.name.or_else(|| Some(path.file_name()?.to_str()?.to_owned())).unwrap_or_default();
    // Nobody asked for a model to be loaded: it is the path that was wrong.
    let no_model = |error: Error| match error.kind {
        ErrorKind::ModelNotLoaded => Error { kind: ErrorKind::Invalid, ..error }.param("path"),
        _ => error,
    };
    let card = register(daemon, &session.actor(), name, &path, Source::Local).await.map_err(no_model)?;
    tracing::info!(model = %card.name, path = %card.path, "model added");
    Ok(card)
}

/// Reads a folder's facts, and makes the model known to the supervisor, if it takes it, and on disk.
pub(crate) async fn register(
    daemon: &Daemon,
    actor: &str,
    name: String,
    path: &Path,
    source: Source,
) -> Result<ModelCard> {
    check_name(&name)?;
    let facts = daemon.inspector.facts(path).await?;
    let path = path.to_str().ok_or_else(|| Error::invalid("path", "the path is not UTF-8"))?.to_owned();
    let _one_at_a_time = daemon.registering.lock().await;
    let known = daemon.supervisor.look().await?.models.into_iter().find(|card| card.name == name);
    let card = ModelCard {
        name,
        source,
        path,
        facts,
        state: ModelState::Available,
        pinned: known.as_ref().is_some_and(|known| known.pinned),
        created_unix_s: known.map_or_else(now_s, |known| known.created_unix_s),
    };
    daemon.supervisor.may_register(card.name.clone(), card.path.clone(), card.source.clone()).await?;
    daemon.catalogue.put(actor, card.clone()).await?;
    daemon.supervisor.register(card.clone()).await?;
    Ok(card)
}

pub async fn remove(session: &Session, request: RemoveRequest) -> Result<()> {
    let daemon = &session.daemon;
    let snapshot = daemon.supervisor.look().await?;
    let names = || snapshot.models.iter().map(|card| card.name.as_str());
    let card = snapshot.models.iter().find(|card| card.name == request.model);
    let card = card.ok_or_else(|| unknown_model(&request.model, names()))?;
    if card.source == Source::Bundled {
        let message = format!("{} is part of Impetus", card.name);
        return Err(Error::new(ErrorKind::Conflict, message).hint("it takes no memory unless it is loaded"));
    }
    // A model that is only idle in memory leaves; one with work is in use, and says so.
    leave(daemon, card.name.clone()).await?;
    forget(daemon, &session.actor(), &card.name).await?;
    tracing::info!(model = %card.name, "model removed");
    if request.delete_files {
        let others = snapshot.models.iter().filter(|other| other.name != card.name);
        delete_files(daemon, card, others.map(|other| PathBuf::from(&other.path)).collect()).await?;
    }
    Ok(())
}

/// Forgets a model that is not in use, and what was put away of it unless another name has the same folder; one that stays on
/// disk stays known.
async fn forget(daemon: &Daemon, actor: &str, name: &str) -> Result<()> {
    let _one_at_a_time = daemon.registering.lock().await;
    let card = daemon.supervisor.remove(name.to_owned()).await?;
    let forgotten = daemon.catalogue.remove(actor, name.to_owned()).await;
    if forgotten.is_err() {
        daemon.supervisor.register(card).await?;
        return forgotten;
    }
    let (models, paths) = (daemon.supervisor.look().await?.models, daemon.paths.clone());
    let sweep = move || {
        prefixes::sweep(&paths, &models);
        Ok(())
    };
    blocking(sweep).await
}

/// Deletes the files that Impetus downloaded or made for a model; those of a folder that was added stay, and so do those
/// that another model, which lies at one of `others`, may need.
async fn delete_files(daemon: &Daemon, card: &ModelCard, others: Vec<PathBuf>) -> Result<()> {
    let path = PathBuf::from(&card.path);
    match &card.source {
        Source::Hub { repo, .. } => {
            let (hub, repo) = (daemon.hub.clone(), repo.clone());
            blocking(move || hub.delete(&repo, &others)).await
        }
        Source::Local if path.parent() == Some(&daemon.paths.imported()) && !others.contains(&path) => {
            let broken = |error| Error::internal(format!("{} cannot be deleted: {error}", card.path));
            blocking(move || Ok(std::fs::remove_dir_all(&path))).await?.map_err(broken)
        }
        Source::Local | Source::Bundled => Ok(()),
    }
}

pub async fn load(session: &Arc<Session>, request: LoadRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
    let daemon = &session.daemon;
    nameable(Some(&request.model))?;
    daemon.prepared().await;
    if let Some(key) = session.key() {
        daemon.keys.allows(key, &request.model)?;
    }
    let actor = session.actor();
    // How long a model stays is decided for all who use it.
    if request.pin.is_some() || request.keep_alive_ms.is_some() {
        session.allow(KeyRole::Admin)?;
    }
    if let Some(pinned) = request.pin {
        daemon.supervisor.may_load(request.model.clone()).await?;
        daemon.catalogue.pin(&actor, request.model.clone(), pinned).await?;
    }
    let model = request.model.clone();
    let observer = session.watched(trace, format!("load {model}"));
    let mut changed = false;
    let start = async |transcript| {
        changed = daemon.supervisor.load(transcript, request).await?;
        Ok(())
    };
    let id = session.begin(Some(Box::new(observer)), start).await?;
    // Ordinary clients load with each request, and mostly what is there already.
    if changed {
        note(session, "model.load", model).await;
    }
    Ok(id)
}

pub async fn unload(session: &Session, model: String) -> Result<()> {
    leave(&session.daemon, model.clone()).await?;
    note(session, "model.unload", model).await;
    Ok(())
}

/// Writes down what is done already, and changed nothing on disk: where that fails, it does not.
async fn note(session: &Session, action: &'static str, model: String) {
    if let Err(error) = session.daemon.catalogue.audit(&session.actor(), action, model).await {
        tracing::warn!(%error, action, "the log of changes cannot be written");
    }
}

async fn leave(daemon: &Daemon, model: String) -> Result<()> {
    // After that long it still leaves; its state says so.
    tokio::time::timeout(UNLOAD_WAIT, daemon.supervisor.unload(model)).await.unwrap_or(Ok(()))
}

/// Follows links to the folder itself, so that one folder has one path.
fn folder(path: &Path) -> Result<PathBuf> {
    let missing = |error: std::io::Error| Error::invalid("path", format!("{} cannot be read: {error}", path.display()));
    let path = path.canonicalize().map_err(missing)?;
    if !path.is_dir() {
        let message = format!("{} is a file; a model is a folder with config.json and safetensors", path.display());
        let hint = match path.extension().is_some_and(|ending| ending == "gguf") {
            true => "make a folder of it: impetusctl models import FILE",
            false => "give the folder",
        };
        return Err(Error::invalid("path", message).hint(hint));
    }
    Ok(path)
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || "._-/:+@".contains(c);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(allowed) {
        return Ok(());
    }
    let message =
        format!("{name:?} is no name for a model: it must be 1 to {NAME_BYTES_MAX} letters, digits or ._-/:+@");
    Err(Error::invalid("name", message).hint("give a name with --name"))
}
