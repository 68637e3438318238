//! `impetusctl unload`: takes a model out of memory.

use protocol::Result;
use serde_json::json;

use crate::cli::Unload;
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, unload: Unload) -> Result<()> {
    daemon.start().await?.unload(&unload.model).await?;
    output.result(
        &json!({ "model": unload.model }),
        format_args!("{} leaves memory once its work is done.", unload.model),
    )
}
