//! `/v1/messages`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::generation::Usage;

use super::error::{AnthropicError, named};
use super::request::{Body, KNOWN};
use super::response::{Message, blocks, stop_reason};
use super::stream;
use crate::answer::gather;
use crate::app::Bridge;
use crate::begin::{Begun, begin};
use crate::body::Members;
use crate::daemon::answer_id;

/// Answers a conversation, whole or streamed.
pub async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, AnthropicError> {
    Ok(named(answer(&bridge, &body).await?))
}

async fn answer(bridge: &Bridge, body: &Bytes) -> Result<Response, Error> {
    let body: Body = Members::read(body, &[KNOWN])?.part()?;
    let streams = body.streams();
    let request = body.request()?;
    let Begun { started, events, capped } = begin(&bridge.daemon.client().await?, request).await?;
    let usage = Usage { prompt_tokens: started.prompt_tokens, ..Usage::default() };
    let mut message = Message {
        id: answer_id("msg_"),
        r#type: "message",
        role: "assistant",
        model: started.model,
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        usage: usage.into(),
    };
    if streams {
        return Ok(stream::respond(events, message, capped));
    }
    let mut answer = gather(events, 1).await?;
    message.usage = answer.usage.into();
    let choice = answer.choices.pop().unwrap_or_default();
    message.stop_reason = choice.reason.map(|reason| stop_reason(reason, choice.stop_string.as_deref(), capped));
    message.stop_sequence = choice.stop_string.clone();
    message.content = blocks(choice);
    Ok(Json(message).into_response())
}
