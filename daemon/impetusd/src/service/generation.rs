//! `begin`, `read` and `cancel`: generations, and reading whatever long work.

use std::time::Duration;

use protocol::generation::GenerateRequest;
use protocol::trace::TraceParent;
use protocol::transcript::{Page, ReadRequest, TranscriptId};
use protocol::{Error, Result};

use crate::admission::nameable;
use crate::keys::{Hold, Most};
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
    let mut asker = session.asker(recording.place());
    let (operation, asked) = traces::asked(&request, recording.is_on());
    let named = nameable(request.model.as_deref());
    let model = request.model.clone().filter(|_| named.is_ok());
    let mut observation = daemon.journal.observe("generate", model, key);
    observation.record(recording, operation, asked);
    let admitted = match named {
        Ok(()) => admit(session, &mut request).await,
        Err(refused) => Err(refused),
    };
    match admitted {
        Ok(hold) => {
            asker.tokens = hold.as_ref().map(Hold::tokens);
            observation = observation.charged(hold, request.further);
        }
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
async fn admit(session: &Session, request: &mut GenerateRequest) -> Result<Option<Hold>> {
    session.allow_priority(request.priority)?;
    allowed(session, &mut request.model).await?;
    let Some(key) = session.key() else { return Ok(None) };
    let mut most = Most { following: request.following.into(), ..Most::default() };
    if session.daemon.keys.counts_tokens(key)? {
        let (choices, context) = (u64::from(request.choices), context(session, request.model.as_deref()).await?);
        most.answers = choices * context.min(request.stop.max_tokens.map_or(context, u64::from));
        // How long the prompt is, only its model's worker can say.
        most.whole = (context + most.answers).min(choices * context);
    }
    session.daemon.keys.charge(key, most, request.further).await
}

/// How many tokens a sequence of a model may have at most; of the model that has most, where it is not known yet which is
/// meant.
pub(super) async fn context(session: &Session, model: Option<&str>) -> Result<u64> {
    let models = session.daemon.supervisor.look().await?.models;
    let named = models.iter().find(|card| Some(card.name.as_str()) == model);
    let longest = || models.iter().map(|card| card.facts.context_length).max().unwrap_or(0);
    Ok(named.map_or_else(longest, |card| card.facts.context_length).into())
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
