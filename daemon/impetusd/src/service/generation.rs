//! `begin`, `read` and `cancel`: generations, and reading whatever long work.

use std::time::Duration;

use protocol::generation::GenerateRequest;
use protocol::transcript::{Page, ReadRequest, TranscriptId};
use protocol::{Error, Result};

use crate::session::Session;

/// The longest wait of one read.
const WAIT_MS_MAX: u32 = 30_000;

pub async fn begin(session: &Session, request: GenerateRequest) -> Result<TranscriptId> {
    session.daemon.prepared().await;
    let begun =
        session.begin(|transcript| session.daemon.supervisor.begin(transcript, request, session.client())).await;
    begun.map_err(|error| session.daemon.explain(error))
}

pub async fn read(session: &Session, request: ReadRequest) -> Result<Page> {
    if request.wait_ms > WAIT_MS_MAX {
        let message = format!("wait_ms is {}; it may be {WAIT_MS_MAX} at most", request.wait_ms);
        return Err(Error::invalid("wait_ms", message));
    }
    let transcript = session.daemon.transcripts.find(request.id)?;
    let page = transcript.read(request.cursor, Duration::from_millis(request.wait_ms.into())).await?;
    if page.ended {
        session.forget(request.id);
    }
    Ok(page)
}

pub async fn cancel(session: &Session, id: TranscriptId) -> Result<()> {
    session.daemon.transcripts.find(id)?;
    session.daemon.cancel(id).await;
    Ok(())
}
