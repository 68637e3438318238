//! `/v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::generation::{Prompt, Usage};
use protocol::text::{Special, TokenizeRequest};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::error::{AnthropicError, named};
use super::labels::Labels;
use super::request::{OWN, Own, SHARED, Shared};
use super::response::{Message, UsageBody, blocks, stop_reason};
use super::stream;
use crate::answer::gather;
use crate::app::Bridge;
use crate::begin::{Begun, begin};
use crate::body::Members;
use crate::ids::new_id;
use crate::openapi::{EVENTS, Operation, Routes, part};
use crate::sse;

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let conversation = json!([{ "role": "user", "content": "What is Impetus?" }]);
    let create = Operation::new("Answer a conversation")
        .more(
            "`max_tokens` beyond the context is cut to what the context leaves; a prompt is never cut. The answer goes on \
             with a last message of the assistant, and holds only what follows.",
        )
        .takes(
            "MessageRequest",
            CREATE,
            [part::<Shared>(), part::<Own>(), part::<Labels>()],
            json!({
                "model": "impetus-nano", "max_tokens": 64, "messages": conversation
            }),
        )
        .gives::<Message>("The answer, whole, or event by event where `stream` is true.")
        .streams::<sse::Typed>(EVENTS);
    let count = Operation::new("Count the tokens of a conversation without answering it")
        .takes(
            "TokenCountRequest",
            COUNT,
            [part::<Shared>(), part::<Labels>()],
            json!({
                "model": "impetus-nano", "messages": conversation
            }),
        )
        .gives::<Count>("How many tokens the prompt has.");
    Routes::new("Anthropic").post("/v1/messages", self::create, create).post(
        "/v1/messages/count_tokens",
        count_tokens,
        count,
    )
}

/// The members of a request, and of a question for its length.
pub const CREATE: &[&[&str]] = &[SHARED, OWN];
const COUNT: &[&[&str]] = &[SHARED];

/// How long a prompt is.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenCount)]
struct Count {
    input_tokens: usize,
}

/// Answers a conversation, whole or streamed.
async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, AnthropicError> {
    Ok(named(answer(&bridge, body).await?))
}

async fn answer(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let members = Members::read(&body, CREATE)?;
    Labels::check(&members)?;
    let own: Own = members.part()?;
    let streams = own.streams();
    let shared: Shared = members.part()?;
    // Nothing of it is held while a model answers.
    drop((members, body));
    let display = shared.display();
    let request = own.request(shared)?;
    let client = bridge.daemon.client().await?;
    // On the heap: it is long, and lives in the futures of all who wait for it.
    let begin = Box::pin(async move {
        let Begun { started, events, capped } = begin(&client, request).await?;
        let usage = Usage { prompt_tokens: started.prompt_tokens, ..Usage::default() };
        let message = Message {
            id: new_id("msg_"),
            r#type: "message",
            role: "assistant",
            model: started.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: UsageBody::of(usage, None),
        };
        Ok((message, events, capped))
    });
    if streams {
        return stream::respond(begin, display).await;
    }
    let (mut message, events, capped) = begin.await?;
    let mut answer = gather(events, 1).await?;
    message.usage = UsageBody::of(answer.usage, answer.missed);
    let choice = answer.choices.pop().unwrap_or_default();
    message.stop_reason = choice.reason.map(|reason| stop_reason(reason, choice.stop_string.as_deref(), capped));
    message.stop_sequence = choice.stop_string.clone();
    message.content = blocks(choice, display);
    Ok(Json(message).into_response())
}

/// Reads the conversation that is to be counted.
pub fn counted(body: &Bytes) -> Result<TokenizeRequest, Error> {
    let members = Members::read(body, COUNT)?;
    Labels::check(&members)?;
    let shared: Shared = members.part()?;
    let (model, chat) = shared.chat(None)?;
    let prompt = Prompt::Chat(chat);
    Ok(TokenizeRequest { model: Some(model), prompt, special: Special::Parse, pieces: false })
}

/// Says how many tokens a conversation has, without answering it.
async fn count_tokens(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, AnthropicError> {
    let request = counted(&body)?;
    let tokens = bridge.daemon.client().await?.tokenize(request).await?.tokens;
    Ok(named(Json(Count { input_tokens: tokens.len() }).into_response()))
}
