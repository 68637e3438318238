//! Sessions: conversations with a name that the daemon keeps. A chat request with a `session_id` goes on from what was said
//! in it, and adds what it said and was answered; `/api/sessions` makes, lists, shows, changes and deletes them.
//!
//! Messages are kept in the shape of chat completions. A session is made by the first request that names it. Only whole
//! answers are added: a stream that broke off leaves it as it was. Instructions at the start of a request stand in
//! place of those that the session began with. A session goes when it was not used for as long as it is to live.

mod memory;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use protocol::record::{Collection, ListRequest, RecordCard, RecordId};
use protocol::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chat;
use crate::app::Bridge;
use crate::body::{self, Members};
use crate::daemon::random_hex;
use crate::error::HttpError;

use memory::{Body, TTL_SECONDS, TTL_SECONDS_MAX, find, put};
pub use memory::{Memory, remembering};

/// Sessions of a page whose size is not said.
const PAGE: u16 = 20;

/// Returns the routes of this module.
pub fn routes() -> Router<Arc<Bridge>> {
    Router::new()
        .route("/api/sessions", get(list).post(create))
        .route("/api/sessions/{id}", get(show).patch(change).delete(delete))
}

#[derive(Debug, Deserialize)]
struct CreateBody {
    id: Option<String>,
    messages: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct ChangeBody {
    title: Option<String>,
    metadata: Option<Map<String, Value>>,
    ttl_seconds: Option<u64>,
}

impl ChangeBody {
    fn apply(self, session: &mut Body) -> Result<()> {
        if let Some(ttl) = self.ttl_seconds.filter(|ttl| *ttl == 0 || *ttl > TTL_SECONDS_MAX) {
            let message = format!("'ttl_seconds' is {ttl}; it is from 1 to {TTL_SECONDS_MAX}.");
            return Err(Error::invalid("ttl_seconds", message));
        }
        session.title = self.title.unwrap_or(std::mem::take(&mut session.title));
        session.metadata = self.metadata.unwrap_or(std::mem::take(&mut session.metadata));
        session.ttl_seconds = self.ttl_seconds.unwrap_or(session.ttl_seconds);
        Ok(())
    }
}

type Answer<T> = std::result::Result<T, HttpError>;

/// A session's id in a path.
type PathId = std::result::Result<Path<String>, PathRejection>;

fn path_id(id: PathId) -> Result<String> {
    id.map(|Path(id)| id).map_err(|_| Error::invalid("id", "The session's id in the path is not UTF-8."))
}

async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Answer<(StatusCode, Json<Value>)> {
    let members = Members::read(&body, &[&["id", "title", "metadata", "ttl_seconds", "messages"]])?;
    let CreateBody { id, messages } = members.part()?;
    let messages = messages.unwrap_or_default();
    chat::check_messages(&messages)?;
    let mut session = Body { ttl_seconds: TTL_SECONDS, messages, ..Body::default() };
    members.part::<ChangeBody>()?.apply(&mut session)?;
    let id = id.unwrap_or_else(|| format!("sess_{}", random_hex(24)));
    let card = put(&bridge.daemon.client().await?, &id, &session, Some(0)).await?;
    Ok((StatusCode::CREATED, Json(shown(&card, Some(session)))))
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    after: Option<String>,
    limit: Option<u16>,
}

async fn list(
    State(bridge): State<Arc<Bridge>>,
    query: std::result::Result<Query<PageQuery>, QueryRejection>,
) -> Answer<Json<Value>> {
    let PageQuery { after, limit } = body::query(query)?;
    let request = ListRequest { collection: Collection::Sessions, after, limit: limit.unwrap_or(PAGE) };
    let found = bridge.daemon.client().await?.list(request).await?;
    let data: Vec<Value> = found.cards.iter().map(|card| shown(card, None)).collect();
    let next_cursor = found.cards.last().filter(|_| found.more).map(|card| card.id.clone());
    Ok(Json(json!({ "object": "list", "data": data, "has_more": found.more, "next_cursor": next_cursor })))
}

async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Value>> {
    let (card, session) = find(&bridge.daemon.client().await?, &path_id(id)?).await?;
    Ok(Json(shown(&card, Some(session))))
}

async fn change(State(bridge): State<Arc<Bridge>>, id: PathId, body: Bytes) -> Answer<Json<Value>> {
    let wishes: ChangeBody = Members::read(&body, &[&["title", "metadata", "ttl_seconds"]])?.part()?;
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    let (card, mut session) = find(&client, &id).await?;
    wishes.apply(&mut session)?;
    let card = put(&client, &id, &session, Some(card.version)).await?;
    Ok(Json(shown(&card, Some(session))))
}

async fn delete(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Value>> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    find(&client, &id).await?;
    client.forget(RecordId { collection: Collection::Sessions, id: id.clone() }).await?;
    Ok(Json(json!({ "id": id, "object": "session", "deleted": true })))
}

/// Returns a session as clients see it; lists leave out what was said.
fn shown(card: &RecordCard, session: Option<Body>) -> Value {
    let seconds = |ms: i64| ms.div_euclid(1000);
    let mut shown = json!({
        "id": card.id,
        "object": "session",
        "title": card.label,
        "created_at": seconds(card.created_unix_ms),
        "updated_at": seconds(card.updated_unix_ms),
        "expires_at": card.expires_unix_ms.map(seconds),
    });
    if let Some(Body { title, metadata, ttl_seconds, messages }) = session {
        shown["title"] = json!(title);
        shown["metadata"] = json!(metadata);
        shown["ttl_seconds"] = json!(ttl_seconds);
        shown["messages"] = json!(messages);
    }
    shown
}
