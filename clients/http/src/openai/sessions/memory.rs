//! What a session remembers, and how a chat request reads it and adds to it.

use futures::{Stream, StreamExt, stream};
use protocol::client::Client;
use protocol::generation::Json;
use protocol::record::{BODY_BYTES_MAX, Collection, KeepRequest, NAME_BYTES_MAX, RecordCard, RecordId};
use protocol::transcript::Event;
use protocol::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::answer::Choice;

/// For how long an unused session is kept, unless it says otherwise.
pub const TTL_SECONDS: u64 = 30 * 24 * 3600;

/// The longest time that a session may ask for.
pub const TTL_SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;

/// How often an addition is tried again because another came first.
const TRIES: usize = 8;

/// What is kept of a session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Body {
    /// What it is about, for people.
    pub title: String,
    /// What its client notes about it.
    pub metadata: Map<String, Value>,
    /// For how long it is kept after its last use.
    pub ttl_seconds: u64,
    /// What was said so far.
    pub messages: Vec<Value>,
}

fn record_id(id: &str) -> RecordId {
    RecordId { collection: Collection::Sessions, id: id.to_owned() }
}

/// Finds a session.
pub async fn find(client: &Client, id: &str) -> Result<(RecordCard, Body)> {
    let record = client.recall(record_id(id)).await.map_err(|error| match error.kind {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("There is no session '{id}'."))
            .hint("It was deleted, or was not used for too long.")
            .param("id"),
        _ => error,
    })?;
    let body = serde_json::from_str(&record.body.0)
        .map_err(|error| Error::internal(format!("what was kept of session '{id}' cannot be read: {error}")))?;
    Ok((record.card, body))
}

/// Writes a session over the version it was read at.
pub async fn put(client: &Client, id: &str, session: &Body, replaces: Option<u64>) -> Result<RecordCard> {
    let RecordId { collection, id } = record_id(id);
    let body = Json(serde_json::to_string(session).map_err(|error| Error::internal(error.to_string()))?);
    let mut label = session.title.clone();
    while label.len() > NAME_BYTES_MAX {
        label.pop();
    }
    let ttl_ms = Some(session.ttl_seconds.saturating_mul(1000));
    client.keep(KeepRequest { collection, id, label, body, replaces, ttl_ms }).await
}

/// What a chat request takes from its session and will add to it.
pub struct Memory {
    client: Client,
    id: String,
    /// Whether the session was there when the request came.
    known: bool,
    /// What goes before the request's own messages.
    pub history: Vec<Value>,
    /// The request's own messages, to be kept before the answer.
    pub said: Vec<Value>,
}

impl Memory {
    /// Reads the session of a request that says `said`; one that its key has not named yet is empty. What could not be kept
    /// is refused here, before anything is answered.
    pub async fn read(client: Client, id: String, said: Vec<Value>) -> Result<Self> {
        let (known, mut history) = match find(&client, &id).await {
            Ok((_, session)) => (true, session.messages),
            Err(error) if error.kind == ErrorKind::NotFound => (false, Vec::new()),
            Err(error) => return Err(error.param("session_id")),
        };
        if said.first().is_some_and(instructs) {
            history.drain(..leading(&history));
        }
        let bytes: usize = history.iter().chain(&said).map(|message| message.to_string().len()).sum();
        if bytes > BODY_BYTES_MAX {
            let message =
                format!("Session '{id}' would have {bytes} bytes with these messages; one has {BODY_BYTES_MAX}.");
            return Err(Error::invalid("session_id", message).hint("Begin a new one."));
        }
        Ok(Self { client, id, known, history, said })
    }

    /// Adds the request's messages and the answer to them.
    async fn add(self, answer: Value) -> Result<()> {
        for _ in 0..TRIES {
            let (version, mut session) = match find(&self.client, &self.id).await {
                Ok((card, session)) => (card.version, session),
                Err(error) if error.kind == ErrorKind::NotFound && !self.known => {
                    (0, Body { ttl_seconds: TTL_SECONDS, ..Body::default() })
                }
                Err(error) => return Err(error.param("session_id")),
            };
            if self.said.first().is_some_and(instructs) {
                session.messages.drain(..leading(&session.messages));
                let instructions = leading(&self.said);
                session.messages.splice(0..0, self.said[..instructions].iter().cloned());
                session.messages.extend(self.said[instructions..].iter().cloned());
            } else {
                session.messages.extend(self.said.iter().cloned());
            }
            session.messages.push(answer.clone());
            match put(&self.client, &self.id, &session, Some(version)).await {
                Err(error) if error.kind == ErrorKind::Conflict => {}
                done => return done.map(drop).map_err(|error| error.param("session_id")),
            }
        }
        let message =
            format!("Session '{}' was changed by others {TRIES} times while this answer was to be added.", self.id);
        Err(Error::new(ErrorKind::Conflict, message).hint("Send one request at a time.").param("session_id"))
    }
}

fn instructs(message: &Value) -> bool {
    ["system", "developer"].iter().any(|role| message["role"] == *role)
}

/// How many messages at the start are instructions.
fn leading(messages: &[Value]) -> usize {
    messages.iter().take_while(|message| instructs(message)).count()
}

/// Passes events on; before the last, adds the answer to the session, so that a client that has heard of its end finds it.
pub fn remembering<E>(
    events: E,
    memory: Memory,
    shape: impl Fn(Choice) -> Value + Send + Sync + 'static,
) -> impl Stream<Item = Result<Event>> + Send + Unpin + 'static
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
{
    let start = (events, Choice::default(), Some(memory), shape);
    let events = stream::unfold(start, |(mut events, mut choice, mut memory, shape)| async move {
        let mut event = events.next().await?;
        match &event {
            Ok(Event::Delta(delta)) => choice.absorb(delta.clone()),
            Ok(Event::Finished(_)) => {
                if let Some(memory) = memory.take()
                    && let Err(error) = memory.add(shape(std::mem::take(&mut choice))).await
                {
                    event = Err(error);
                }
            }
            _ => {}
        }
        Some((event, (events, choice, memory, shape)))
    });
    Box::pin(events)
}
