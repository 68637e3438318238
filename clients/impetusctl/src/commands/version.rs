//! `impetusctl version`: shows the versions of this program and, if one runs, of the daemon.

use protocol::{PROTOCOL_VERSION, Result};
use serde_json::json;

use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    let commit = option_env!("IMPETUS_COMMIT").unwrap_or("unknown");
    let running = match daemon.connect().await {
        Ok(client) => Some(client.status().await?),
        Err(_) => None,
    };
    let line = match &running {
        Some(status) => format!("impetusd   {} ({}), pid {}", status.version, status.commit, status.pid),
        None => "impetusd   not running".to_owned(),
    };
    let running =
        running.map(|status| json!({ "version": status.version, "commit": status.commit, "pid": status.pid }));
    let value = json!({ "version": own, "commit": commit, "protocol": PROTOCOL_VERSION, "daemon": running });
    output.result(&value, format_args!("impetusctl {own} ({commit}), protocol {PROTOCOL_VERSION}\n{line}"))
}
