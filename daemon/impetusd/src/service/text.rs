//! `tokenize` and `detokenize`: questions to the text side of a model, which is brought into memory for them.

use std::time::Duration;

use pipe::{Answer, Question};
use protocol::model::LoadRequest;
use protocol::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use protocol::trace::TraceParent;
use protocol::transcript::{Cursor, Event};
use protocol::{Error, ErrorKind, Result};

use super::generation::allowed;
use crate::admission::nameable;
use crate::session::Session;
use crate::supervisor::Asked;

/// How often a question is put again because the model left memory, or its worker died, meanwhile.
const TRIES: usize = 4;

/// How long a load is waited for at a time; the caller's own patience ends the whole.
const LOAD_WAIT: Duration = Duration::from_secs(10);

pub async fn tokenize(session: &Session, request: TokenizeRequest, trace: Option<TraceParent>) -> Result<Tokens> {
    match traced(session, "tokenize", trace, request.model.clone(), Question::Tokenize(request)).await? {
        Answer::Tokens(tokens) => Ok(tokens),
        Answer::Text(_) => Err(mixed_up()),
    }
}

pub async fn detokenize(session: &Session, request: DetokenizeRequest, trace: Option<TraceParent>) -> Result<String> {
    match traced(session, "detokenize", trace, request.model.clone(), Question::Detokenize(request)).await? {
        Answer::Text(text) => Ok(text),
        Answer::Tokens(_) => Err(mixed_up()),
    }
}

fn mixed_up() -> Error {
    Error::internal("the worker answered another question than it was asked")
}

async fn traced(
    session: &Session,
    verb: &str,
    trace: Option<TraceParent>,
    model: Option<String>,
    question: Question,
) -> Result<Answer> {
    nameable(model.as_deref())?;
    let watched =
        session.watched(trace, format!("{verb} {}", model.as_deref().unwrap_or_default()).trim_end().to_owned());
    let answer = ask(session, model, question, watched.place()).await;
    watched.end(answer.as_ref().err());
    answer
}

async fn ask(
    session: &Session,
    mut model: Option<String>,
    question: Question,
    trace: Option<TraceParent>,
) -> Result<Answer> {
    session.daemon.prepared().await;
    allowed(session, &mut model).await?;
    for _ in 0..TRIES {
        let asked = session.daemon.supervisor.question(model.clone(), question.clone()).await;
        match asked.map_err(|error| session.daemon.explain(error))? {
            Asked::Absent(name) => load(session, name, trace).await?,
            Asked::Put(name, answer) => match answer.await {
                Ok(answer) => return answer,
                Err(_) => tracing::info!(model = %name, "a question is put again: its worker is gone"),
            },
        }
    }
    let message = format!("the model was not in memory for long enough, {TRIES} times");
    Err(Error::new(ErrorKind::Busy, message).hint("see why with `impetusctl logs`").retry_after_ms(1_000))
}

/// Brings a model into memory, and waits until it is there.
async fn load(session: &Session, model: String, trace: Option<TraceParent>) -> Result<()> {
    let observer = session.watched(trace, format!("load {model}"));
    let request = LoadRequest { model, pin: None, keep_alive_ms: None };
    let start = async |transcript| session.daemon.supervisor.load(transcript, request).await.map(drop);
    let id = session.begin(Some(Box::new(observer)), start).await?;
    let transcript = session.daemon.transcripts.find(id)?;
    let mut cursor = Cursor::default();
    loop {
        let page = transcript.read(cursor, LOAD_WAIT).await?;
        if let Some(Event::Failed(error)) = page.events.last() {
            session.forget(id);
            return Err(error.clone());
        }
        if page.ended {
            session.forget(id);
            return Ok(());
        }
        cursor = page.next;
    }
}
