//! Sessions: conversations with a name that the daemon keeps. A chat request with a `session_id` goes on from what was said
//! in it, and adds what it said and was answered; `/api/sessions` makes, lists, shows, changes and deletes them.
//!
//! Messages are kept in the shape of chat completions. A session belongs to the key that made it: other keys have other
//! sessions under the same id. It is made by the first request that names it. Only whole
//! answers are added: a stream that broke off leaves it as it was. Instructions at the start of a request stand in
//! place of those that the session began with. A session goes when it was not used for as long as it is to live.

mod memory;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use protocol::record::{Collection, ListRequest, RecordCard, RecordId};
use protocol::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::chat;
use super::list::Deleted;
use crate::admin::List;
use crate::app::Bridge;
use crate::body::{self, Members, PathId, path_id};
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{Operation, Routes, part};

use memory::{Body, TTL_SECONDS, TTL_SECONDS_MAX, find, put};
pub use memory::{Memory, remembering};

/// Sessions of a page whose size is not said.
const PAGE: u16 = 20;

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let id = "The session's id.";
    let list = Operation::new("List sessions, by id")
        .query::<PageQuery>()
        .gives_of::<List<Session>, Session>("SessionList", "A page of sessions, without what was said in them.");
    let create = Operation::new("Begin a session")
        .more(
            "The first chat request that names a session begins it too. Ids are a key's own: another key's are others.",
        )
        .takes(
            "SessionRequest",
            NEW,
            [part::<CreateBody>(), part::<ChangeBody>()],
            json!({
                "title": "About Impetus", "messages": [{ "role": "system", "content": "Be brief." }]
            }),
        )
        .makes::<Session>("The session.");
    let show = Operation::new("Show a session").path("id", id).gives::<Session>("What was said so far.");
    let change = Operation::new("Change a session")
        .path("id", id)
        .takes("SessionChange", CHANGE, [part::<ChangeBody>()], json!({ "title": "About something else" }))
        .gives::<Session>("The session as it is now.");
    let delete = Operation::new("Delete a session").path("id", id).gives::<Deleted>("It is gone.");
    Routes::new("Sessions")
        .get("/api/sessions", self::list, list)
        .post("/api/sessions", self::create, create)
        .get("/api/sessions/{id}", self::show, show)
        .patch("/api/sessions/{id}", self::change, change)
        .delete("/api/sessions/{id}", self::delete, delete)
}

/// The members of a new session, and of a change.
const NEW: &[&[&str]] = &[&["id", "title", "metadata", "ttl_seconds", "messages"]];
const CHANGE: &[&[&str]] = &[&["title", "metadata", "ttl_seconds"]];

/// A session as clients see it; lists leave out what was said.
#[derive(Serialize, ToSchema)]
struct Session {
    id: String,
    object: &'static str,
    title: String,
    created_at: i64,
    updated_at: i64,
    expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct CreateBody {
    id: Option<String>,
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize, ToSchema)]
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

async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Answer<(StatusCode, Json<Session>)> {
    let members = Members::read(&body, NEW)?;
    let CreateBody { id, messages } = members.part()?;
    let messages = messages.unwrap_or_default();
    chat::check_messages(&messages)?;
    let mut session = Body { ttl_seconds: TTL_SECONDS, messages, ..Body::default() };
    members.part::<ChangeBody>()?.apply(&mut session)?;
    let id = id.unwrap_or_else(|| new_id("sess_"));
    let card = put(&bridge.daemon.client().await?, &id, &session, Some(0)).await?;
    Ok((StatusCode::CREATED, Json(shown(&card, Some(session)))))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<String>,
    limit: Option<u16>,
}

async fn list(
    State(bridge): State<Arc<Bridge>>,
    query: std::result::Result<Query<PageQuery>, QueryRejection>,
) -> Answer<Json<List<Session>>> {
    let PageQuery { after, limit } = body::query(query)?;
    let request = ListRequest { collection: Collection::Sessions, after, limit: limit.unwrap_or(PAGE) };
    let found = bridge.daemon.client().await?.list(request).await?;
    let next = found.cards.last().filter(|_| found.more).map(|card| card.id.clone());
    Ok(Json(List::new(found.cards.iter().map(|card| shown(card, None)).collect(), next)))
}

async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Session>> {
    let (card, session) = find(&bridge.daemon.client().await?, &path_id(id)?).await?;
    Ok(Json(shown(&card, Some(session))))
}

async fn change(State(bridge): State<Arc<Bridge>>, id: PathId, body: Bytes) -> Answer<Json<Session>> {
    let wishes: ChangeBody = Members::read(&body, CHANGE)?.part()?;
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    let (card, mut session) = find(&client, &id).await?;
    wishes.apply(&mut session)?;
    let card = put(&client, &id, &session, Some(card.version)).await?;
    Ok(Json(shown(&card, Some(session))))
}

async fn delete(State(bridge): State<Arc<Bridge>>, id: PathId) -> Answer<Json<Deleted>> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    find(&client, &id).await?;
    client.forget(RecordId { collection: Collection::Sessions, id: id.clone() }).await?;
    Ok(Json(Deleted::new(id, "session")))
}

fn shown(card: &RecordCard, body: Option<Body>) -> Session {
    let seconds = |ms: i64| ms.div_euclid(1000);
    let whole = body.is_some();
    let Body { title, metadata, ttl_seconds, messages } =
        body.unwrap_or_else(|| Body { title: card.label.clone(), ..Body::default() });
    Session {
        id: card.id.clone(),
        object: "session",
        title,
        created_at: seconds(card.created_unix_ms),
        updated_at: seconds(card.updated_unix_ms),
        expires_at: card.expires_unix_ms.map(seconds),
        metadata: whole.then_some(metadata),
        ttl_seconds: whole.then_some(ttl_seconds),
        messages: whole.then_some(messages),
    }
}
