//! `impetusctl backup`: has the daemon write a copy of its database. It opens no database itself, and puts none back.

use protocol::{Error, Result};
use serde_json::json;

use crate::cli::Backup;
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, backup: &Backup) -> Result<()> {
    // The daemon runs in another folder.
    let full = std::path::absolute(&backup.file)
        .map_err(|error| Error::invalid("file", format!("{} is no path: {error}.", backup.file.display())))?;
    let path = full.to_str().ok_or_else(|| Error::invalid("file", "The path is not UTF-8 text."))?;
    daemon.start().await?.backup(path).await?;
    output.result(&json!({ "path": path }), format_args!("The database is copied to {path}."))
}
