//! Chat completions that are kept because their request said `store`: they can be listed, read, labelled and deleted.
//!
//! What is kept is the whole answer, streamed or not, with the messages it answers and the client's notes about it. It
//! belongs to the key that asked, and goes after 30 days.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures::{Stream, StreamExt, stream};
use protocol::client::Client;
use protocol::record::{BODY_BYTES_MAX, Collection, RecordId};
use protocol::transcript::Event;
use protocol::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::answer::{ChatChoice, Frame};
use crate::answer::Answer;
use crate::app::Bridge;
use crate::body::{self, Members, PathId, path_id};
use crate::error::HttpError;
use crate::openai::files::kept::{cards, find, put};
use crate::openai::list::{Deleted, Listed, Order, page};
use crate::openai::request::check_notes;
use crate::openai::response::Completion;
use crate::openapi::{Operation, Routes, part};

/// For how many seconds a completion is kept.
const TTL_SECONDS: u64 = 30 * 24 * 3600;

/// The longest messages, as JSON, that are kept with an answer: there must be room for that too.
const MESSAGES_BYTES_MAX: usize = BODY_BYTES_MAX / 2;

/// Things of a page whose size is not said, and the most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// Returns the routes of this module, relative to `/v1`.
pub fn routes() -> Routes {
    let id = "The completion's id.";
    let list = Operation::new("List the chat completions that were stored")
        .more("`metadata[NAME]=TEXT` shows only those with such a note.")
        .query::<PageQuery>()
        .gives_of::<Listed<Stored>, Stored>("ChatCompletionList", "A page of completions, the oldest first.");
    let show = Operation::new("Show a stored chat completion").path("id", id).gives::<Stored>("The completion.");
    let change = Operation::new("Change the notes of a stored chat completion")
        .path("id", id)
        .takes("ChatCompletionChange", CHANGE, [part::<Change>()], json!({ "metadata": { "topic": "greeting" } }))
        .gives::<Stored>("The completion as it is now.");
    let delete = Operation::new("Delete a stored chat completion").path("id", id).gives::<Deleted>("It is gone.");
    let messages = Operation::new("List what a stored chat completion answers")
        .path("id", id)
        .query::<MessagesQuery>()
        .gives_of::<Listed<Message>, Message>("ChatMessageList", "A page of messages, the first one first.");
    Routes::new("OpenAI")
        .get("/chat/completions", self::list, list)
        .get("/chat/completions/{id}", self::show, show)
        .post("/chat/completions/{id}", self::change, change)
        .delete("/chat/completions/{id}", self::delete, delete)
        .get("/chat/completions/{id}/messages", self::messages, messages)
}

/// What a request that wants to be stored gives to be kept.
#[derive(Debug, Deserialize)]
pub struct Wish {
    messages: Vec<Value>,
    metadata: Option<Map<String, Value>>,
}

/// A completion with the notes about it; its other members are those of any completion.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = StoredChatCompletion)]
struct Stored {
    #[schema(value_type = HashMap<String, String>)]
    metadata: Map<String, Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    completion: Map<String, Value>,
}

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    stored: Stored,
    messages: Vec<Value>,
}

/// A message with a name of its own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredChatMessage)]
struct Message {
    id: String,
    #[serde(flatten)]
    #[schema(ignore)]
    message: Value,
}

impl Wish {
    /// Reads what is to be kept; refuses what is too much.
    pub fn read(members: &Members) -> Result<Self> {
        let wish: Self = members.part()?;
        check_notes(wish.metadata.as_ref())?;
        let bytes = serde_json::to_string(&wish.messages).map_or(usize::MAX, |text| text.len());
        if bytes > MESSAGES_BYTES_MAX {
            let message =
                format!("The messages are {bytes} bytes; with 'store' they are {MESSAGES_BYTES_MAX} at most.");
            return Err(Error::invalid("store", message));
        }
        Ok(wish)
    }

    /// Passes events on; before the last, keeps the whole answer, so that a client that has heard of its end finds it.
    pub fn keeping<E>(
        self,
        events: E,
        client: Client,
        frame: Frame,
        choices: u16,
    ) -> impl Stream<Item = Result<Event>> + Send + Unpin + 'static
    where
        E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
    {
        let start = (events, Answer::of(choices), Some((self, client, frame)));
        Box::pin(stream::unfold(start, |(mut events, mut answer, mut keep)| async move {
            let mut event = events.next().await?;
            if let Ok(event) = &event {
                answer.absorb(event.clone());
            }
            if matches!(event, Ok(Event::Finished(_)))
                && let Some((wish, client, frame)) = keep.take()
                && let Err(error) = wish.keep(&client, frame.completion(std::mem::take(&mut answer))).await
            {
                event = Err(error.param("store"));
            }
            Some((event, (events, answer, keep)))
        }))
    }

    async fn keep(self, client: &Client, completion: Completion<ChatChoice>) -> Result<()> {
        let id = completion.id.clone();
        let shaped = serde_json::to_value(completion).map_err(|error| Error::internal(error.to_string()))?;
        let Value::Object(completion) = shaped else { return Err(Error::internal("a completion is an object")) };
        let stored = Stored { metadata: self.metadata.unwrap_or_default(), completion };
        Kept { stored, messages: self.messages }.keep(client, &id, Some(0)).await
    }
}

impl Kept {
    async fn find(client: &Client, id: &str) -> Result<(u64, Self)> {
        let (card, kept) = find(client, Collection::Completions, "stored completion", id).await?;
        Ok((card.version, kept))
    }

    async fn keep(&self, client: &Client, id: &str, replaces: Option<u64>) -> Result<()> {
        // Lists can be of one model; a name that is too long for a label is looked up in what was kept.
        let label = self.stored.completion["model"].as_str().filter(|model| model.len() <= 128).unwrap_or_default();
        put(client, Collection::Completions, id, label.to_owned(), self, replaces, TTL_SECONDS).await.map(drop)
    }
}

type Replied<T> = std::result::Result<T, HttpError>;

#[derive(Debug, Deserialize, IntoParams)]
#[expect(dead_code, reason = "only the document reads it: a query may hold notes under any name")]
struct PageQuery {
    model: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    /// `asc`, the oldest first, or `desc`.
    order: Option<String>,
}

async fn list(
    State(bridge): State<Arc<Bridge>>,
    query: std::result::Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Replied<Json<Listed<Stored>>> {
    let wanted = Wanted::read(body::query(query)?)?;
    let client = bridge.daemon.client().await?;
    let mut cards = cards(&client, Collection::Completions).await?;
    if wanted.order == Order::Asc {
        cards.reverse();
    }
    let cards = cards.into_iter().map(|card| (card.id, ())).collect();
    let (cards, _) = page(cards, wanted.after.as_deref(), usize::MAX, usize::MAX)?;
    let (mut found, mut more) = (Vec::new(), false);
    for (id, ()) in cards {
        let kept = match Kept::find(&client, &id).await {
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            kept => kept?.1,
        };
        if wanted.fits(&kept.stored) {
            more = found.len() == wanted.limit;
            if more {
                break;
            }
            found.push((id, kept.stored));
        }
    }
    Ok(Json(Listed::new(found, more)))
}

/// Which completions a list is of.
#[derive(Debug, PartialEq)]
struct Wanted {
    model: Option<String>,
    after: Option<String>,
    limit: usize,
    order: Order,
    notes: Vec<(String, String)>,
}

impl Wanted {
    fn read(query: Vec<(String, String)>) -> Result<Self> {
        let mut wanted = Self { model: None, after: None, limit: PAGE, order: Order::Asc, notes: Vec::new() };
        for (name, value) in query {
            let note = name.strip_prefix("metadata[").and_then(|name| name.strip_suffix(']'));
            match (name.as_str(), note) {
                (_, Some(note)) => wanted.notes.push((note.to_owned(), value)),
                ("model", _) => wanted.model = Some(value),
                ("after", _) => wanted.after = Some(value),
                ("limit", _) => wanted.limit = limit(&value)?,
                ("order", _) => wanted.order = Order::read(Some(&value))?.unwrap_or(wanted.order),
                _ => {
                    let message = format!("The query's '{name}' is not supported here.");
                    return Err(Error::unsupported(name, message));
                }
            }
        }
        Ok(wanted)
    }

    fn fits(&self, stored: &Stored) -> bool {
        let of_model = self.model.as_ref().is_none_or(|model| stored.completion["model"] == **model);
        of_model
            && self.notes.iter().all(|(name, value)| stored.metadata.get(name).is_some_and(|note| *note == **value))
    }
}

fn limit(text: &str) -> Result<usize> {
    text.parse()
        .ok()
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| Error::invalid("limit", format!("'limit' is {text}; it is from 1 to {PAGE_MAX}.")))
}

async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Replied<Json<Stored>> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    Ok(Json(Kept::find(&client, &id).await?.1.stored))
}

const CHANGE: &[&[&str]] = &[&["metadata"]];

#[derive(Debug, Deserialize, ToSchema)]
struct Change {
    #[schema(value_type = HashMap<String, String>)]
    metadata: Map<String, Value>,
}

async fn change(State(bridge): State<Arc<Bridge>>, id: PathId, body: Bytes) -> Replied<Json<Stored>> {
    let Change { metadata } = Members::read(&body, CHANGE)?.part()?;
    check_notes(Some(&metadata))?;
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    let (version, mut kept) = Kept::find(&client, &id).await?;
    kept.stored.metadata = metadata;
    kept.keep(&client, &id, Some(version)).await?;
    Ok(Json(kept.stored))
}

async fn delete(State(bridge): State<Arc<Bridge>>, id: PathId) -> Replied<Json<Deleted>> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    Kept::find(&client, &id).await?;
    client.forget(RecordId { collection: Collection::Completions, id: id.clone() }).await?;
    Ok(Json(Deleted::new(id, "chat.completion.deleted")))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct MessagesQuery {
    after: Option<String>,
    limit: Option<usize>,
    /// `asc`, the first one first, or `desc`.
    order: Option<String>,
}

async fn messages(
    State(bridge): State<Arc<Bridge>>,
    id: PathId,
    query: std::result::Result<Query<MessagesQuery>, QueryRejection>,
) -> Replied<Json<Listed<Message>>> {
    let (id, MessagesQuery { after, limit, order }) = (path_id(id)?, body::query(query)?);
    let kept = Kept::find(&bridge.daemon.client().await?, &id).await?.1;
    let named = |(at, message)| {
        let id = format!("{id}-{at}");
        (id.clone(), Message { id, message })
    };
    let mut messages: Vec<_> = kept.messages.into_iter().enumerate().map(named).collect();
    if Order::read(order.as_deref())? == Some(Order::Desc) {
        messages.reverse();
    }
    let (messages, more) = page(messages, after.as_deref(), limit.unwrap_or(PAGE), PAGE_MAX)?;
    Ok(Json(Listed::new(messages, more)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<Wanted> {
        Wanted::read(query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_list_is_of_a_model_and_of_notes() {
        let stored = |model: &str, topic: &str| Stored {
            metadata: json!({ "topic": topic }).as_object().unwrap().clone(),
            completion: json!({ "model": model }).as_object().unwrap().clone(),
        };
        let wanted = read(&[("model", "m"), ("metadata[topic]", "a"), ("order", "desc"), ("limit", "5")]).unwrap();
        assert_eq!((wanted.order, wanted.limit), (Order::Desc, 5));
        let fits = [("m", "a"), ("m", "b"), ("n", "a")].map(|(model, topic)| wanted.fits(&stored(model, topic)));
        assert_eq!(fits, [true, false, false]);
        for (name, value) in [("limit", "0"), ("limit", "x"), ("order", "up"), ("telepathy", "1")] {
            assert_eq!(read(&[(name, value)]).unwrap_err().param.as_deref(), Some(name));
        }
    }
}
