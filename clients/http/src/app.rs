//! The route table, and what every handler may reach.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use protocol::{Error, ErrorKind};

use crate::access::{Hosts, check_host, check_key};
use crate::daemon::Daemon;
use crate::error::HttpError;
use crate::{Config, health, openai};

/// The largest request body, in bytes: a full context of text with room for escapes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What every handler may reach.
pub struct Bridge {
    /// The connection to the daemon.
    pub daemon: Daemon,
    /// The host names that requests may carry.
    pub hosts: Hosts,
    /// This bridge's base URL.
    pub url: String,
}

impl Bridge {
    /// Prepares the bridge that listens on `address`.
    pub fn new(config: &Config, address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            daemon: Daemon::new(config.socket.clone()),
            hosts: Hosts::new(address, &config.allow_hosts),
            url: format!("http://{address}"),
        })
    }
}

/// Returns every route, its access rules and its limits.
pub fn routes(bridge: Arc<Bridge>) -> Router {
    let keyed = Router::new()
        .route("/v1/chat/completions", post(openai::chat::complete))
        .route("/v1/completions", post(openai::completions::complete))
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::show))
        .route("/api/health/status", get(health::status))
        .layer(from_fn_with_state(bridge.clone(), check_key));
    let open = Router::new()
        .route("/health", get(health::live))
        .route("/ready", get(health::ready))
        .route("/api/health/live", get(health::live))
        .route("/api/health/ready", get(health::ready));
    keyed
        .merge(open)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(bridge.clone(), check_host))
        .layer(from_fn(harden))
        .with_state(bridge)
}

async fn harden(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("There is nothing at {}.", uri.path());
    let hint = "The bridge serves /v1/chat/completions, /v1/completions, /v1/models and /api/health.";
    HttpError(Error::new(ErrorKind::NotFound, message).hint(hint)).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let error = Error::new(ErrorKind::Invalid, format!("{} does not answer {method}.", uri.path()));
    let mut response = HttpError(error).into_response();
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
