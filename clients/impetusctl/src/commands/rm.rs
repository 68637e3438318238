//! `impetusctl rm`: forgets a model.

use protocol::Result;
use protocol::model::RemoveRequest;
use serde_json::json;

use crate::cli::Rm;
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, rm: Rm) -> Result<()> {
    let request = RemoveRequest { model: rm.model.clone(), delete_files: !rm.keep_files };
    daemon.start().await?.remove(request).await?;
    output.result(&json!({ "model": rm.model }), format_args!("{} is forgotten.", rm.model))
}
