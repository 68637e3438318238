//! `/v1/completions`: raw prompts, no chat template.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::generation::{ChoiceFinished, Delta, GenerateRequest, Prompt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Choice, gather};
use super::chunks::{self, Header, Shape};
use super::request::{SHARED, Shared, accept_only, in_our_words};
use super::response::{Completion, TextLogprobs, finish_reason};
use crate::app::Bridge;
use crate::body::Members;
use crate::daemon::{answer_id, unix_seconds};
use crate::error::HttpError;

/// OpenAI's default for this endpoint.
const MAX_TOKENS: u32 = 16;

const OWN: &[&str] = &["prompt", "logprobs", "echo", "best_of"];

#[derive(Debug, Deserialize)]
struct Own {
    prompt: PromptBody,
    logprobs: Option<u8>,
    echo: Option<Value>,
    best_of: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PromptBody {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

/// Continues a prompt, whole or streamed.
pub async fn complete(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    answer(&bridge, &body).await.map_err(|error| in_our_words(error).into())
}

async fn answer(bridge: &Bridge, body: &Bytes) -> Result<Response, Error> {
    let members = Members::read(body, &[SHARED, OWN])?;
    let shared: Shared = members.part()?;
    let own: Own = members.part()?;
    let streaming = shared.streaming()?;
    let choices = shared.choices();
    let request = request(shared, own)?;
    let with_logprobs = request.logprobs.is_some();
    let events = bridge.daemon.client().await?.generate(request).await?;
    let (id, created) = (answer_id("cmpl-"), unix_seconds());
    if let Some(include_usage) = streaming {
        let header = Header { id, object: "text_completion", created, include_usage };
        let shape = TextShape { with_logprobs, written: vec![0; usize::from(choices)] };
        return chunks::respond(events, header, shape).await;
    }
    let answer = gather(events, choices).await?;
    let choices = answer.choices.into_iter().enumerate();
    Ok(Json(Completion {
        id,
        object: "text_completion",
        created,
        model: answer.model,
        choices: choices.map(|(index, choice)| whole(index, choice, with_logprobs)).collect(),
        usage: Some(Some(answer.usage.into())),
        system_fingerprint: None,
    })
    .into_response())
}

fn request(shared: Shared, own: Own) -> Result<GenerateRequest, Error> {
    accept_only("echo", own.echo.as_ref(), &[json!(false)])?;
    accept_only("best_of", own.best_of.as_ref(), &[json!(shared.choices())])?;
    Ok(GenerateRequest {
        model: shared.model.clone(),
        prompt: prompt(own.prompt)?,
        sampling: shared.sampling()?,
        stop: {
            let mut stop = shared.stop(None);
            stop.max_tokens.get_or_insert(MAX_TOKENS);
            stop
        },
        logprobs: own.logprobs,
        choices: shared.choices(),
        priority: shared.priority(),
        deadline_ms: None,
    })
}

fn prompt(body: PromptBody) -> Result<Prompt, Error> {
    match body {
        PromptBody::Text(text) => Ok(Prompt::Text(text)),
        PromptBody::Tokens(tokens) => Ok(Prompt::Tokens(tokens)),
        PromptBody::Texts(mut texts) if texts.len() == 1 => Ok(Prompt::Text(texts.swap_remove(0))),
        PromptBody::TokenLists(mut lists) if lists.len() == 1 => Ok(Prompt::Tokens(lists.swap_remove(0))),
        PromptBody::Texts(_) | PromptBody::TokenLists(_) => {
            Err(Error::new(protocol::ErrorKind::Unsupported, "Several prompts in one request are not supported yet.")
                .hint("Send one request per prompt; they share the model anyway.")
                .param("prompt"))
        }
    }
}

/// One choice, whole or in part.
#[derive(Debug, Serialize)]
struct TextChoice {
    index: usize,
    text: String,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}

fn whole(index: usize, choice: Choice, with_logprobs: bool) -> TextChoice {
    TextChoice {
        index,
        text: choice.reasoning + &choice.text,
        logprobs: with_logprobs.then(|| TextLogprobs::new(&choice.logprobs, 0)),
        finish_reason: choice.reason.map(finish_reason),
    }
}

struct TextShape {
    with_logprobs: bool,
    /// Characters already sent, per choice.
    written: Vec<usize>,
}

impl Shape for TextShape {
    type Choice = TextChoice;

    fn opening(&mut self) -> Vec<TextChoice> {
        Vec::new()
    }

    fn more(&mut self, delta: Delta) -> Option<TextChoice> {
        let index = usize::from(delta.choice);
        let written = self.written.get_mut(index)?;
        let text = delta.reasoning + &delta.text;
        let logprobs =
            (self.with_logprobs && !delta.logprobs.is_empty()).then(|| TextLogprobs::new(&delta.logprobs, *written));
        *written += text.chars().count();
        (!text.is_empty() || logprobs.is_some()).then_some(TextChoice { index, text, logprobs, finish_reason: None })
    }

    fn complete(&mut self, finished: ChoiceFinished) -> TextChoice {
        let reason = Some(finish_reason(finished.reason));
        TextChoice { index: usize::from(finished.choice), text: String::new(), logprobs: None, finish_reason: reason }
    }
}
