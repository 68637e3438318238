//! `impetus-http`: flags to a listening bridge, nothing more.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The HTTP bridge of Impetus: what other programs speak, on top of the daemon's socket.
#[derive(Debug, Parser)]
#[command(name = "impetus-http", version)]
struct Flags {
    /// Where to listen; only loopback unless you mean otherwise
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8420")]
    listen: SocketAddr,
    /// The daemon's socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A host name that requests may carry besides this machine's
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// A web origin whose pages may ask, as in https://chat.example
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Speak TLS with this certificate, and those that vouch for it, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Share limits per minute and logins with other bridges through the Redis at redis://HOST; IMPETUS_REDIS says it too
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

fn main() -> ExitCode {
    protocol::memory::give_back();
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        // Where nobody reads the log, saying so on the same standard error would end whatever logs.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(tracing::Level::INFO)
        .init();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> Result<(), String> {
    let socket = match flags.socket {
        Some(socket) => socket,
        None => protocol::socket::path(&|name| std::env::var_os(name)).map_err(|error| error.to_string())?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime did not start: {error}"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(flags.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}; choose another address", flags.listen))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let tls =
            flags.tls_cert.zip(flags.tls_key).map(|(certificate, key)| impetus_http::TlsFiles { certificate, key });
        let (allow_hosts, allow_origins) = (flags.allow_host, flags.allow_origin);
        let told = || std::env::var("IMPETUS_REDIS").ok().filter(|url| !url.is_empty());
        let redis = flags.redis.or_else(told);
        let config = impetus_http::Config { socket, allow_hosts, allow_origins, tls, redis };
        impetus_http::run(config, listener, shutdown).await.map_err(|error| format!("the bridge failed: {error}"))
    })
}
