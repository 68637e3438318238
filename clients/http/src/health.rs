//! Health for supervisors: is the bridge alive, can it answer, and how is the daemon.
//!
//! `live` and `ready` need no key and say nothing of models; `status` is the daemon's whole status.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::ErrorKind;
use protocol::status::Status;
use serde_json::json;

use crate::app::Bridge;
use crate::error::HttpError;

/// Answers as long as the bridge runs.
pub async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Answers 200 only if the daemon answers and takes work.
pub async fn ready(State(bridge): State<Arc<Bridge>>) -> Result<Response, HttpError> {
    let status = bridge.daemon.own().await?.status().await?;
    if status.draining {
        return Err(protocol::Error::new(ErrorKind::Closing, "The daemon is shutting down.").into());
    }
    Ok(Json(json!({"status": "ready"})).into_response())
}

/// Answers with the daemon's whole status.
pub async fn status(State(bridge): State<Arc<Bridge>>) -> Result<Json<Status>, HttpError> {
    Ok(Json(bridge.daemon.client().await?.status().await?))
}
