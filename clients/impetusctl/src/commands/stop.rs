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

/// How long a daemon of another release gives its running work.
const OTHERS_DRAIN: Duration = Duration::from_secs(20);

/// Runs the command; stopping what does not run is no error.
pub async fn run(daemon: &Daemon, output: Output, stop: &Stop) -> Result<()> {
    let client = match daemon.connect().await {
        Ok(client) => client,
        Err(error) if error.kind == ErrorKind::Unreachable => return stop_bridges(daemon, output),
        // After an upgrade the daemon of the older release runs on, and speaks of nothing but its end.
        Err(error) if error.kind == ErrorKind::Incompatible => {
            let limit = OTHERS_DRAIN + GRACE;
            daemon.bridges().into_iter().for_each(terminate);
            return ended(output, daemon.end_other(limit).await?, limit);
        }
        Err(error) => return Err(error),
    };
    let bridges = client.status().await?.bridges;
    client.stop(StopRequest { drain_ms: stop.drain.saturating_mul(1000) }).await?;
    for bridge in bridges {
        terminate(bridge.pid);
    }
    let limit = Duration::from_secs(stop.drain) + GRACE;
    ended(output, tokio::time::timeout(limit, client.closed()).await.is_ok(), limit)
}

fn ended(output: Output, stopped: bool, limit: Duration) -> Result<()> {
    if !stopped {
        let message = format!("The daemon still runs after {} s.", limit.as_secs());
        return Err(Error::new(ErrorKind::DeadlineExceeded, message).hint("`impetusctl logs` shows what it waits for."));
    }
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
