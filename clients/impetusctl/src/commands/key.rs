//! `impetusctl key`: shows the first key of the HTTP bridge.

use protocol::Result;
use serde_json::json;

use crate::cli::{Key, KeyCommand};
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, key: &Key) -> Result<()> {
    match key.command {
        KeyCommand::Show => {
            let key = daemon.start().await?.first_key().await?;
            output.result(&json!({ "key": key }), &key)
        }
    }
}
