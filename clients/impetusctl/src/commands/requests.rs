//! `impetusctl requests`: what was asked of which model, newest first, and never what was said.

use protocol::Result;
use protocol::journal::{RequestEntry, RequestsRequest};

use crate::cli::Requests;
use crate::daemon::Daemon;
use crate::output::{Output, table, when};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, requests: Requests) -> Result<()> {
    let request = RequestsRequest {
        limit: requests.lines,
        model: requests.model,
        key: requests.key,
        ..RequestsRequest::default()
    };
    let page = daemon.start().await?.requests(request).await?;
    let rows: Vec<_> = page.entries.iter().map(row).collect();
    let header = ["TIME", "VERB", "MODEL", "KEY", "STATUS", "READ", "WRITTEN", "MS"];
    output.result(&page.entries, table(header, &rows))
}

fn row(entry: &RequestEntry) -> [String; 8] {
    [
        when(entry.time_unix_ms / 1_000),
        entry.verb.clone(),
        entry.model.clone().unwrap_or_default(),
        entry.key.clone().unwrap_or_else(|| "socket".to_owned()),
        entry.status.clone(),
        entry.prompt_tokens.to_string(),
        entry.completion_tokens.to_string(),
        entry.latency_ms.to_string(),
    ]
}
