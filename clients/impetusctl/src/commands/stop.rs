//! `impetusctl stop`: stops the daemon and its bridges, and returns when the daemon is gone.

use std::time::Duration;

use protocol::status::StopRequest;
use protocol::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::cli::Stop;
use crate::daemon::Daemon;
use crate::output::Output;

/// How long the daemon may take beyond the time that running work was given.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the command; stopping what does not run is no error.
pub async fn run(daemon: &Daemon, output: Output, stop: &Stop) -> Result<()> {
    let client = match daemon.connect().await {
        Ok(client) => client,
        Err(error) if error.kind == ErrorKind::Unreachable => return stop_bridges(daemon, output),
        Err(error) => return Err(error),
    };
    let bridges = client.status().await?.bridges;
    client.stop(StopRequest { drain_ms: stop.drain.saturating_mul(1000) }).await?;
    for bridge in bridges {
        terminate(bridge.pid);
    }
    let limit = Duration::from_secs(stop.drain) + GRACE;
    tokio::time::timeout(limit, client.closed()).await.map_err(|_| {
        Error::new(ErrorKind::DeadlineExceeded, format!("The daemon still runs after {} s.", limit.as_secs()))
            .hint("'impetusctl logs' shows what it waits for.")
    })?;
    output.result(&json!({ "stopped": true }), "Impetus has stopped.")
}

/// Stops the bridges that outlived their daemon.
fn stop_bridges(daemon: &Daemon, output: Output) -> Result<()> {
    let bridges = daemon.bridges();
    bridges.iter().copied().for_each(terminate);
    let text = match bridges.len() {
        0 => "Impetus is not running.",
        _ => "The daemon was not running; its bridge is told to end.",
    };
    output.result(&json!({ "stopped": !bridges.is_empty() }), text)
}

/// Asks a process to end; one that is gone already needs no asking.
pub fn terminate(pid: u32) {
    // Asked directly: the `kill` program is missing on a minimal Debian.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}
