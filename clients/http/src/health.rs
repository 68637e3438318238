//! Health for supervisors: is the bridge alive, can it answer, and how is the daemon.
//!
//! `live` and `ready` need no key and say nothing of models; `status` is the daemon's whole status.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use protocol::ErrorKind;
use protocol::status::Status;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Bridge;
use crate::body::no_query;
use crate::error::HttpError;
use crate::openapi::{Operation, Routes};

/// Returns the routes that need no key.
pub fn open() -> Routes {
    let live = || Operation::new("Tell that the bridge runs").gives::<Health>("It runs.");
    let ready = || Operation::new("Tell whether the daemon takes work").gives::<Health>("It does.");
    Routes::new("Health")
        // Some clients knock here before they ask.
        .get("/", self::live, live())
        .get("/health", self::live, live())
        .get("/ready", self::ready, ready())
        .get("/api/health", self::ready, ready())
        .get("/api/health/live", self::live, live())
        .get("/api/health/ready", self::ready, ready())
        .open()
}

/// Returns the routes that need a key.
pub fn keyed() -> Routes {
    let text = "Memory, models and figures, as `impetusctl status --json` shows them.";
    let status = Operation::new("Show how the daemon is").gives_object(text);
    Routes::new("Health").get("/api/health/status", self::status, status)
}

/// In a word.
#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
}

/// Answers as long as the bridge runs.
async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Answers 200 only if the daemon answers and takes work.
async fn ready(State(bridge): State<Arc<Bridge>>) -> Result<Json<Health>, HttpError> {
    let status = bridge.daemon.own().await?.status().await?;
    if status.draining {
        return Err(protocol::Error::new(ErrorKind::Closing, "The daemon is shutting down.").into());
    }
    Ok(Json(Health { status: "ready" }))
}

/// Answers with the daemon's whole status.
async fn status(State(bridge): State<Arc<Bridge>>, uri: Uri) -> Result<Json<Status>, HttpError> {
    no_query(&uri)?;
    Ok(Json(bridge.daemon.client().await?.status().await?))
}
