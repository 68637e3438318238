//! `pull`: fetches a model from the hub in the background, and registers it when it is whole.

use std::sync::{Arc, PoisonError};

use protocol::generation::Finished;
use protocol::model::{PullRequest, Source};
use protocol::transcript::{Event, Progress, Stage, TranscriptId, Unit};
use protocol::{Error, ErrorKind, Result};

use super::models::register;
use crate::daemon::{Daemon, lost};
use crate::hub::Wish;
use crate::session::Session;
use crate::transcript::Transcript;

/// Pulls that go on or wait for their turn.
const PULLS_WAITING_MAX: usize = 64;

/// Bytes of a revision's name.
const REVISION_BYTES_MAX: usize = 128;

pub async fn pull(session: &Arc<Session>, request: PullRequest) -> Result<TranscriptId> {
    let wish = wish(&request)?;
    let name = request.name.unwrap_or_else(|| wish.repo.clone());
    let (daemon, order) = (session.daemon.clone(), Order { wish, name, actor: session.actor() });
    session.begin(None, |transcript| std::future::ready(begin(daemon, order, transcript))).await
}

/// What is to be fetched, under which name, and who wants it.
struct Order {
    wish: Wish,
    name: String,
    actor: String,
}

/// Starts the pull, unless the same one goes on.
fn begin(daemon: Arc<Daemon>, order: Order, transcript: Arc<Transcript>) -> Result<()> {
    let wish = order.wish.clone();
    if daemon.shutdown.is_requested() {
        return Err(Error::new(ErrorKind::Closing, "the daemon is shutting down"));
    }
    let turn = Arc::new(Turn::take(&daemon, &wish.repo)?);
    tracing::info!(request = transcript.id().0, repo = %wish.repo, revision = %wish.revision, "pull begins");
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = run(&turn, order, &transcript) => ended,
            () = transcript.cancelled().cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, "the pull was cancelled; what was fetched is kept"))
            }
            () = daemon.shutdown.requested() => {
                transcript.cancelled().cancel();
                Err(Error::new(ErrorKind::Closing, "the daemon is shutting down; what was fetched is kept"))
            }
        };
        match ended {
            Ok(()) => transcript.finish(Finished::default()),
            Err(error) => {
                tracing::warn!(request = transcript.id().0, repo = %wish.repo, kind = ?error.kind, "pull failed: {}", error.message);
                transcript.fail(error)
            }
        };
    });
    Ok(())
}

async fn run(turn: &Arc<Turn>, order: Order, transcript: &Arc<Transcript>) -> Result<()> {
    let Order { wish, name, actor } = order;
    let daemon = &turn.daemon;
    let (subject, unit) = (wish.repo.clone(), Unit::Bytes);
    transcript.append(Event::Progress(Progress { stage: Stage::Queued, subject, done: 0, total: None, unit }));
    let closed = |_| Error::new(ErrorKind::Closing, "the daemon is shutting down");
    let _place = daemon.pulls.clone().acquire_owned().await.map_err(closed)?;
    let fetched = {
        let (turn, wish, transcript) = (turn.clone(), wish.clone(), transcript.clone());
        // The thread holds the turn too: after a cancellation it may take a moment to stop writing.
        tokio::task::spawn_blocking(move || turn.daemon.hub.fetch(&wish, &transcript)).await.map_err(lost)??
    };
    let source = Source::Hub { repo: wish.repo.clone(), revision: fetched.commit };
    let card = register(daemon, &actor, name, &fetched.path, source).await?;
    tracing::info!(request = transcript.id().0, model = %card.name, path = %card.path, "pull ended");
    Ok(())
}

/// The right to pull one repository: two pulls would write the same files.
struct Turn {
    daemon: Arc<Daemon>,
    repo: String,
}

impl Turn {
    fn take(daemon: &Arc<Daemon>, repo: &str) -> Result<Self> {
        let mut pulling = daemon.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        if pulling.len() >= PULLS_WAITING_MAX {
            let message = format!("{} pulls wait already", pulling.len());
            return Err(Error::new(ErrorKind::Busy, message).hint("wait until some have ended").retry_after_ms(60_000));
        }
        if !pulling.insert(repo.to_owned()) {
            let message = format!("{repo} is being pulled already");
            return Err(Error::new(ErrorKind::Conflict, message).hint("wait for that pull, or cancel it"));
        }
        Ok(Self { daemon: daemon.clone(), repo: repo.to_owned() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.daemon.pulling.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.repo);
    }
}

/// Checks what becomes part of an address and of a path.
fn wish(request: &PullRequest) -> Result<Wish> {
    let good = |part: &str| {
        let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        !part.is_empty()
            && part.len() <= 96
            && letters
            && !part.starts_with('.')
            && !part.contains("..")
            && !part.contains("--")
    };
    let whole = request.repo.split_once('/').is_some_and(|(org, name)| good(org) && good(name));
    if !whole {
        let message = format!("{:?} is no repository of the hub", request.repo);
        return Err(Error::invalid("repo", message).hint("write ORG/NAME, as in Qwen/Qwen3-0.6B"));
    }
    let revision = request.revision.clone().unwrap_or_else(|| "main".to_owned());
    let parts = revision.split('/').all(|part| !part.starts_with('.') && !part.is_empty() && !part.contains(".."));
    let letters = revision.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    if !parts || !letters || revision.len() > REVISION_BYTES_MAX {
        return Err(Error::invalid("revision", format!("{revision:?} is no branch, tag or commit")));
    }
    Ok(Wish { repo: request.repo.clone(), revision })
}
