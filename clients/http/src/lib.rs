//! The HTTP bridge: a client of `impetusd` like any other, which speaks the dialects that programs already know.
//!
//! `app` is the route table; `openai`, `anthropic`, `ollama` and `llama` are the dialects, each the only place that knows
//! its words, and `rerank`, `score` and `cohere` what others ask of models that read whole texts; `admin` and `metrics` are
//! for those who run the service, `ws` for those who watch it; `access` says who may ask, `login` keeps a page's key for it,
//! `shared` is what several bridges count together, `traces` says where a request stands in one; `serve` accepts
//! connections; `body` receives what they send; `frames`, `sse` and `ndjson` are how streams leave, `time` how dates are
//! written, `timings` how long things took, `ids` how things are called, `infill` how gaps are marked, `gbnf` how grammars
//! are written over, `thoughts` how reasoning comes back, `unsaid` which log-probabilities do; `openapi` is the table of
//! endpoints and their document; `daemon` holds the connections to the daemon. The bridge keeps no state, reads no model and
//! has no privilege that the command line lacks.

mod access;
mod admin;
mod answer;
mod anthropic;
mod app;
mod base64;
mod begin;
mod body;
mod cohere;
mod daemon;
mod dialect;
mod error;
mod frames;
mod gbnf;
mod health;
mod ids;
mod infill;
mod llama;
mod login;
mod metrics;
mod missed;
mod ndjson;
mod ollama;
mod openai;
mod openapi;
pub mod outside;
mod request_id;
mod rerank;
mod sampling;
mod score;
mod serve;
mod shared;
mod sse;
mod thoughts;
mod time;
mod timings;
mod traces;
mod turns;
mod unsaid;
mod whole;
mod ws;

pub use serve::TlsFiles;

use std::future::Future;
use std::io;
use std::path::PathBuf;

use protocol::socket;
use tokio::net::TcpListener;

/// What the bridge must know to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Host names allowed besides loopback and the address listened on.
    pub allow_hosts: Vec<String>,
    /// Web origins allowed besides this machine's own pages.
    pub allow_origins: Vec<String>,
    /// The files of a certificate; without them the bridge speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The Redis that it shares limits and logins through, if it shares them.
    pub redis: Option<String>,
}

/// Serves HTTP on `listener` until `shutdown` resolves; open requests are finished first.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let tls = config.tls.as_ref().map(serve::Tls::read).transpose().map_err(io::Error::other)?;
    access::may_listen(address, &config.socket, daemon::NAME, tls.is_some())
        .await
        .map_err(|error| io::Error::other(format!("{}; {}", error.message, error.hint.unwrap_or_default())))?;
    let bridge = app::Bridge::new(&config, address)
        .await
        .map_err(|error| io::Error::other(format!("{}; {}", error.message, error.hint.unwrap_or_default())))?;
    let mark = socket::bridges::mark(&config.socket, address);
    if let Err(error) = &mark {
        tracing::warn!(%error, "without its daemon, `impetusctl stop` will not find this bridge");
    }
    let mut announcer = tokio::spawn(daemon::announce(bridge.clone()));
    let batches = tokio::spawn(openai::batches::runner::work_for_ever(bridge.clone()));
    let reporter = tokio::spawn(traces::report_for_ever(bridge.clone()));
    let sockets = bridge.clone();
    let shutdown = async move {
        tokio::select! {
            // A daemon that comes now shall not count on it.
            () = shutdown => announcer.abort(),
            _ = &mut announcer => {}
        }
        sockets.sockets.close();
    };
    let served = serve::serve(tls, listener, app::routes(bridge.clone()), shutdown).await;
    bridge.sockets.ended().await;
    batches.abort();
    reporter.abort();
    served
}
