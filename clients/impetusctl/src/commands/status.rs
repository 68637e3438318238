//! `impetusctl status`: shows how the daemon is. It never starts one.

use protocol::Result;
use protocol::model::ModelState;
use protocol::status::Status;
use serde::Serialize;

use crate::daemon::Daemon;
use crate::output::{Output, bytes, duration};

/// The status with what scripts look for first at its top.
#[derive(Serialize)]
struct Shown {
    /// The first bridge's base URL.
    http: Option<String>,
    #[serde(flatten)]
    status: Status,
}

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output) -> Result<()> {
    let status = daemon.connect().await?.status().await?;
    let http = status.bridges.first().map(|bridge| bridge.url.clone());
    let text = describe(&status);
    output.result(&Shown { http, status }, text)
}

/// Describes the daemon in a few lines.
pub fn describe(status: &Status) -> String {
    let bridges: Vec<_> = status.bridges.iter().map(|bridge| bridge.url.as_str()).collect();
    let loaded = status.models.iter().filter(|card| matches!(card.state, ModelState::Loaded(_))).count();
    format!(
        "Impetus {} ({}), pid {}, up {}{}
  socket  {}
  http    {}
  home    {}
  models  {} known, {loaded} in memory, default {}
  memory  {} of {} for models, daemon {}, machine {} ({} available)
  work    {} active, {} connections",
        status.version,
        status.commit,
        status.pid,
        duration(status.uptime_ms),
        if status.draining { ", shutting down" } else { "" },
        status.socket,
        if bridges.is_empty() { "no bridge".to_owned() } else { bridges.join(" ") },
        status.home,
        status.models.len(),
        status.default_model.as_deref().unwrap_or("none"),
        bytes(status.memory.models_bytes),
        bytes(status.memory.budget_bytes),
        bytes(status.memory.daemon_bytes),
        bytes(status.memory.total_bytes),
        bytes(status.memory.available_bytes),
        status.active,
        status.connections,
    )
}
