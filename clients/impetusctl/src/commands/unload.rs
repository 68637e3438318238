//! `impetusctl unload`: takes a model out of memory.

use protocol::Result;
use protocol::model::ModelState;
use serde_json::json;

use crate::cli::Unload;
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, unload: Unload) -> Result<()> {
    let client = daemon.start().await?;
    client.unload(&unload.model).await?;
    // The daemon waits a while for work that is under way; the model may still have some.
    let leaves = client.models().await?.iter().any(|card| card.name == unload.model && in_memory(&card.state));
    let text = if leaves { "leaves memory once its work is done" } else { "is not in memory" };
    output.result(&json!({ "model": unload.model, "in_memory": leaves }), format_args!("{} {text}.", unload.model))
}

fn in_memory(state: &ModelState) -> bool {
    matches!(state, ModelState::Loading | ModelState::Loaded(_) | ModelState::Unloading)
}
