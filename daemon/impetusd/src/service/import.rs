//! `import`: has the worker program make a model folder of a GGUF file, and registers it when it is whole.
//!
//! The folder is the daemon's own, under `models/imported`. Until the catalogue names it, a marker in it says that it is
//! unfinished; a start of the daemon deletes what an earlier one left so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::model::{ImportRequest, ModelCard, Source};
use protocol::trace::TraceParent;
use protocol::transcript::{Event, Progress, Stage, TranscriptId, Unit};
use protocol::{Error, ErrorKind, Result};

use super::absolute;
use super::background::{self, Turn};
use super::models::{check_name, register};
use crate::daemon::blocking;
use crate::session::Session;
use crate::transcript::Transcript;

/// The file that says that a folder is not finished.
const UNFINISHED: &str = "unfinished";

/// Folders of one name that are tried before the next is given up.
const SAME_NAMES_MAX: u32 = 1000;

pub async fn import(
    session: &Arc<Session>,
    request: ImportRequest,
    trace: Option<TraceParent>,
) -> Result<TranscriptId> {
    let daemon = &session.daemon;
    daemon.prepared().await;
    let asked = absolute(&request.path)?;
    let file = blocking(move || gguf_file(&asked)).await?;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = request.name.unwrap_or_else(|| stem.to_owned());
    check_name(&name)?;
    if let Some(known) = daemon.supervisor.look().await?.models.into_iter().find(|card| card.name == name) {
        let message = format!("the name {name:?} is taken by {}", known.path);
        let hint = "give another name with --name, or remove that model first";
        return Err(Error::new(ErrorKind::Conflict, message).param("name").hint(hint));
    }
    let turn = Arc::new(Turn::take(daemon, &name)?);
    let observer = session.watched(trace, format!("import {name}"));
    let order = Order { file, name, actor: session.actor() };
    let start = |transcript: Arc<Transcript>| {
        let id = transcript.id().0;
        tracing::info!(request = id, file = %order.file.display(), model = %order.name, "import begins");
        let work = run(turn.clone(), order, transcript.clone());
        std::future::ready(background::start(&turn, transcript, "nothing of it is kept", work))
    };
    session.begin(Some(Box::new(observer)), start).await
}

/// What is to be imported, under which name, and who wants it.
struct Order {
    file: PathBuf,
    name: String,
    actor: String,
}

async fn run(turn: Arc<Turn>, order: Order, transcript: Arc<Transcript>) -> Result<()> {
    let daemon = &turn.daemon;
    let _place = turn.place(&transcript).await?;
    let folder = Unfinished::make(&daemon.paths.imported(), &order.name)?;
    let (dir, subject) = (folder.path.clone(), order.name.clone());
    let progress = |done, total| {
        let (subject, total) = (subject.clone(), Some(total));
        let unit = Unit::Bytes;
        transcript.append(Event::Progress(Progress { stage: Stage::Importing, subject, done, total, unit }));
    };
    let imported = daemon.inspector.import(&order.file, &dir, progress).await?;
    let Order { name, actor, .. } = order;
    let card = register(daemon, &actor, name, &dir, Source::Local).await?;
    folder.finish()?;
    let pipe::Imported { requantized, moved } = imported;
    tracing::info!(request = transcript.id().0, model = %card.name, path = %card.path, requantized, moved, "import ended");
    Ok(())
}

/// A folder that goes when it is dropped before it is finished.
struct Unfinished {
    path: PathBuf,
    finished: bool,
}

impl Unfinished {
    /// Makes a folder that no other model has.
    fn make(root: &Path, name: &str) -> Result<Self> {
        let broken = |error: io::Error| Error::internal(format!("{} cannot be written: {error}", root.display()));
        fs::create_dir_all(root).map_err(broken)?;
        let plain: String =
            name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let plain = plain.trim_start_matches('.');
        for count in 1..=SAME_NAMES_MAX {
            let path = root.join(if count == 1 { format!("{plain}-gguf") } else { format!("{plain}-gguf-{count}") });
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Self { path, finished: false };
                    fs::write(folder.path.join(UNFINISHED), "").map_err(broken)?;
                    return Ok(folder);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("there are {SAME_NAMES_MAX} folders of the name {plain} already")))
    }

    fn finish(mut self) -> Result<()> {
        self.finished = true;
        let marker = self.path.join(UNFINISHED);
        fs::remove_file(&marker)
            .map_err(|error| Error::internal(format!("{} cannot be deleted: {error}", marker.display())))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished folder is left; the next start deletes it");
        }
    }
}

/// Deletes the folders that an earlier daemon left unfinished; one that a model has only loses its marker.
pub fn sweep(root: &Path, models: &[ModelCard]) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let marker = path.join(UNFINISHED);
        let empty = || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        let known = models.iter().any(|card| Path::new(&card.path) == path);
        let swept = match (marker.exists(), known) {
            (true, true) => fs::remove_file(&marker),
            (true, false) => fs::remove_dir_all(&path),
            (false, false) if empty() => fs::remove_dir(&path),
            _ => continue,
        };
        match swept {
            Ok(()) => tracing::info!(path = %path.display(), "an unfinished import was swept"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "an unfinished import cannot be swept"),
        }
    }
}

/// Finds the file itself, which must be one.
fn gguf_file(path: &Path) -> Result<PathBuf> {
    let missing = |error: io::Error| Error::invalid("path", format!("{} cannot be read: {error}", path.display()));
    let path = path.canonicalize().map_err(missing)?;
    if !path.is_file() {
        let message = format!("{} is no file; a GGUF model is one", path.display());
        return Err(Error::invalid("path", message).hint("a folder is registered with impetusctl models add"));
    }
    Ok(path)
}
