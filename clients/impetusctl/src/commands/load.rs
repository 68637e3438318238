//! `impetusctl load`: brings a model into memory.

use protocol::Result;
use protocol::model::LoadRequest;
use serde_json::json;

use super::work;
use crate::cli::Load;
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, load: Load) -> Result<()> {
    let client = daemon.start().await?;
    let request = LoadRequest {
        model: load.model.clone(),
        pin: if load.unpin { Some(false) } else { load.pin.then_some(true) },
        keep_alive_ms: load.keep_alive,
    };
    let id = client.load(request).await?;
    work::follow(&client, output, id).await?;
    output.result(&json!({ "model": load.model }), format_args!("{} is in memory.", load.model))
}
