//! What Anthropic clients receive: messages, their blocks and token counts, as typed shapes.

use protocol::generation::{FinishReason, Missed, Usage};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::thoughts::Display;
use crate::answer::Choice;
use crate::missed::{self, MissedBody};

/// A message, whole or about to be streamed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicAnswer)]
pub struct Message {
    /// `msg_…`.
    pub id: String,
    /// Always `message`.
    pub r#type: &'static str,
    /// Always `assistant`.
    pub role: &'static str,
    /// The model that answers.
    pub model: String,
    /// What it said.
    pub content: Vec<Block>,
    /// Why it ended; null while it goes on.
    pub stop_reason: Option<&'static str>,
    /// The stop sequence that ended it, if one did.
    pub stop_sequence: Option<String>,
    /// Token counts.
    pub usage: UsageBody,
}

/// One block of content.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicBlock)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Reasoning.
    Thinking {
        /// The thought, where it is shown.
        thinking: String,
        /// For the client to send back: it holds the thought where that is not shown.
        signature: String,
    },
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A call of a tool.
    ToolUse {
        /// The call's id.
        id: String,
        /// The tool's name.
        name: String,
        /// Its arguments.
        input: Value,
    },
}

/// Token counts; tokens read from the cache are not counted among the input tokens.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = AnthropicUsage)]
pub struct UsageBody {
    input_tokens: u32,
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: u32,
    /// Why no more of them were; null until the end, and where all were that can be.
    cache_missed: Option<MissedBody>,
    output_tokens: u32,
}

impl UsageBody {
    /// Says what an answer came to, and why no more of its prompt was cached.
    pub fn of(usage: Usage, missed: Option<Missed>) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            cache_missed: missed::told(missed),
            output_tokens: usage.completion_tokens,
        }
    }
}

/// Returns Anthropic's word for why an answer ended; `capped` says that the context held fewer tokens than asked for.
pub fn stop_reason(reason: FinishReason, stop_string: Option<&str>, capped: bool) -> &'static str {
    match reason {
        FinishReason::Stop if stop_string.is_some() => "stop_sequence",
        FinishReason::Stop => "end_turn",
        FinishReason::Length if capped => "model_context_window_exceeded",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
    }
}

/// Returns the blocks of a whole answer.
pub fn blocks(choice: Choice, display: Display) -> Vec<Block> {
    let mut blocks = Vec::new();
    if !choice.reasoning.is_empty() {
        let (thinking, signature) = display.show(choice.reasoning);
        blocks.push(Block::Thinking { thinking, signature });
    }
    if !choice.text.is_empty() {
        blocks.push(Block::Text { text: choice.text });
    }
    blocks.extend(choice.tool_calls.into_iter().map(|call| Block::ToolUse {
        id: call.id.unwrap_or_default(),
        name: call.name.unwrap_or_default(),
        // The worker closes even calls that were cut off, so this is JSON; text stays visible if it ever is not.
        input: serde_json::from_str(&call.arguments).unwrap_or(Value::String(call.arguments)),
    }));
    blocks
}
