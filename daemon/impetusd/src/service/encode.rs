//! `embed` and `rerank`: texts that are read whole.

use protocol::trace::TraceParent;
use protocol::transcript::TranscriptId;
use protocol::{Error, Result};

use crate::admission::{Whole, nameable};
use crate::session::Session;

pub async fn begin(session: &Session, request: Whole, trace: Option<TraceParent>) -> Result<TranscriptId> {
    let daemon = &session.daemon;
    let recording = daemon.traces.begin(trace);
    daemon.prepared().await;
    let (verb, operation, model) = match &request {
        Whole::Embed(request) => ("embed", "embeddings", request.model.clone()),
        Whole::Rerank(request) => ("rerank", "rerank", request.model.clone()),
    };
    let asker = session.asker(recording.place());
    let named = nameable(model.as_deref());
    let model = model.filter(|_| named.is_ok());
    let mut observation = daemon.journal.observe(verb, model.clone(), session.key().map(str::to_owned));
    observation.record(recording, operation, Vec::new());
    match named.and_then(|()| admit(session, model.as_deref())) {
        Ok(()) => observation = observation.charged(),
        Err(error) => {
            observation.end(Some(&error));
            return Err(error);
        }
    }
    let begin = |transcript| daemon.supervisor.encode(transcript, request, asker);
    session.begin(Some(Box::new(observation)), begin).await
}

/// Refuses what the key of this connection may not ask for, and counts what it may.
fn admit(session: &Session, model: Option<&str>) -> Result<()> {
    let Some(key) = session.key() else { return Ok(()) };
    let keys = &session.daemon.keys;
    match model {
        Some(model) => keys.allows(key, model)?,
        None if keys.models(key)?.is_empty() => {}
        None => return Err(Error::invalid("model", "this key is for some models only: name one of them")),
    }
    keys.charge(key)
}
