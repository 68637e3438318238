//! `embed` and `rerank`: texts that are read whole.

use protocol::trace::TraceParent;
use protocol::transcript::TranscriptId;
use protocol::{Error, Result};

use super::generation::context;
use crate::admission::{Whole, nameable};
use crate::keys::{Hold, Most};
use crate::session::Session;

pub async fn begin(session: &Session, request: Whole, trace: Option<TraceParent>) -> Result<TranscriptId> {
    let daemon = &session.daemon;
    let recording = daemon.traces.begin(trace);
    daemon.prepared().await;
    let (verb, operation, model) = match &request {
        Whole::Embed(request) => ("embed", "embeddings", request.model.clone()),
        Whole::Rerank(request) => ("rerank", "rerank", request.model.clone()),
    };
    let mut asker = session.asker(recording.place());
    let named = nameable(model.as_deref());
    let model = model.filter(|_| named.is_ok());
    let mut observation = daemon.journal.observe(verb, model.clone(), session.key().map(str::to_owned));
    observation.record(recording, operation, Vec::new());
    let admitted = match named {
        Ok(()) => admit(session, model.as_deref(), &request).await,
        Err(refused) => Err(refused),
    };
    match admitted {
        Ok(hold) => {
            asker.tokens = hold.as_ref().map(Hold::tokens);
            observation = observation.charged(hold, false);
        }
        Err(error) => {
            observation.end(Some(&error));
            return Err(error);
        }
    }
    let begin = |transcript| daemon.supervisor.encode(transcript, request, asker);
    session.begin(Some(Box::new(observation)), begin).await
}

/// Refuses what the key of this connection may not ask for, and counts what it may.
async fn admit(session: &Session, model: Option<&str>, request: &Whole) -> Result<Option<Hold>> {
    session.allow_priority(request.priority())?;
    let Some(key) = session.key() else { return Ok(None) };
    let keys = &session.daemon.keys;
    match model {
        Some(model) => keys.allows(key, model)?,
        None if keys.models(key)?.is_empty() => {}
        None => return Err(Error::invalid("model", "this key is for some models only: name one of them")),
    }
    let mut most = Most::default();
    if keys.counts_tokens(key)? {
        most.whole = (request.texts() as u64).saturating_mul(context(session, model).await?);
    }
    keys.charge(key, most, false).await
}
