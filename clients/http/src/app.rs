//! The route table, and what every handler may reach.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use protocol::{Error, ErrorKind, Result};

use crate::access::{Hosts, Origins, check_host, check_key};
use crate::daemon::Daemon;
use crate::dialect::Dialect;
use crate::login::Logins;
use crate::openai::batches::runner::Batches;
use crate::openai::responses::background::Background;
use crate::openapi::{Routes, explorer};
use crate::serve::{check_head, drop_rest};
use crate::shared::Shared;
use crate::traces::{self, Traces};
use crate::ws::{self, Sockets};
use crate::{
    Config, admin, anthropic, body, cohere, health, llama, login, metrics, ollama, openai, request_id, rerank, score,
};

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
    /// Those who watch.
    pub sockets: Sockets,
    /// Batches that this bridge works on.
    pub batches: Batches,
    /// What it shares with other bridges, if it does.
    pub shared: Option<Shared>,
    /// Pages that have logged in.
    pub logins: Logins,
    /// Spans on their way to the daemon.
    pub traces: Traces,
}

impl Bridge {
    /// Prepares the bridge that listens on `address`.
    pub async fn new(config: &Config, address: SocketAddr) -> Result<Arc<Self>> {
        let shared = match &config.redis {
            Some(url) => Some(Shared::connect(url).await?),
            None => None,
        };
        Ok(Arc::new(Self {
            daemon: Daemon::new(config.socket.clone()),
            hosts: Hosts::new(address, &config.allow_hosts),
            origins: Origins::new(&config.allow_origins),
            url: format!("{}://{address}", if config.tls.is_some() { "https" } else { "http" }),
            background: Background::default(),
            sockets: Sockets::default(),
            batches: Batches::default(),
            logins: Logins::new(config.tls.is_some(), &login::secret(shared.as_ref()).await?),
            shared,
            traces: Traces::default(),
        }))
    }

    /// Returns what distinguishes this bridge from all others that live.
    pub fn name(&self) -> String {
        bridge_name(&self.url, std::process::id())
    }
}

/// Returns what distinguishes a bridge from all others that live, by what it announces of itself.
pub fn bridge_name(url: &str, pid: u32) -> String {
    format!("{url} {pid}")
}

/// Returns every route, its access rules and its limits.
pub fn routes(bridge: Arc<Bridge>) -> Router {
    let room = body::room::Room::default();
    let keyed = keyed()
        .router()
        .layer(from_fn_with_state(room.clone(), body::receive))
        .layer(from_fn_with_state(bridge.clone(), check_key))
        .layer(from_fn_with_state(bridge.clone(), traces::follow));
    keyed
        .merge(open().router().layer(from_fn_with_state(room, body::receive_little)))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(bridge.clone(), check_host))
        .layer(from_fn(drop_rest))
        .layer(from_fn(check_head))
        .layer(from_fn(harden))
        .layer(from_fn(request_id::name))
        .with_state(bridge)
}

/// What needs a key.
pub fn keyed() -> Routes {
    Routes::new("")
        .nest("/v1", openai::routes())
        .alias("/api/v1", openai::routes())
        .alias("", openai::at_root())
        .merge(openai::tokens::routes())
        .merge(rerank::routes())
        .merge(score::routes())
        .nest("/v2", rerank::routes().merge(cohere::routes()))
        .merge(openai::sessions::routes())
        .merge(anthropic::messages::routes())
        .merge(ollama::routes())
        .merge(llama::routes())
        .merge(admin::routes())
        .merge(metrics::routes())
        .merge(ws::routes())
        .merge(health::keyed())
        .merge(login::keyed())
}

/// What answers without one.
pub fn open() -> Routes {
    health::open().merge(login::open()).merge(explorer::routes())
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
    let hint =
        "The bridge serves OpenAI's /v1, Anthropic's /v1/messages, Ollama's /api and its own /api; /docs shows them.";
    Dialect::of(uri.path()).refuse(Error::new(ErrorKind::NotFound, message).hint(hint))
}

async fn wrong_method(dialect: Dialect, method: Method, uri: Uri) -> Response {
    let error = Error::new(ErrorKind::Invalid, format!("{} does not answer {method}.", uri.path()));
    dialect.refuse_as(StatusCode::METHOD_NOT_ALLOWED, error)
}
