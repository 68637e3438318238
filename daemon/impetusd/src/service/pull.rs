//! `pull`: fetches a model from the hub in the background, and registers it when it is whole.

use std::path::Path;
use std::sync::Arc;

use protocol::model::{PullRequest, Source};
use protocol::trace::TraceParent;
use protocol::transcript::TranscriptId;
use protocol::{Error, Result};

use super::background::{self, Turn};
use super::models::{check_name, register};
use crate::daemon::{Daemon, lost};
use crate::hub::Wish;
use crate::news::Download;
use crate::session::Session;
use crate::transcript::Transcript;

/// Bytes of a revision's name.
const REVISION_BYTES_MAX: usize = 128;

pub async fn pull(session: &Arc<Session>, request: PullRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
    let wish = wish(&request)?;
    let name = request.name.unwrap_or_else(|| wish.repo.clone());
    may_register(&session.daemon, &name, &wish).await?;
    let (daemon, order) = (&session.daemon, Order { wish, name, actor: session.actor() });
    let download = Download::new(daemon.newsroom.clone(), order.wish.repo.clone());
    let observer = session.watched(trace, format!("pull {}", order.wish.repo)).with(download);
    let start = |transcript: Arc<Transcript>| {
        let begun = Turn::take(daemon, &order.wish.repo).map(Arc::new).and_then(|turn| {
            let Wish { repo, revision } = &order.wish;
            tracing::info!(request = transcript.id().0, %repo, %revision, "pull begins");
            let work = run(turn.clone(), order, transcript.clone());
            background::start(&turn, transcript, "what was fetched is kept", work)
        });
        std::future::ready(begun)
    };
    session.begin(Some(Box::new(observer)), start).await
}

/// What is to be fetched, under which name, and who wants it.
struct Order {
    wish: Wish,
    name: String,
    actor: String,
}

async fn run(turn: Arc<Turn>, order: Order, transcript: Arc<Transcript>) -> Result<()> {
    let Order { wish, name, actor } = order;
    let _place = turn.place(&transcript).await?;
    let fetched = {
        let (turn, wish, transcript) = (turn.clone(), wish.clone(), transcript.clone());
        let runtime = tokio::runtime::Handle::current();
        // The thread holds the turn too: after a cancellation it may take a moment to stop writing.
        let fetch = move || {
            let judge = |path: &Path| runtime.block_on(turn.daemon.inspector.foresee(path));
            turn.daemon.hub.fetch(&wish, &transcript, judge)
        };
        tokio::task::spawn_blocking(fetch).await.map_err(lost)??
    };
    let source = Source::Hub { repo: wish.repo.clone(), revision: fetched.commit };
    let card = register(&turn.daemon, &actor, name, &fetched.path, source).await?;
    tracing::info!(request = transcript.id().0, model = %card.name, path = %card.path, "pull ended");
    Ok(())
}

/// Refuses a name that the model could not have once it is there.
async fn may_register(daemon: &Daemon, name: &str, wish: &Wish) -> Result<()> {
    check_name(name)?;
    daemon.prepared().await;
    let source = Source::Hub { repo: wish.repo.clone(), revision: wish.revision.clone() };
    daemon.supervisor.may_register(name.to_owned(), String::new(), source).await
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
