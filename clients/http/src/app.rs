//! The route table, and what every handler may reach.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use protocol::{Error, ErrorKind};

use crate::access::{Hosts, Origins, check_host, check_key};
use crate::daemon::Daemon;
use crate::dialect::Dialect;
use crate::openai::responses::background::Background;
use crate::{Config, admin, anthropic, body, health, ollama, openai, request_id, rerank};

/// What every handler may reach.
pub struct Bridge {
    /// The connection to the daemon.
    pub daemon: Daemon,
    /// The host names that requests may carry.
    pub hosts: Hosts,
    /// The web pages that may ask.
    pub origins: Origins,
    /// This bridge's base URL.
    pub url: String,
    /// Responses that are made after their request was answered.
    pub background: Background,
}

impl Bridge {
    /// Prepares the bridge that listens on `address`.
    pub fn new(config: &Config, address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            daemon: Daemon::new(config.socket.clone()),
            hosts: Hosts::new(address, &config.allow_hosts),
            origins: Origins::new(&config.allow_origins),
            url: format!("http://{address}"),
            background: Background::default(),
        })
    }
}

/// Returns every route, its access rules and its limits.
pub fn routes(bridge: Arc<Bridge>) -> Router {
    let openai = Router::new()
        .route("/chat/completions", post(openai::chat::complete))
        .route("/completions", post(openai::completions::complete))
        .route("/embeddings", post(openai::embeddings::create))
        .route("/rerank", post(rerank::create))
        .route("/models", get(openai::models::list))
        .route("/models/{*id}", get(openai::models::show))
        .route("/moderations", any(openai::models::no_moderations))
        .merge(openai::responses::routes())
        .merge(openai::tokens::routes());
    let keyed = Router::new()
        .nest("/v1", openai.clone())
        .nest("/api/v1", openai)
        .merge(openai::tokens::routes())
        .merge(openai::sessions::routes())
        .route("/v1/messages", post(anthropic::messages::create))
        .route("/v1/messages/count_tokens", post(anthropic::messages::count_tokens))
        .merge(ollama())
        .merge(admin())
        .route("/api/health/status", get(health::status))
        .layer(from_fn(body::receive))
        .layer(from_fn_with_state(bridge.clone(), check_key));
    let open = Router::new()
        // Some clients knock here before they ask.
        .route("/", get(health::live))
        .route("/health", get(health::live))
        .route("/ready", get(health::ready))
        .route("/api/health/live", get(health::live))
        .route("/api/health/ready", get(health::ready));
    keyed
        .merge(open)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(bridge.clone(), check_host))
        .layer(from_fn(harden))
        .layer(from_fn(request_id::name))
        .with_state(bridge)
}

fn admin() -> Router<Arc<Bridge>> {
    Router::new()
        .route("/api/keys", get(admin::keys::list).post(admin::keys::create))
        .route("/api/keys/{id}", get(admin::keys::show).delete(admin::keys::revoke))
        .route("/api/keys/{id}/rotate", post(admin::keys::rotate))
        .route("/api/audit", get(admin::journal::audit))
        .route("/api/requests", get(admin::journal::requests))
}

fn ollama() -> Router<Arc<Bridge>> {
    let mut routes = Router::new()
        .route("/api/chat", post(ollama::chat::chat))
        .route("/api/generate", post(ollama::generate::generate))
        .route("/api/embed", post(ollama::embed::embed))
        .route("/api/embeddings", post(ollama::embed::embeddings))
        .route("/api/tags", get(ollama::models::tags))
        .route("/api/show", post(ollama::models::show))
        .route("/api/ps", get(ollama::models::ps))
        .route("/api/version", get(ollama::models::version))
        .route("/api/pull", post(ollama::pull::pull))
        .route("/api/delete", delete(ollama::models::delete));
    for path in ["/api/create", "/api/copy", "/api/push", "/api/blobs/{digest}"] {
        routes = routes.route(path, any(ollama::models::absent));
    }
    routes
}

/// What every answer tells browsers: guess no type, keep no copy, frame nothing, load nothing, tell nobody.
const HARDENING: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

async fn harden(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HARDENING {
        // An explorer page has a policy of its own.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("There is nothing at {}.", uri.path());
    let hint = "The bridge serves OpenAI's /v1, Anthropic's /v1/messages, Ollama's /api and /api/health.";
    Dialect::of(uri.path()).refuse(Error::new(ErrorKind::NotFound, message).hint(hint))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let error = Error::new(ErrorKind::Invalid, format!("{} does not answer {method}.", uri.path()));
    Dialect::of(uri.path()).refuse_as(StatusCode::METHOD_NOT_ALLOWED, error)
}
