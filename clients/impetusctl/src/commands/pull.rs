//! `impetusctl pull`: fetches a model from the Hugging Face hub.

use protocol::Result;
use protocol::model::PullRequest;
use serde_json::json;

use super::{ready, work};
use crate::cli::Pull;
use crate::daemon::Daemon;
use crate::output::Output;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, pull: Pull) -> Result<()> {
    let client = daemon.start().await?;
    let name = pull.name.clone().unwrap_or_else(|| pull.repo.clone());
    let request = PullRequest { repo: pull.repo, revision: pull.revision, name: pull.name };
    let id = client.pull(request).await?;
    work::follow(&client, output, id).await?;
    output.result(&json!({ "model": name }), ready::say(&client, &name).await?)
}
