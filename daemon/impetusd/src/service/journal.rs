//! `audit` and `requests`: what has happened, newest first.

use protocol::Result;
use protocol::journal::{AuditPage, AuditRequest, RequestsPage, RequestsRequest};

use crate::daemon::Daemon;

pub async fn audit(daemon: &Daemon, request: AuditRequest) -> Result<AuditPage> {
    daemon.catalogue.audit_page(request).await
}

pub async fn requests(daemon: &Daemon, request: RequestsRequest) -> Result<RequestsPage> {
    daemon.catalogue.requests_page(request).await
}
