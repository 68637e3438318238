//! `impetusctl audit`: who changed keys, models and settings, newest first.

use protocol::Result;
use protocol::journal::AuditRequest;

use crate::cli::Audit;
use crate::daemon::Daemon;
use crate::output::{Output, table, when};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, audit: &Audit) -> Result<()> {
    let page = daemon.start().await?.audit(AuditRequest { limit: audit.lines, after: None }).await?;
    let rows: Vec<_> = page
        .entries
        .iter()
        .map(|entry| {
            [when(entry.time_unix_ms / 1_000), entry.actor.clone(), entry.action.clone(), entry.subject.clone()]
        })
        .collect();
    output.result(&page.entries, table(["TIME", "WHO", "WHAT", "SUBJECT"], &rows))
}
