//! `/v1/batches`: many requests in a file, answered when nobody else asks.
//!
//! `object` is a batch and what is kept of it, `lines` reads its requests, `ask` asks one, `written` is a file that it
//! writes, `work` does all of it, and `runner` says which batches this bridge works on. A batch and its files belong to
//! the key that made them; it is worked on with that key's rights and counts against its limits of the day.
//!
//! What clients may rely on: a request that has its line in the output is never asked again, whatever ends meanwhile.

mod ask;
pub mod lines;
pub mod object;
pub mod runner;
mod work;
mod written;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use protocol::record::Collection;
use protocol::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use self::object::{Batch, Counts, Endpoint, Kept, Status, WINDOW_SECONDS};
use super::files::kept::{File, cards};
use super::files::{ExpiresAfter, TTL_SECONDS};
use super::list::{Listed, page};
use super::request::check_notes;
use crate::access;
use crate::app::Bridge;
use crate::body::{self, Members, PathId, path_id};
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{Operation, Routes, part};
use crate::time::now_s;

/// The members of a request.
const KNOWN: &[&[&str]] = &[&["input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"]];

/// Batches of a page whose size is not said, and the most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// How often a change is tried again because another came first.
const TRIES: usize = 8;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = BatchRequestBody)]
struct Body {
    /// A file of requests, each a line with `custom_id`, `method`, `url` and `body`.
    input_file_id: String,
    endpoint: Endpoint,
    /// `24h`.
    completion_window: String,
    #[schema(value_type = Option<HashMap<String, String>>)]
    metadata: Option<Map<String, Value>>,
    output_expires_after: Option<ExpiresAfter>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

type Answer<T> = std::result::Result<T, HttpError>;

/// Returns the routes of this module, relative to `/v1`.
pub fn routes() -> Routes {
    let id = "The batch's id.";
    let make = Operation::new("Answer the requests of a file, when there is time")
        .more("At most 50,000 requests, each to the batch's endpoint. Answers lie in a file once it has ended.")
        .takes(
            "BatchRequest",
            KNOWN,
            [part::<Body>()],
            json!({
                "input_file_id": "file-0123", "endpoint": "/v1/chat/completions", "completion_window": "24h"
            }),
        )
        .gives::<Batch>("The batch.");
    let list = Operation::new("List the batches")
        .query::<PageQuery>()
        .gives_of::<Listed<Batch>, Batch>("BatchList", "A page of batches, the newest first.");
    let show = Operation::new("Show a batch").path("id", id).gives::<Batch>("The batch.");
    let cancel = Operation::new("Give up a batch")
        .more("What was answered until then is kept.")
        .path("id", id)
        .gives::<Batch>("The batch as it is now.");
    Routes::new("Batches")
        .post("/batches", create, make)
        .get("/batches", self::list, list)
        .get("/batches/{id}", self::show, show)
        .post("/batches/{id}/cancel", self::cancel, cancel)
}

async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Answer<Json<Batch>> {
    let body: Body = Members::read(&body, KNOWN)?.part()?;
    let files_seconds = body.check()?;
    let client = bridge.daemon.client().await?;
    File::find(&client, &body.input_file_id).await.map_err(|error| error.param("input_file_id"))?;
    let now = now_s();
    let batch = Batch {
        id: new_id("batch_"),
        object: "batch".to_owned(),
        endpoint: body.endpoint,
        errors: None,
        input_file_id: body.input_file_id,
        completion_window: body.completion_window,
        status: Status::Validating,
        output_file_id: None,
        error_file_id: None,
        created_at: now,
        in_progress_at: None,
        expires_at: now + WINDOW_SECONDS,
        finalizing_at: None,
        completed_at: None,
        failed_at: None,
        expired_at: None,
        cancelling_at: None,
        cancelled_at: None,
        request_counts: Counts::default(),
        metadata: body.metadata,
    };
    let key = access::current().map(|principal| principal.id.clone());
    let (output, faults) = (new_id("file-"), new_id("file-"));
    let kept = Kept { batch, key, bridge: None, output, faults, files_seconds };
    kept.keep(&client, 0).await?;
    bridge.batches.look_at(&kept.batch.id);
    Ok(Json(kept.batch))
}

impl Body {
    /// Refuses what cannot be honoured; returns for how many seconds the batch's files are kept.
    fn check(&self) -> Result<u64> {
        if self.completion_window != "24h" {
            let message = format!("'completion_window' cannot be '{}'; it is 24h.", self.completion_window);
            return Err(Error::unsupported("completion_window", message));
        }
        check_notes(self.metadata.as_ref())?;
        self.output_expires_after.as_ref().map_or(Ok(TTL_SECONDS), |expires| expires.seconds("output_expires_after"))
    }
}

async fn list(
    State(bridge): State<Arc<Bridge>>,
    query: std::result::Result<Query<PageQuery>, QueryRejection>,
) -> Answer<Json<Listed<Batch>>> {
    let PageQuery { after, limit } = body::query(query)?;
    let client = bridge.daemon.client().await?;
    let found = cards(&client, Collection::Batches).await?.into_iter().map(|card| (card.id, ())).collect();
    let (found, more) = page(found, after.as_deref(), limit.unwrap_or(PAGE), PAGE_MAX)?;
    let mut batches = Vec::with_capacity(found.len());
    for (id, ()) in found {
        batches.push((id.clone(), Kept::find(&client, &id).await?.1.batch));
    }
    Ok(Json(Listed::new(batches, more)))
}

async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Batch>> {
    let id = path_id(id)?;
    Ok(Json(Kept::find(&bridge.daemon.client().await?, &id).await?.1.batch))
}

async fn cancel(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Batch>> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    for _ in 0..TRIES {
        let (card, mut kept) = Kept::find(&client, &id).await?;
        kept.cancel(now_s())?;
        match kept.keep(&client, card.version).await {
            // The work on it wrote meanwhile.
            Err(error) if error.kind == ErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                bridge.batches.look_at(&id);
                return Ok(Json(kept.batch));
            }
        }
    }
    let message = format!("The batch '{id}' was changed {TRIES} times while it was to be given up.");
    Err(Error::new(ErrorKind::Conflict, message).hint("Try again.").param("id").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let refused = |more: Value| {
            let mut body = json!({"input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let members = Members::read(&Bytes::from(body.to_string()), KNOWN)?;
            members.part::<Body>()?.check()
        };
        assert_eq!(refused(json!({})).unwrap(), TTL_SECONDS);
        let short = json!({"output_expires_after": {"anchor": "created_at", "seconds": 3600}});
        assert_eq!(refused(short).unwrap(), 3600);
        for (more, param) in [
            (json!({"completion_window": "1h"}), "completion_window"),
            (json!({"endpoint": "/v1/moderations"}), "endpoint"),
            (json!({"metadata": {"a": 1}}), "metadata"),
            (json!({"metadata": {"a": "x".repeat(513)}}), "metadata"),
            (json!({"output_expires_after": {"anchor": "now", "seconds": 3600}}), "output_expires_after"),
        ] {
            assert_eq!(refused(more).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
