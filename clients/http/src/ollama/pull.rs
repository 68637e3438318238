//! `/api/pull`: a model is fetched from the hub, and lines say how far it has come. Hanging up ends the pull; what was
//! fetched is kept for the next one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use protocol::client::{Client, EventStream};
use protocol::model::{PullRequest, Source};
use protocol::transcript::{Event, Progress, Stage};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::error::{OllamaError, body};
use super::request::{Named, card, only_empty};
use crate::app::Bridge;
use crate::body::Members;
use crate::ndjson::{bytes, respond};
use crate::openapi::{LINES, Operation, part};

#[derive(Debug, Deserialize, ToSchema)]
struct Wish {
    stream: Option<bool>,
    insecure: Option<bool>,
    /// Empty, as Ollama's own client sends it: the daemon has the hub's token.
    username: Option<String>,
    /// Empty likewise.
    password: Option<String>,
}

/// How far a pull has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaPulling)]
struct Line {
    status: String,
    /// What is fetched, in a word by which clients tell one bar of progress from another.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
}

/// The members of a request.
const KNOWN: &[&[&str]] = &[&["model", "name", "stream", "insecure", "username", "password"]];

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Fetch a model from the hub")
        .more("It streams unless `stream` is false. Hanging up ends it; what was fetched is kept for the next time.")
        .takes("OllamaPullRequest", KNOWN, [part::<Named>(), part::<Wish>()], json!({ "model": "Qwen/Qwen3-0.6B" }))
        .gives::<Line>("How it ended, or how far it has come, line by line.")
        .streams::<Line>(LINES)
}

/// Fetches `ORG/NAME` from the hub.
pub async fn pull(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, OllamaError> {
    Ok(fetch(&bridge, &body).await?)
}

async fn fetch(bridge: &Bridge, body: &Bytes) -> Result<Response, Error> {
    let members = Members::read(body, KNOWN)?;
    let wish: Wish = members.part()?;
    let model = members.part::<Named>()?.model()?;
    only_empty("username", wish.username.as_deref())?;
    only_empty("password", wish.password.as_deref())?;
    if wish.insecure == Some(true) {
        return Err(Error::unsupported(
            "insecure",
            "'insecure' is not supported: the hub's certificate is always checked.",
        ));
    }
    let streams = wish.stream.unwrap_or(true);
    let client = bridge.daemon.client().await?;
    let done = Line::stage("success");
    let Some(mut events) = begin(&client, &model).await? else {
        return Ok(match streams {
            true => respond(stream::iter([bytes(&done)])),
            false => Json(done).into_response(),
        });
    };
    if streams {
        return Ok(respond(lines(events)));
    }
    while let Some(event) = events.next().await {
        event?;
    }
    Ok(Json(done).into_response())
}

/// Starts the pull; `None` where there is nothing to fetch, because the model never came from the hub.
async fn begin(client: &Client, name: &str) -> Result<Option<EventStream>, Error> {
    match card(client, name).await {
        Ok(card) if !matches!(card.source, Source::Hub { .. }) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind == ErrorKind::ModelNotFound => {}
        Err(error) => return Err(error),
    }
    let repo = ["hf.co/", "huggingface.co/"].iter().find_map(|hub| name.strip_prefix(hub)).unwrap_or(name);
    let repo = repo.strip_suffix(":latest").unwrap_or(repo).to_owned();
    Ok(Some(client.events(client.pull(PullRequest { repo, revision: None, name: None }).await?)))
}

fn lines(events: EventStream) -> impl futures::Stream<Item = Bytes> + Send + 'static {
    stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        let (line, goes_on) = match events.next().await {
            Some(Ok(Event::Progress(progress))) => (bytes(&Line::from(progress)), true),
            Some(Ok(Event::Finished(_))) => (bytes(&Line::stage("success")), false),
            Some(Ok(_)) => (Bytes::new(), true),
            Some(Err(error)) => (bytes(&body(&error)), false),
            None => (bytes(&body(&Error::internal("The daemon's events ended without saying how."))), false),
        };
        Some((line, goes_on.then_some(events)))
    })
}

/// Returns a word for what is fetched, which stays. Ollama's own client leaves out seven characters of it, the name of a kind
/// of digest, and shows twelve.
fn digest(subject: &str) -> String {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    format!("subject{:016x}", hasher.finish())
}

impl Line {
    fn stage(status: &str) -> Self {
        Self { status: status.to_owned(), digest: None, total: None, completed: None }
    }
}

impl From<Progress> for Line {
    fn from(progress: Progress) -> Self {
        match progress.stage {
            Stage::Queued => Self::stage("pulling manifest"),
            Stage::Verifying => Self::stage("verifying sha256 digest"),
            Stage::Downloading => Self {
                status: format!("pulling {}", progress.subject),
                digest: Some(digest(&progress.subject)),
                total: progress.total,
                completed: Some(progress.done),
            },
            Stage::Loading | Stage::Prefilling | Stage::Importing => Self::stage("writing manifest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::transcript::Unit;

    use super::*;

    #[test]
    fn what_is_fetched_has_a_digest_that_stays_and_is_long_enough_to_be_shown() {
        let line = |stage, subject: &str, done| {
            let progress = Progress { stage, subject: subject.to_owned(), done, total: Some(9), unit: Unit::Bytes };
            Line::from(progress).digest
        };
        let first = line(Stage::Downloading, "org/a", 1).unwrap();
        assert!(first.is_ascii() && first.len() >= 19, "{first}");
        assert_eq!(line(Stage::Downloading, "org/a", 8), Some(first.clone()));
        assert_ne!(line(Stage::Downloading, "org/b", 1).unwrap()[7..19], first[7..19]);
        assert_eq!(line(Stage::Verifying, "org/a", 9), None);
    }
}
