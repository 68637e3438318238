//! `/v1/responses`: answers with a memory. A response goes on from an earlier one by its id, may be made in the
//! background, and can be read, cancelled and deleted later.
//!
//! `request`, `input` and `query` read what clients send, `object` is what they receive, `writer` makes it from events,
//! whole or streamed; `tools` are the functions that it may call, `kept` is what the daemon keeps of it, `background` the
//! work that goes on after its request was answered.
//!
//! What clients may rely on: a response is kept for 30 days unless `store` is false, one that streams when it is
//! complete. Tools that this bridge would have to run have no name and are ignored, because coding agents send them to every
//! server; those with a name that are called with free text are refused, because a model would call them. Only functions,
//! those of namespaces too, are offered to the model, and only those are named in the response. `instructions` hold for one
//! response.

pub mod background;
pub mod input;
pub mod kept;
pub mod object;
pub mod query;
pub mod request;
pub mod tools;
pub mod writer;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response as HttpResponse};
use futures::StreamExt;
use protocol::client::Client;
use protocol::generation::GenerateRequest;
use protocol::text::{Special, TokenizeRequest};
use protocol::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use self::kept::{Keeping, Stored};
use self::request::Asked;
use self::writer::Builder;
use super::labels::Labels;
use super::list::{Deleted, Listed, Order, page};
use super::request::{Shared, in_our_words, rename};
use crate::app::Bridge;
use crate::begin::{Begun, begin};
use crate::body::{PathId, path_id};
use crate::error::HttpError;
use crate::frames::{Writer, frames};
use crate::openapi::{EVENTS, Operation, Routes, part};
use crate::sse;

/// The most items of one page.
const PAGE_MAX: usize = 100;

/// Items of a page whose size is not said.
const PAGE: usize = 20;

/// Returns the routes of this module, relative to `/v1`.
pub fn routes() -> Routes {
    let id = "The response's id.";
    let make = Operation::new("Make a response")
        .more("It is kept for 30 days, so that another can go on from it, unless `store` is false.")
        .takes(
            "ResponseRequest",
            request::KNOWN,
            [part::<request::Body>(), part::<Shared>(), part::<Labels>()],
            json!({
                "model": "impetus-nano", "input": "What is Impetus?", "max_output_tokens": 64
            }),
        )
        .gives::<object::Response>("The response, whole, or event by event where `stream` is true.")
        .streams::<sse::Typed>(EVENTS);
    let count = Operation::new("Count the tokens of what a response would answer")
        .takes(
            "ResponseCountRequest",
            request::COUNT,
            [part::<request::Body>()],
            json!({ "model": "impetus-nano", "input": "What is Impetus?" }),
        )
        .gives::<Count>("How many they are.");
    let show = Operation::new("Show a response")
        .path("id", id)
        .query::<query::Show>()
        .gives::<object::Response>("The response, or its events where `stream` is true.")
        .streams::<sse::Typed>(EVENTS);
    let delete = Operation::new("Delete a response").path("id", id).gives::<Deleted>("It is gone.");
    let cancel = Operation::new("Cancel a response that is made in the background")
        .path("id", id)
        .gives::<object::Response>("The response as it is now.");
    let items = Operation::new("List what a response answers")
        .path("id", id)
        .query::<query::Page>()
        .gives_of::<Listed<Value>, Value>("InputItems", "A page of items, the latest first unless `order` is `asc`.");
    Routes::new("OpenAI")
        .post("/responses", create, make)
        .post("/responses/input_tokens", count_tokens, count)
        .get("/responses/{id}", self::show, show)
        .delete("/responses/{id}", self::delete, delete)
        .post("/responses/{id}/cancel", self::cancel, cancel)
        .get("/responses/{id}/input_items", input_items, items)
}

/// Makes a response: whole, streamed, or in the background.
pub async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> std::result::Result<HttpResponse, HttpError> {
    answer(&bridge, body).await.map_err(|error| named(error).into())
}

/// How long a prompt is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseInputTokens)]
struct Count {
    object: &'static str,
    input_tokens: usize,
}

/// Says how many tokens a response would answer, without making it.
async fn count_tokens(State(bridge): State<Arc<Bridge>>, body: Bytes) -> std::result::Result<Json<Count>, HttpError> {
    let counted = async {
        let client = bridge.daemon.client().await?;
        let GenerateRequest { model, prompt, .. } =
            Asked::read(&body, request::COUNT, &client, &bridge.background).await?.request;
        client.tokenize(TokenizeRequest { model, prompt, special: Special::Parse, pieces: false }).await
    };
    let input_tokens = counted.await.map_err(named)?.tokens.len();
    Ok(Json(Count { object: "response.input_tokens", input_tokens }))
}

/// Returns the daemon's refusal with the field at fault under this endpoint's name.
pub fn named(error: Error) -> Error {
    let mut error = in_our_words(error);
    rename(&mut error, |param| match param {
        "max_tokens" => Some("max_output_tokens"),
        "enable_thinking" => Some("reasoning.effort"),
        "messages" => Some("input"),
        "response_format" => Some("text.format"),
        _ => None,
    });
    error
}

/// Answers the request of `body`.
pub async fn answer(bridge: &Bridge, body: Bytes) -> Result<HttpResponse> {
    let client = bridge.daemon.client().await?;
    let asked = Asked::read(&body, request::KNOWN, &client, &bridge.background).await?;
    // Nothing of it is held while a model answers.
    drop(body);
    if asked.background {
        let streams = asked.streams;
        let (id, log) = bridge.background.start(client.clone(), asked).await?;
        return match streams {
            true => Ok(sse::response(log.frames(0))),
            false => Ok(Json(Stored::find(&client, &id).await?.response).into_response()),
        };
    }
    let Asked { request, response, stored, streams, .. } = asked;
    if streams {
        return streamed(client, request, response, stored).await;
    }
    let Begun { started, mut events, .. } = begin(&client, request).await?;
    let mut builder = Builder::new(response, started.model, false);
    let response = builder.read_all(&mut events).await?;
    if let Some(stored) = stored {
        stored.keep(&client, response, None).await?;
    }
    Ok(Json(response).into_response())
}

/// Answers with the events of a response as it is made.
async fn streamed(
    client: Client,
    request: GenerateRequest,
    response: object::Response,
    stored: Option<Keeping>,
) -> Result<HttpResponse> {
    let late = response.clone();
    let begin = async move {
        let Begun { started, events, .. } = begin(&client, request).await?;
        let mut builder = Builder::new(response, started.model, true);
        let (opening, outcome) = (builder.opening(), builder.outcome());
        // What is kept is kept before the client hears that it is complete: it may ask for it at once.
        Ok(frames(opening, events, builder).then(move |frame| {
            let (client, stored) = (client.clone(), stored.clone());
            let done = outcome.take();
            async move {
                if let (Some(response), Some(stored)) = (done, stored)
                    && let Err(error) = stored.keep(&client, &response, None).await
                {
                    tracing::error!(%error, "a response could not be kept");
                }
                frame
            }
        }))
    };
    let failed = move |error| {
        let model = late.model.clone();
        let mut builder = Builder::new(late, model, true);
        [builder.opening(), builder.failed(&named(error))].concat().into()
    };
    sse::begun(sse::heartbeat(), begin, failed).await
}

async fn show(
    State(bridge): State<Arc<Bridge>>,
    id: PathId,
    query: query::Sent,
) -> std::result::Result<HttpResponse, HttpError> {
    let (id, query) = (path_id(id)?, query::Show::read(query)?);
    let client = bridge.daemon.client().await?;
    let stored = bridge.background.look(&client, &id).await?;
    if !query.stream.unwrap_or(false) {
        return Ok(Json(stored.response).into_response());
    }
    let Some(log) = bridge.background.log(&id) else {
        let message =
            "Only a response made with 'background' can be streamed again, while it is made and for a while after.";
        return Err(Error::unsupported("stream", message).hint("Leave 'stream' out.").into());
    };
    Ok(sse::response(log.frames(query.starting_after.map_or(0, |last| last.saturating_add(1)))))
}

async fn delete(State(bridge): State<Arc<Bridge>>, id: PathId) -> std::result::Result<Json<Deleted>, HttpError> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    Stored::find(&client, &id).await?;
    bridge.background.end(&id).await;
    kept::forget(&client, &id).await?;
    Ok(Json(Deleted::new(id, "response")))
}

async fn cancel(State(bridge): State<Arc<Bridge>>, id: PathId) -> std::result::Result<Json<Value>, HttpError> {
    let (id, client) = (path_id(id)?, bridge.daemon.client().await?);
    let stored = Stored::find(&client, &id).await?;
    if stored.response["background"] != true {
        let message = "Only a response made with 'background' can be cancelled.";
        return Err(Error::unsupported("id", message).hint("Close the connection instead.").into());
    }
    Ok(Json(bridge.background.cancel(&client, &id).await?.response))
}

async fn input_items(
    State(bridge): State<Arc<Bridge>>,
    id: PathId,
    query: query::Sent,
) -> std::result::Result<Json<Listed<Value>>, HttpError> {
    let (id, query) = (path_id(id)?, query::Page::read(query)?);
    let stored = Stored::find(&bridge.daemon.client().await?, &id).await?;
    let named = |item: Value| (item["id"].as_str().unwrap_or_default().to_owned(), item);
    let mut items: Vec<_> = stored.input.into_iter().map(named).collect();
    if Order::read(query.order.as_deref())? != Some(Order::Asc) {
        items.reverse();
    }
    let (items, more) = page(items, query.after.as_deref(), query.limit.unwrap_or(PAGE), PAGE_MAX)?;
    Ok(Json(Listed::new(items, more)))
}
