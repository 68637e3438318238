//! `audit` and `requests`: what has happened, newest first. `backup`: a copy of all that the database holds.

use protocol::Result;
use protocol::journal::{AuditPage, AuditRequest, RequestsPage, RequestsRequest};

use super::absolute;
use crate::daemon::Daemon;

pub async fn audit(daemon: &Daemon, request: AuditRequest) -> Result<AuditPage> {
    daemon.catalogue.audit_page(request).await
}

pub async fn requests(daemon: &Daemon, request: RequestsRequest) -> Result<RequestsPage> {
    daemon.catalogue.requests_page(request).await
}

pub async fn backup(daemon: &Daemon, path: &str) -> Result<()> {
    daemon.catalogue.backup(absolute(path)?).await?;
    tracing::info!(path, "the database was backed up");
    Ok(())
}
