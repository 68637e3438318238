//! Answers as Ollama's clients read them: one object a line while it is made, or one object for all of it.
//!
//! Tool calls are sent whole, because this dialect knows no half ones. The last line carries why the answer ended, the
//! token counts and the durations, in nanoseconds.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use futures::stream;
use protocol::client::Client;
use protocol::generation::{
    Delta, FinishReason, Finished, GenerateRequest, Message, Role, TokenLogprob, ToolCallDelta,
};
use protocol::transcript::Event;
use protocol::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::context;
use super::error::body;
use super::request::{Shared, keep, load};
use crate::answer::{Choice, gather, join};
use crate::begin::{Begun, begin};
use crate::frames::{Writer, frames};
use crate::ndjson::{bytes, respond};
use crate::time::from_now;

/// Which endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/api/chat`: answers are messages.
    Chat,
    /// `/api/generate`: answers are responses.
    Generate,
}

/// How an answer is to be sent.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Which endpoint answers.
    pub kind: Kind,
    /// Whether line by line.
    pub streams: bool,
    /// How long the model stays afterwards, if the request says so.
    pub keep: Option<Duration>,
    /// When the request came.
    pub arrived: Instant,
    /// The turns before the answer, where both are given back.
    pub turns: Option<Vec<Message>>,
}

impl Manner {
    /// How `kind` answers a request that came at `arrived`.
    pub fn new(kind: Kind, shared: &Shared, arrived: Instant) -> Result<Self> {
        Ok(Self { kind, streams: shared.streams(), keep: shared.keep_alive()?, arrived, turns: None })
    }
}

/// One line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaAnswer)]
pub struct Line {
    model: String,
    created_at: String,
    #[serde(flatten)]
    said: Said,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Logprob>,
    done: bool,
    #[serde(flatten)]
    end: Option<End>,
}

/// A token and its alternatives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaLogprob)]
struct Logprob {
    #[serde(flatten)]
    token: Token,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_logprobs: Vec<Token>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaTokenLogprob)]
struct Token {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl From<TokenLogprob> for Logprob {
    fn from(entry: TokenLogprob) -> Self {
        let token = |bytes: Vec<u8>, logprob: f32| Token {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            // JSON has no infinity.
            logprob: logprob.max(-9999.0),
            bytes,
        };
        let top_logprobs = entry.top.into_iter().map(|(_, bytes, logprob)| token(bytes, logprob)).collect();
        Self { token: token(entry.bytes, entry.logprob), top_logprobs }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaSaid)]
#[serde(untagged)]
enum Said {
    Chat {
        message: MessageBody,
    },
    Generate {
        response: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        thinking: String,
    },
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaAnswerMessage)]
struct MessageBody {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaAnswerCall)]
struct CallBody {
    id: String,
    function: CalledBody,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaAnswerCalled)]
struct CalledBody {
    index: u16,
    name: String,
    arguments: Value,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaEnd)]
struct End {
    #[schema(required = false)]
    done_reason: &'static str,
    /// What has the conversation go on, if it is sent with the next prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Vec<u32>>,
    #[serde(flatten)]
    figures: Option<Figures>,
}

/// Counts and nanoseconds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaFigures)]
struct Figures {
    #[schema(required = false)]
    total_duration: u128,
    #[schema(required = false)]
    load_duration: u128,
    #[schema(required = false)]
    prompt_eval_count: u32,
    #[schema(required = false)]
    prompt_eval_duration: u64,
    #[schema(required = false)]
    eval_count: u32,
    #[schema(required = false)]
    eval_duration: u64,
}

/// Asks the model and sends its answer.
pub async fn answer(client: &Client, request: GenerateRequest, manner: Manner) -> Result<Response> {
    let Begun { started, events, .. } = begin(client, request).await?;
    keep(client, &started.model, manner.keep).await?;
    let loading = manner.arrived.elapsed();
    let mut writer = Lines::new(manner, started.model, loading);
    if writer.manner.streams {
        return Ok(respond(frames(Bytes::new(), events, writer)));
    }
    let mut answer = gather(events, 1).await?;
    let choice = answer.choices.pop().unwrap_or_default();
    writer.reason = choice.reason.unwrap_or(FinishReason::Stop);
    writer.said.clone_from(&choice.text);
    let end = writer.end(&Finished { usage: answer.usage, timing: answer.timing, ..Finished::default() });
    Ok(Json(writer.line(choice, Some(end))).into_response())
}

/// Answers a request that asks nothing: it brings the model into memory, or takes it out.
pub async fn only_load(client: &Client, model: String, manner: Manner) -> Result<Response> {
    let done_reason = if manner.keep == Some(Duration::ZERO) {
        client.unload(&model).await?;
        "unload"
    } else {
        load(client, &model, manner.keep).await?;
        "load"
    };
    let loading = manner.arrived.elapsed();
    let writer = Lines::new(manner, model, loading);
    let line = writer.line(Choice::default(), Some(End { done_reason, context: None, figures: None }));
    if writer.manner.streams {
        return Ok(respond(stream::iter([bytes(&line)])));
    }
    Ok(Json(line).into_response())
}

struct Lines {
    manner: Manner,
    model: String,
    /// From the request's arrival until its prompt was accepted.
    loading: Duration,
    calls: Vec<ToolCallDelta>,
    reason: FinishReason,
    /// The answer so far, where it is given back.
    said: String,
}

impl Lines {
    fn new(manner: Manner, model: String, loading: Duration) -> Self {
        Self { manner, model, loading, calls: Vec::new(), reason: FinishReason::Stop, said: String::new() }
    }

    fn line(&self, choice: Choice, end: Option<End>) -> Line {
        let Choice { text, reasoning: thinking, tool_calls: calls, logprobs, .. } = choice;
        let said = match self.manner.kind {
            Kind::Chat => {
                let tool_calls = calls.into_iter().map(call_body).collect();
                Said::Chat { message: MessageBody { role: "assistant", content: text, thinking, tool_calls } }
            }
            Kind::Generate => Said::Generate { response: text, thinking },
        };
        let created_at = from_now(Duration::ZERO);
        let logprobs = logprobs.into_iter().map(Logprob::from).collect();
        Line { model: self.model.clone(), created_at, said, logprobs, done: end.is_some(), end }
    }

    fn end(&self, finished: &Finished) -> End {
        let Finished { usage, timing, .. } = finished;
        let done_reason = match self.reason {
            FinishReason::Stop | FinishReason::ToolCalls => "stop",
            FinishReason::Length => "length",
        };
        let figures = Figures {
            total_duration: self.manner.arrived.elapsed().as_nanos(),
            load_duration: self.loading.as_nanos(),
            prompt_eval_count: usage.prompt_tokens,
            prompt_eval_duration: timing.prefill_us.saturating_mul(1_000),
            eval_count: usage.completion_tokens,
            eval_duration: timing.decode_us.saturating_mul(1_000),
        };
        let context = self.manner.turns.as_ref().map(|turns| {
            let answer = Message::new(Role::Assistant, self.said.as_str());
            context::write(&[turns.as_slice(), &[answer]].concat())
        });
        End { done_reason, context, figures: Some(figures) }
    }
}

impl Writer for Lines {
    fn event(&mut self, event: Event) -> Bytes {
        match event {
            Event::Delta(delta) => {
                delta.tool_calls.into_iter().for_each(|call| join(&mut self.calls, call));
                let Delta { text, reasoning, logprobs, .. } = delta;
                if text.is_empty() && reasoning.is_empty() && logprobs.is_empty() {
                    return Bytes::new();
                }
                if self.manner.turns.is_some() {
                    self.said.push_str(&text);
                }
                bytes(&self.line(Choice { text, reasoning, logprobs, ..Choice::default() }, None))
            }
            Event::ChoiceFinished(finished) => {
                self.reason = finished.reason;
                let tool_calls = std::mem::take(&mut self.calls);
                if tool_calls.is_empty() {
                    return Bytes::new();
                }
                bytes(&self.line(Choice { tool_calls, ..Choice::default() }, None))
            }
            Event::Progress(_) | Event::Started(_) | Event::Finished(_) | Event::Failed(_) => Bytes::new(),
            // No generation says these.
            Event::Embedded(_) | Event::Scored(_) => Bytes::new(),
        }
    }

    fn finished(&mut self, finished: Finished) -> Bytes {
        let end = self.end(&finished);
        bytes(&self.line(Choice::default(), Some(end)))
    }

    fn failed(&mut self, error: &Error) -> Bytes {
        bytes(&body(error))
    }
}

fn call_body(call: ToolCallDelta) -> CallBody {
    // The worker closes even calls that were cut off, so this is JSON; text stays visible if it ever is not.
    let arguments = serde_json::from_str(&call.arguments).unwrap_or(Value::String(call.arguments));
    let function = CalledBody { index: call.index, name: call.name.unwrap_or_default(), arguments };
    CallBody { id: call.id.unwrap_or_default(), function }
}
