//! `begin`, `read` and `cancel`: generations, and reading whatever long work.

use std::time::Duration;

use protocol::generation::GenerateRequest;
use protocol::trace::TraceParent;
use protocol::transcript::{Page, ReadRequest, TranscriptId};
use protocol::{Error, Result};

use crate::admission::nameable;
use crate::session::Session;
use crate::traces;

/// The longest wait of one read.
const WAIT_MS_MAX: u32 = 30_000;

pub async fn begin(
    session: &Session,
    mut request: GenerateRequest,
    trace: Option<TraceParent>,
) -> Result<TranscriptId> {
    let daemon = &session.daemon;
    let recording = daemon.traces.begin(trace);
    daemon.prepared().await;
    let key = session.key().map(str::to_owned);
    let asker = session.asker(recording.place());
    let (operation, asked) = traces::asked(&request, recording.is_on());
    let named = nameable(request.model.as_deref());
    let model = request.model.clone().filter(|_| named.is_ok());
    let mut observation = daemon.journal.observe("generate", model, key);
    observation.record(recording, operation, asked);
    let admitted = match named {
        Ok(()) => admit(session, &mut request.model).await,
        refused => refused,
    };
    match admitted {
        Ok(()) => observation = observation.charged(),
        Err(error) => {
            observation.end(Some(&error));
            return Err(error);
        }
    }
    let begin = |transcript| daemon.supervisor.begin(transcript, request, asker);
    let begun = session.begin(Some(Box::new(observation)), begin).await;
    begun.map_err(|error| daemon.explain(error))
}

/// Refuses what the key of this connection may not ask for, and counts what it may.
pub(crate) async fn admit(session: &Session, model: &mut Option<String>) -> Result<()> {
    allowed(session, model).await?;
    session.key().map_or(Ok(()), |key| session.daemon.keys.charge(key))
}

/// Refuses a model that the key of this connection may not use. A key for some models means one of them: where none is
/// named, the default has to be among them.
pub(crate) async fn allowed(session: &Session, model: &mut Option<String>) -> Result<()> {
    let Some(key) = session.key() else { return Ok(()) };
    let keys = &session.daemon.keys;
    if keys.models(key)?.is_empty() {
        return Ok(());
    }
    if model.is_none() {
        *model = session.daemon.supervisor.look().await?.default;
    }
    keys.allows(key, model.as_deref().unwrap_or_default())
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
