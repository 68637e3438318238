//! `embed` and `rerank`: texts that are read whole.

use protocol::Result;
use protocol::transcript::TranscriptId;

use crate::admission::Whole;
use crate::session::Session;

pub async fn begin(session: &Session, request: Whole) -> Result<TranscriptId> {
    session.daemon.prepared().await;
    session.begin(|transcript| session.daemon.supervisor.encode(transcript, request)).await
}
