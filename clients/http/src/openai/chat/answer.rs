//! What the clients of `/v1/chat/completions` receive: choices, whole or in chunks.

use futures::{Stream, StreamExt};
use protocol::Result;
use protocol::generation::{ChoiceFinished, Delta, ToolCallDelta};
use protocol::transcript::Event;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{Answer, Choice};
use crate::openai::chunks::Shape;
use crate::openai::response::{ChatLogprobs, Completion, FunctionBody, ToolCallBody, UsageBody, finish_reason};
use crate::timings::Timings;

/// What the completion of a request will be like.
pub struct Frame {
    /// Its id.
    pub id: String,
    /// When it was asked for.
    pub created: u64,
    /// Which model answers.
    pub model: String,
    /// Whether tokens come with their log-probabilities.
    pub with_logprobs: bool,
    /// The build that answers.
    pub build: String,
}

impl Frame {
    /// Returns the completion that says `answer`.
    pub fn completion(self, answer: Answer) -> Completion<ChatChoice> {
        let Self { id, created, model, with_logprobs, build } = self;
        let choices = answer.choices.into_iter().enumerate();
        Completion {
            id,
            object: "chat.completion",
            created,
            model,
            choices: choices.map(|(index, choice)| whole(index, choice, with_logprobs)).collect(),
            usage: Some(Some(UsageBody::of(answer.usage, answer.missed))),
            system_fingerprint: build,
            timings: Some(Timings::of(answer.usage, answer.timing)),
        }
    }
}

/// One choice of a whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    index: usize,
    message: AssistantMessage,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

/// What the assistant said.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssistantMessage {
    role: &'static str,
    content: Option<String>,
    #[schema(value_type = Option<String>)]
    refusal: Option<()>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    /// The same, as clients of vLLM and OpenRouter call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallBody>,
}

/// Returns one choice of a whole answer.
pub fn whole(index: usize, mut choice: Choice, with_logprobs: bool) -> ChatChoice {
    let logprobs = std::mem::take(&mut choice.logprobs);
    ChatChoice {
        index,
        finish_reason: choice.reason.map(finish_reason),
        message: message_body(choice),
        logprobs: with_logprobs.then(|| logprobs.into()),
    }
}

/// Returns what the assistant said, as a message.
pub fn message_body(choice: Choice) -> AssistantMessage {
    let tool_calls: Vec<_> = choice.tool_calls.into_iter().map(|call| call_body(call, false)).collect();
    AssistantMessage {
        role: "assistant",
        content: (tool_calls.is_empty() || !choice.text.is_empty()).then_some(choice.text),
        refusal: None,
        reasoning: choice.reasoning.clone(),
        reasoning_content: choice.reasoning,
        tool_calls,
    }
}

fn call_body(call: ToolCallDelta, in_chunk: bool) -> ToolCallBody {
    ToolCallBody {
        index: in_chunk.then_some(call.index),
        r#type: call.id.is_some().then_some("function"),
        id: call.id,
        function: FunctionBody { name: call.name, arguments: call.arguments },
    }
}

/// Returns the events of an answer whose reasoning is not to be shown, nor how likely its tokens were.
pub fn without_reasoning(
    events: impl Stream<Item = Result<Event>> + Send + 'static,
) -> impl Stream<Item = Result<Event>> + Send + 'static {
    events.map(|event| match event {
        Ok(Event::Delta(mut delta)) if !delta.reasoning.is_empty() => {
            delta.reasoning.clear();
            if delta.text.is_empty() {
                delta.logprobs.clear();
            }
            Ok(Event::Delta(delta))
        }
        other => other,
    })
}

/// How an answer is written as chunks.
pub struct ChatShape {
    /// How many choices there are.
    pub choices: u16,
    /// Whether each token comes with its log-probability.
    pub with_logprobs: bool,
}

/// One choice of a chunk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatChunkChoice)]
pub struct ChunkChoice {
    index: u16,
    delta: DeltaBody,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

/// What a chunk adds to a message.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ChatDelta)]
pub struct DeltaBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Null where only the role is told.
    #[schema(value_type = Option<String>)]
    content: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// The same by its other name.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCallBody>,
}

impl Shape for ChatShape {
    type Choice = ChunkChoice;

    fn opening(&mut self) -> Vec<ChunkChoice> {
        // As null it is no text: an empty one is taken for a piece of the answer by those who wait for the first.
        let delta = || DeltaBody { role: Some("assistant"), content: Some(None), ..DeltaBody::default() };
        (0..self.choices)
            .map(|index| ChunkChoice { index, delta: delta(), logprobs: None, finish_reason: None })
            .collect()
    }

    fn more(&mut self, delta: Delta) -> Vec<ChunkChoice> {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let body = DeltaBody {
            role: None,
            content: some(delta.text).map(Some),
            reasoning: some(delta.reasoning.clone()),
            reasoning_content: some(delta.reasoning),
            tool_calls: delta.tool_calls.into_iter().map(|call| call_body(call, true)).collect(),
        };
        let silent = body.content.is_none() && body.reasoning_content.is_none() && body.tool_calls.is_empty();
        let logprobs = (self.with_logprobs && !delta.logprobs.is_empty()).then(|| delta.logprobs.into());
        let choice = ChunkChoice { index: delta.choice, delta: body, logprobs, finish_reason: None };
        if silent && choice.logprobs.is_none() { Vec::new() } else { vec![choice] }
    }

    fn complete(&mut self, finished: ChoiceFinished) -> Vec<ChunkChoice> {
        vec![ChunkChoice {
            index: finished.choice,
            delta: DeltaBody::default(),
            logprobs: None,
            finish_reason: Some(finish_reason(finished.reason)),
        }]
    }
}

#[cfg(test)]
mod tests;
