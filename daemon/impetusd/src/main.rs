//! The program `impetusd`: flags → configuration → log → listener → run, and what went wrong as an exit code.
//! It decides nothing else; the daemon is `impetusd::run`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use impetusd::config::{self, Config, ConfigError, Sources};
use impetusd::paths::Paths;
use impetusd::shutdown::Shutdown;
use impetusd::{listener, telemetry};
use protocol::socket;

/// The control plane of Impetus: owns models and workers, and serves programs over a local socket.
#[derive(Parser)]
#[command(name = "impetusd", version)]
struct Flags {
    /// The folder of all state (IMPETUS_HOME).
    #[arg(long)]
    home: Option<PathBuf>,
    /// The socket to listen on (IMPETUS_SOCKET).
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Sets one key of the configuration, as in log.level=debug; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
}

/// Why it ends badly: the exit codes of sysexits.h.
const UNAVAILABLE: u8 = 69;
const IO: u8 = 74;
const MISCONFIGURED: u8 = 78;

fn main() -> ExitCode {
    protocol::memory::give_back();
    match start(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("impetusd: {message}");
            ExitCode::from(code)
        }
    }
}

fn start(flags: Flags) -> Result<(), (u8, String)> {
    let config = configure(flags).map_err(|message| (MISCONFIGURED, message))?;
    let failed = |error: io::Error| (IO, format!("{} cannot be used: {error}", config.home.display()));
    let paths = Paths::make(&config.home).map_err(failed)?;
    // Two threads: one for the socket, one for the supervisor; models compute in processes of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    let ended = runtime.block_on(async {
        let listeners = listener::open(&config.socket).await.map_err(|error| (UNAVAILABLE, error.to_string()))?;
        let _lock = paths.lock().map_err(|error| locked(&config.home, &error))?;
        telemetry::start(&config.log, &paths.log()).map_err(failed)?;
        let shutdown = Shutdown::default();
        shutdown.on_signals(config.server.drain).map_err(failed)?;
        impetusd::run(config.clone(), listeners, shutdown).await.map_err(|error| (IO, error.to_string()))
    });
    // A download may hang in a read; it loses nothing by ending there.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Says why the folder of all state cannot be had.
fn locked(home: &Path, error: &io::Error) -> (u8, String) {
    let home = home.display();
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            (UNAVAILABLE, format!("another impetusd uses {home}; stop it, or give this one an IMPETUS_HOME of its own"))
        }
        _ => (IO, format!("{home} cannot be locked: {error}")),
    }
}

/// Puts the configuration together from everywhere it may come from.
fn configure(flags: Flags) -> Result<Config, String> {
    // A home from a flag counts like one from the environment: it has a socket of its own.
    let given = flags.home.map(PathBuf::into_os_string);
    let variable = |name: &str| given.clone().filter(|_| name == "IMPETUS_HOME").or_else(|| std::env::var_os(name));
    let home = socket::home(&variable);
    let home = std::path::absolute(&home).map_err(|error| format!("{} is no path: {error}", home.display()))?;
    let text = |error: ConfigError| error.to_string();
    let sources = Sources {
        file: config::read_file(&Paths::config(&home)).map_err(text)?,
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        settings: flags.settings,
    };
    let mut config = Config::parse(&sources).map_err(text)?;
    let socket = flags.socket.map_or_else(|| socket::path(&variable), Ok);
    let socket = socket.map_err(|error| format!("{error}; {}", error.hint()))?;
    (config.home, config.socket) = (home, socket);
    Ok(config)
}
