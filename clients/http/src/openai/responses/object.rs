//! A response as clients receive it: the object, its items and their parts, as typed shapes.

use protocol::generation::{Missed, Usage};
use protocol::{Error, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::missed::{self, MissedBody};
use crate::openai::response::ChatLogprob;

/// Where a response is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ResponseStatus)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for its turn in the background.
    Queued,
    /// It is being made.
    InProgress,
    /// It is whole.
    Completed,
    /// It ended before its end.
    Incomplete,
    /// It could not be made.
    Failed,
    /// Its client no longer wanted it.
    Cancelled,
}

/// A response.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ResponseObject)]
pub struct Response {
    /// `resp_…`.
    pub id: String,
    /// Always `response`.
    pub object: &'static str,
    /// When it was asked for, in seconds since 1970.
    pub created_at: u64,
    /// When it was whole.
    pub completed_at: Option<u64>,
    /// Where it is in its life.
    pub status: Status,
    /// Whether it is made after its request was answered.
    pub background: bool,
    /// Why it failed.
    pub error: Option<Fault>,
    /// Why it is incomplete.
    pub incomplete_details: Option<Incomplete>,
    /// The model that answers.
    pub model: String,
    /// What came of it.
    pub output: Vec<Item>,
    /// Token counts, once it has ended.
    pub usage: Option<UsageBody>,
    /// Whether its thoughts are held where clients look for encrypted ones.
    #[serde(skip)]
    pub holds_thoughts: bool,
    /// What was asked, under the names it was asked by.
    #[serde(flatten)]
    pub asked: Map<String, Value>,
}

/// Why a response failed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ResponseError)]
pub struct Fault {
    /// `server_error` where the same request may be answered another time.
    code: &'static str,
    message: String,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let code = match error.kind {
            ErrorKind::ContextLengthExceeded => "context_length_exceeded",
            ErrorKind::RateLimited => "rate_limit_exceeded",
            // Clients know no other code by which the request itself is at fault.
            ErrorKind::ModelNotFound | ErrorKind::Forbidden => "invalid_prompt",
            ErrorKind::Invalid | ErrorKind::Unsupported => "invalid_prompt",
            _ => "server_error",
        };
        Self { code, message: error.message.clone() }
    }
}

/// Why a response is incomplete.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = IncompleteDetails)]
pub struct Incomplete {
    /// Always `max_output_tokens`: its limit, or the context's end.
    pub reason: &'static str,
}

/// One item of the output.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OutputItem)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Item {
    /// What the model said.
    Message {
        /// `msg_…`.
        id: String,
        /// Where it is in its life.
        status: Status,
        /// Always `assistant`.
        role: &'static str,
        /// What was said.
        content: Vec<Part>,
    },
    /// A function that the model calls.
    FunctionCall {
        /// `fc_…`.
        id: String,
        /// Where it is in its life.
        status: Status,
        /// What its result must name.
        call_id: String,
        /// The namespace that the function stands in, if it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// The function.
        name: String,
        /// Its arguments, JSON text.
        arguments: String,
    },
    /// What the model thought.
    Reasoning {
        /// `rs_…`.
        id: String,
        /// Where it is in its life.
        status: Status,
        /// The thoughts, where a summary was asked for.
        summary: Vec<Part>,
        /// The thoughts, where none was.
        content: Vec<Part>,
        /// The thoughts once more, where `include` asks for `reasoning.encrypted_content`, for clients that send back nothing
        /// else of them. It hides nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
}

/// One part of an item; the names are those on the wire.
#[allow(clippy::enum_variant_names)]
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OutputPart)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text of an answer.
    OutputText {
        /// The text.
        text: String,
        /// Always empty.
        #[schema(value_type = Vec<Object>)]
        annotations: [(); 0],
        /// One entry per token, if asked for.
        logprobs: Vec<ChatLogprob>,
    },
    /// Thoughts, as a summary.
    SummaryText {
        /// The text.
        text: String,
    },
    /// Thoughts.
    ReasoningText {
        /// The text.
        text: String,
    },
}

impl Part {
    /// An empty text of an answer.
    pub fn text() -> Self {
        Self::OutputText { text: String::new(), annotations: [], logprobs: Vec::new() }
    }

    /// Its text.
    pub fn said(&self) -> &str {
        match self {
            Self::OutputText { text, .. } | Self::SummaryText { text } | Self::ReasoningText { text } => text,
        }
    }

    /// Adds to its text.
    pub fn append(&mut self, more: &str, tokens: Vec<ChatLogprob>) {
        match self {
            Self::OutputText { text, logprobs, .. } => {
                text.push_str(more);
                logprobs.extend(tokens);
            }
            Self::SummaryText { text } | Self::ReasoningText { text } => text.push_str(more),
        }
    }
}

/// Token counts.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ResponseUsage)]
pub struct UsageBody {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct InputDetails {
    cached_tokens: u32,
    /// Why not more of them were; null where all were that can be.
    cache_missed: Option<MissedBody>,
    cache_write_tokens: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct OutputDetails {
    reasoning_tokens: u32,
}

impl UsageBody {
    /// Says what an answer came to, and why no more of its prompt was cached.
    pub fn of(usage: Usage, missed: Option<Missed>) -> Self {
        let (cached_tokens, cache_missed) = (usage.cached_tokens, missed::told(missed));
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens, cache_missed, cache_write_tokens: 0 },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}
