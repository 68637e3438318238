//! What the daemon keeps of a response: the object as it was last, and the items it answered.
//!
//! A response goes on from an earlier one by its id, so a conversation is read from its end back to its beginning. An
//! input may also refer to single items of earlier outputs, whose ids therefore hold that of their response. The bridge
//! remembers none of it.

use std::collections::HashMap;

use protocol::client::Client;
use protocol::generation::Json;
use protocol::record::{Collection, KeepRequest, RecordCard, RecordId};
use protocol::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::background::Background;
use super::object::Response;
use crate::ids::DIGITS;

/// For how long a response is kept.
const TTL_MS: u64 = 30 * 24 * 3600 * 1000;

/// The most responses that one goes on from.
const CHAIN_MAX: usize = 512;

/// The most items that an input refers to.
const REFERENCES_MAX: usize = 512;

/// How the id of a response begins.
const RESPONSE: &str = "resp_";

/// A response to be kept, with the items it answers.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The items.
    pub input: Vec<Value>,
}

impl Keeping {
    /// Keeps the response as it is now, in place of the version `replaces` or of whichever there is; returns its version.
    pub async fn keep(&self, client: &Client, response: &Response, replaces: Option<u64>) -> Result<u64> {
        #[derive(Serialize)]
        struct Body<'a> {
            response: &'a Response,
            input: &'a [Value],
        }
        let body = serde_json::to_string(&Body { response, input: &self.input });
        let body = body.map_err(|error| Error::internal(error.to_string()))?;
        put(client, &response.id, body, replaces).await.map_err(|error| error.param("store"))
    }
}

/// A response that was kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored {
    /// The object as it was last.
    pub response: Value,
    /// The items it answers.
    pub input: Vec<Value>,
    /// When it was kept, in milliseconds since 1970.
    #[serde(skip)]
    pub updated_unix_ms: i64,
    /// How often it was kept.
    #[serde(skip)]
    pub version: u64,
}

impl Stored {
    /// Whether it is still being made, as far as was kept.
    pub fn is_open(&self) -> bool {
        ["queued", "in_progress"].iter().any(|status| self.response["status"] == *status)
    }

    /// Finds a response by its id.
    pub async fn find(client: &Client, id: &str) -> Result<Self> {
        let record = client.recall(record_id(id)).await.map_err(|error| match error.kind {
            ErrorKind::NotFound | ErrorKind::Invalid => {
                Error::new(ErrorKind::NotFound, format!("There is no response '{id}'."))
                    .hint("It was not stored, was deleted, or has expired.")
                    .param("id")
            }
            _ => error,
        })?;
        let found: Self = serde_json::from_str(&record.body.0)
            .map_err(|error| Error::internal(format!("what was kept of '{id}' cannot be read: {error}")))?;
        let RecordCard { updated_unix_ms, version, .. } = record.card;
        Ok(Self { updated_unix_ms, version, ..found })
    }

    /// Keeps it, changed, unless somebody else kept it meanwhile; returns what is kept then.
    pub async fn replace(self, client: &Client, id: &str) -> Result<Self> {
        let body = serde_json::to_string(&self).map_err(|error| Error::internal(error.to_string()))?;
        match put(client, id, body, Some(self.version)).await {
            Ok(version) => Ok(Self { version, ..self }),
            Err(error) if error.kind == ErrorKind::Conflict => Self::find(client, id).await,
            Err(error) => Err(error),
        }
    }
}

async fn put(client: &Client, id: &str, body: String, replaces: Option<u64>) -> Result<u64> {
    let RecordId { collection, id } = record_id(id);
    let ttl_ms = Some(TTL_MS);
    let request = KeepRequest { collection, id, label: String::new(), body: Json(body), replaces, ttl_ms };
    Ok(client.keep(request).await?.version)
}

/// Forgets a response.
pub async fn forget(client: &Client, id: &str) -> Result<()> {
    client.forget(record_id(id)).await
}

fn record_id(id: &str) -> RecordId {
    RecordId { collection: Collection::Answers, id: id.to_owned() }
}

/// Returns the id of a response's item, by which both can be found.
pub fn item_id(prefix: &str, response: &str, place: usize) -> String {
    format!("{prefix}{}{place:02x}", response.strip_prefix(RESPONSE).unwrap_or(response))
}

/// Returns the response that an item belongs to, by the item's id.
fn response_of(item: &str) -> Option<String> {
    let (_, rest) = item.split_once('_')?;
    Some(format!("{RESPONSE}{}", rest.get(..DIGITS)?))
}

/// Whether an item stands for another: it says so, or says nothing but an id.
fn is_reference(item: &Value) -> bool {
    let Some(members) = item.as_object() else { return false };
    match members.get("type").and_then(Value::as_str) {
        Some(kind) => kind == "item_reference",
        None => item["id"].is_string() && members.values().filter(|value| !value.is_null()).count() == 1,
    }
}

/// Puts the items that an input refers to in place of the references.
pub async fn dereference(client: &Client, input: &mut Value) -> Result<()> {
    let mut found: HashMap<String, Stored> = HashMap::new();
    let items = input.as_array_mut().into_iter().flatten().enumerate();
    for (count, (at, item)) in items.filter(|(_, item)| is_reference(item)).enumerate() {
        let at = format!("input[{at}]");
        if count == REFERENCES_MAX {
            return Err(Error::invalid(at, format!("'input' refers to more than {REFERENCES_MAX} items.")));
        }
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let missing = || {
            Error::new(ErrorKind::NotFound, format!("'{at}' refers to the item '{id}', which is not kept."))
                .hint("Send the item itself.")
                .param(&at)
        };
        let response = response_of(&id).ok_or_else(missing)?;
        if !found.contains_key(&response) {
            let stored = Stored::find(client, &response).await.map_err(|error| match error.kind {
                ErrorKind::NotFound => missing(),
                _ => error,
            })?;
            found.insert(response.clone(), stored);
        }
        let output = found.get(&response).and_then(|stored| stored.response["output"].as_array());
        let kept = output.into_iter().flatten().find(|kept| kept["id"] == id.as_str());
        *item = kept.cloned().ok_or_else(missing)?;
    }
    Ok(())
}

/// Returns the items of a conversation up to a response, oldest first.
pub async fn history(client: &Client, background: &Background, last: Option<String>) -> Result<Vec<Value>> {
    let at_fault = |error: Error| error.param("previous_response_id");
    let mut responses: Vec<Stored> = Vec::new();
    let mut next = last;
    while let Some(id) = next {
        if responses.len() == CHAIN_MAX {
            let message = format!("The conversation has more than {CHAIN_MAX} responses.");
            return Err(at_fault(Error::new(ErrorKind::Unsupported, message).hint("Begin a new one.")));
        }
        let stored = background.look(client, &id).await.map_err(|error| match (error.kind, responses.last()) {
            // The path is right, and what the body says is not: only a response's own path is not found.
            (ErrorKind::NotFound, None) => at_fault(Error { kind: ErrorKind::Invalid, ..error }),
            (ErrorKind::NotFound, Some(after)) => at_fault(broken_off(&after.response)),
            _ => at_fault(error),
        })?;
        if stored.is_open() {
            return Err(at_fault(Error::new(ErrorKind::Conflict, format!("'{id}' is still being made."))));
        }
        next = stored.response["previous_response_id"].as_str().map(str::to_owned);
        responses.push(stored);
    }
    let mut items = Vec::new();
    for Stored { mut response, input, .. } in responses.into_iter().rev() {
        items.extend(input);
        items.extend(response["output"].as_array_mut().map(std::mem::take).unwrap_or_default());
    }
    Ok(items)
}

/// Says that what a response goes on from is gone; whoever asks may never have heard of that one's name.
fn broken_off(after: &Value) -> Error {
    let id = after["id"].as_str().unwrap_or_default();
    Error::new(ErrorKind::Invalid, format!("The response '{id}' goes on from one that was deleted or has expired."))
        .hint("Send the conversation itself as 'input'.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::new_id;

    #[test]
    fn a_reference_says_so_or_says_only_an_id() {
        for item in [
            json!({"type": "item_reference", "id": "msg_1"}),
            json!({"id": "msg_1"}),
            json!({"id": "msg_1", "type": null}),
        ] {
            assert!(is_reference(&item), "{item}");
        }
        for item in [
            json!({"id": "msg_1", "role": "user"}),
            json!({"type": "message"}),
            json!({"id": 1}),
            json!({}),
            json!("msg_1"),
        ] {
            assert!(!is_reference(&item), "{item}");
        }
    }

    #[test]
    fn an_item_says_which_response_it_belongs_to() {
        let response = new_id(RESPONSE);
        for (prefix, place) in [("msg_", 0), ("fc_", 7), ("rs_", 1000)] {
            assert_eq!(response_of(&item_id(prefix, &response, place)), Some(response.clone()));
        }
        for none in ["", "msg_", "msg_1234", "resp", "msg_aéééééééééééééééééé"] {
            assert_eq!(response_of(none), None, "{none}");
        }
    }
}
