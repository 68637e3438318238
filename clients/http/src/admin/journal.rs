//! `/api/requests` and `/api/audit`: what was asked, and who changed what; newest first, page by page. Neither holds what
//! was said to a model or by it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use protocol::journal::{AuditEntry, AuditRequest, RequestEntry, RequestsRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{List, Part, cursor, limit};
use crate::app::Bridge;
use crate::body::query;
use crate::error::HttpError;
use crate::openapi::{Operation, Routes};

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let requests = Operation::new("List what was asked, newest first")
        .more("What was said to a model, or by it, is not in the log.")
        .query::<Which>()
        .gives_of::<List<Asked>, Asked>("JournalRequestList", "A page of requests.");
    let audit = Operation::new("List who changed keys, models and settings, newest first")
        .query::<Part>()
        .gives_of::<List<Changed>, Changed>("JournalChangeList", "A page of changes.");
    Routes::new("Journal").get("/api/requests", self::requests, requests).get("/api/audit", self::audit, audit)
}

/// Which requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Which {
    limit: Option<u32>,
    after: Option<String>,
    model: Option<String>,
    key: Option<String>,
    status: Option<String>,
}

/// One request, without what was said.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JournalRequest)]
pub struct Asked {
    id: u64,
    /// Milliseconds since 1970.
    time_unix_ms: i64,
    verb: String,
    model: Option<String>,
    /// The key's id; null for the socket.
    key: Option<String>,
    /// `ok`, or the kind of the error.
    status: String,
    prompt_tokens: u32,
    completion_tokens: u32,
    latency_ms: u32,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JournalChange)]
pub struct Changed {
    id: u64,
    /// Milliseconds since 1970.
    time_unix_ms: i64,
    /// A key's id, or `uid 501` for the socket.
    actor: String,
    /// As in `key.create`.
    action: String,
    subject: String,
}

/// Lists what was asked.
async fn requests(
    State(bridge): State<Arc<Bridge>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<List<Asked>>, HttpError> {
    let which = query(which)?;
    let request = RequestsRequest {
        limit: limit(which.limit)?,
        after: cursor(which.after.as_deref())?,
        model: which.model,
        key: which.key,
        status: which.status,
    };
    let page = bridge.daemon.client().await?.requests(request).await?;
    Ok(Json(List::new(page.entries.into_iter().map(Asked::from).collect(), page.next)))
}

/// Lists who changed what.
async fn audit(
    State(bridge): State<Arc<Bridge>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<List<Changed>>, HttpError> {
    let part = query(part)?;
    let request = AuditRequest { limit: limit(part.limit)?, after: cursor(part.after.as_deref())? };
    let page = bridge.daemon.client().await?.audit(request).await?;
    Ok(Json(List::new(page.entries.into_iter().map(Changed::from).collect(), page.next)))
}

impl From<RequestEntry> for Asked {
    fn from(entry: RequestEntry) -> Self {
        let RequestEntry { id, time_unix_ms, verb, model, key, status, prompt_tokens, completion_tokens, latency_ms } =
            entry;
        Self { id, time_unix_ms, verb, model, key, status, prompt_tokens, completion_tokens, latency_ms }
    }
}

impl From<AuditEntry> for Changed {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, time_unix_ms, actor, action, subject } = entry;
        Self { id, time_unix_ms, actor, action, subject }
    }
}
