//! `/v1/chat/completions`.

mod answer;
mod begun;
mod session;
pub mod stored;
mod turns;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use protocol::Error;
use protocol::generation::{self as g, Chat, GenerateRequest, Prompt, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::chunks::{self, Header};
use super::effort::{self, Effort, Reasoning};
use super::labels::Labels;
use super::request::{SHARED, Shared, all_or_count, in_our_words, naming_shape};
use super::response::{Completion, fingerprint};
use super::sessions::remembering;
use crate::answer::gather;
use crate::app::Bridge;
use crate::begin::{Begun, begin};
use crate::body::{self, Members, accept_only};
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{EVENTS, Operation, part};
use crate::sampling::alternatives;
use crate::time::now_s;
use crate::turns::{arguments, instructions};

use answer::{ChatChoice, ChatShape, ChunkChoice, Frame, message_body, without_reasoning};
use begun::Continued;
pub use session::check_messages;
use stored::Wish;
use turns::turns;

/// The members of a request.
pub const KNOWN: &[&[&str]] = &[SHARED, OWN];

const OWN: &[&str] = &[
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "chat_template_kwargs",
    "enable_thinking",
    "reasoning_effort",
    "reasoning",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "include_reasoning",
    "continue_final_message",
    "add_generation_prompt",
    "echo",
    "session_id",
    "store",
    "modalities",
    "verbosity",
];

/// The members of this endpoint alone.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Own {
    messages: Vec<MessageBody>,
    tools: Option<Vec<ToolBody>>,
    tool_choice: Option<ToolChoiceBody>,
    parallel_tool_calls: Option<bool>,
    #[serde(default, deserialize_with = "all_or_count")]
    #[schema(minimum = -1)]
    max_completion_tokens: Option<u32>,
    logprobs: Option<bool>,
    #[serde(default, deserialize_with = "alternatives")]
    #[schema(maximum = 20)]
    top_logprobs: Option<u8>,
    chat_template_kwargs: Option<serde_json::Map<String, Value>>,
    enable_thinking: Option<bool>,
    reasoning_effort: Option<Effort>,
    reasoning: Option<Reasoning>,
    #[serde(alias = "thinking_token_budget")]
    thinking_budget_tokens: Option<u32>,
    /// Whether the reasoning is shown; its tokens count in any case.
    include_reasoning: Option<bool>,
    /// Whether the answer goes on with the last message, which is the assistant's; it holds only what follows.
    continue_final_message: Option<bool>,
    /// Whether a new turn of the assistant's begins, as it does unless the last message is continued.
    add_generation_prompt: Option<bool>,
    /// Whether the answer begins with the message that it goes on with.
    echo: Option<bool>,
    store: Option<bool>,
    modalities: Option<Value>,
    verbosity: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatMessage)]
struct MessageBody {
    role: RoleBody,
    content: Option<Content>,
    reasoning_content: Option<String>,
    /// The same by its other name; some clients send both.
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallBody>>,
    tool_call_id: Option<String>,
    name: Option<String>,
    /// Whether the answer goes on with this message, which is the last and the assistant's.
    prefix: Option<bool>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: serde_json::Map<String, Value>,
}

/// Members of messages that clients send back as they got them; none is meant to change an answer.
const MESSAGE_LABELS: &[&str] = &[
    "annotations",
    "refusal",
    "cache_control",
    "copilot_cache_control",
    "cot_id",
    "cot_summary",
    "provider_specific_fields",
];

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatRole)]
#[serde(rename_all = "lowercase")]
enum RoleBody {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatContent)]
#[serde(untagged, expecting = "expected a string, or an array of parts, each with a 'type'")]
enum Content {
    Text(String),
    #[schema(value_type = Vec<Part>)]
    Parts(Vec<serde_json::Map<String, Value>>),
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatPart)]
struct Part {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    /// Hints for a cache.
    #[serde(rename = "prompt_cache_breakpoint", alias = "cache_control")]
    _cached: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatCall)]
struct CallBody {
    id: String,
    function: CalledBody,
    #[serde(rename = "type")]
    _kind: Option<String>,
    /// Where it stood in a stream.
    #[serde(rename = "index")]
    _index: Option<u32>,
    #[serde(rename = "provider_specific_fields", alias = "extra_content")]
    _provided: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatCalled)]
struct CalledBody {
    name: String,
    arguments: String,
    /// The arguments as a client's library has read them.
    #[serde(rename = "parsed_arguments")]
    _parsed: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatTool)]
struct ToolBody {
    r#type: String,
    function: Option<FunctionDefinition>,
    /// A hint for a cache.
    #[serde(rename = "cache_control")]
    _cached: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct FunctionDefinition {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ChatToolChoice)]
#[serde(untagged, expecting = "expected a word or an object that names a function")]
enum ToolChoiceBody {
    Mode(String),
    /// The choice of a function, or of some of them.
    Named(serde_json::Map<String, Value>),
}

#[derive(Debug, Deserialize)]
struct NamedTool {
    #[serde(rename = "type")]
    _kind: Option<String>,
    function: NamedFunction,
}

#[derive(Debug, Deserialize)]
struct AllowedTools {
    #[serde(rename = "type")]
    _kind: Option<String>,
    allowed_tools: Allowed,
}

/// Some of the tools, and whether one of them must be called.
#[derive(Debug, Deserialize)]
struct Allowed {
    mode: String,
    /// Clients repeat what they are.
    tools: Vec<ToolBody>,
}

#[derive(Debug, Deserialize)]
struct NamedFunction {
    name: String,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Answer a conversation")
        .more(
            "With a `session_id` the conversation goes on from what was said in that session. With `continue_final_message` \
             the answer goes on with the last message, which is the assistant's, and holds only what follows.",
        )
        .takes(
            "ChatRequest",
            KNOWN,
            [part::<Shared>(), part::<session::Sent>(), part::<Own>(), part::<Labels>()],
            json!({
                "model": "impetus-nano",
                "messages": [{ "role": "user", "content": "What is Impetus?" }],
                "max_tokens": 64
            }),
        )
        .gives_of::<Completion<ChatChoice>, ChatChoice>(
            "ChatCompletion",
            "The answer, whole, or in chunks where `stream` is true.",
        )
        .streams_of::<Completion<ChunkChoice>, ChunkChoice>("ChatCompletionChunk", EVENTS)
}

/// Answers a conversation, whole or streamed.
pub async fn complete(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    answer(&bridge, body).await.map_err(|error| in_our_words(error).into())
}

/// Answers the request of `body`.
pub async fn answer(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let members = Members::read(&body, KNOWN)?;
    Labels::check(&members)?;
    let shared: Shared = members.part()?;
    let mut own: Own = members.part()?;
    let streaming = shared.streaming()?;
    let choices = shared.choices();
    let client = bridge.daemon.client().await?;
    let memory = own.go_on(&members, &client, choices).await?;
    let wish = own.store.unwrap_or(false).then(|| Wish::read(&members)).transpose()?;
    // Nothing of it is held while a model answers.
    drop((members, body));
    let (echo, shape, shown) = (own.echo, shared.shape_name(), own.include_reasoning != Some(false));
    let request = request(shared, own)?;
    let continued = Continued::of(&request, echo)?;
    let with_logprobs = request.logprobs.is_some();
    let (id, created) = (new_id("chatcmpl-"), now_s());
    let build = fingerprint(&client);
    let fingerprint = build.clone();
    let frame = move |id: &str, model: &str| {
        let (id, model, build) = (id.to_owned(), model.to_owned(), build.clone());
        Frame { id, created, model, with_logprobs, build }
    };
    let (kept_as, kept_frame) = (id.clone(), frame.clone());
    // On the heap: it is long, and lives in the futures of all who wait for it.
    let begin = Box::pin(async move {
        let Begun { started, events, .. } =
            begin(&client, request).await.map_err(|error| naming_shape(error, shape))?;
        let mut events = if shown { events.boxed() } else { without_reasoning(events).boxed() };
        if let Some(memory) = memory {
            let continued = continued.clone();
            events = remembering(events, memory, move |choice| json!(message_body(continued.whole(choice)))).boxed();
        }
        events = continued.echoed(events, choices).boxed();
        if let Some(wish) = wish {
            events = wish.keeping(events, client, kept_frame(&kept_as, &started.model), choices).boxed();
        }
        Ok((started, events))
    });
    if let Some(counting) = streaming {
        let header = Header { id, object: "chat.completion.chunk", created, counting, fingerprint };
        return chunks::respond(begin, header, ChatShape { choices, with_logprobs }).await;
    }
    let (g::Started { model, .. }, events) = begin.await?;
    let answer = gather(events, choices).await?;
    Ok(Json(frame(&id, &model).completion(answer)).into_response())
}

/// Returns the request that a body asks for.
pub fn request(shared: Shared, own: Own) -> Result<GenerateRequest, Error> {
    accept_only("verbosity", own.verbosity.as_ref(), &[json!("medium")])?;
    accept_only("modalities", own.modalities.as_ref(), &[json!(["text"])])?;
    Ok(GenerateRequest {
        sampling: shared.sampling()?,
        stop: shared.stop(own.max_completion_tokens)?,
        logprobs: logprobs(own.logprobs, own.top_logprobs)?,
        choices: shared.choices(),
        priority: shared.priority()?,
        constraint: shared.constraint()?,
        ..GenerateRequest::new(shared.model.clone(), Prompt::Chat(conversation(own)?))
    })
}

/// Returns the conversation of a request.
pub fn conversation(own: Own) -> Result<Chat, Error> {
    let ending = own.ending()?;
    let effort = Effort::either(own.reasoning_effort, own.reasoning)?;
    let mut tools = own.tools.into_iter().flatten().map(tool).collect::<Result<Vec<_>, _>>()?;
    let choice = own.tool_choice.map(|choice| limit(choice, &mut tools)).transpose()?;
    Ok(Chat {
        ending,
        messages: turns(own.messages)?,
        tool_choice: tool_choice(choice, &tools)?,
        single_tool_call: own.parallel_tool_calls == Some(false) && !tools.is_empty(),
        tools,
        thinking: own.enable_thinking.or((effort == Some(Effort::None)).then_some(false)),
        thinking_budget: own.thinking_budget_tokens.or(effort.and_then(Effort::budget)),
        template_arguments: effort::template_arguments(own.chat_template_kwargs, effort),
    })
}

fn logprobs(wanted: Option<bool>, top: Option<u8>) -> Result<Option<u8>, Error> {
    match (wanted.unwrap_or(false), top) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Error::invalid("top_logprobs", "'top_logprobs' needs 'logprobs': true.")),
        (true, top) => Ok(Some(top.unwrap_or(0))),
    }
}

fn message(at: usize, body: MessageBody) -> Result<g::Message, Error> {
    let role = match body.role {
        RoleBody::System | RoleBody::Developer => Role::System,
        RoleBody::User => Role::User,
        RoleBody::Assistant => Role::Assistant,
        RoleBody::Tool => Role::Tool,
    };
    body::only(&format!("messages[{at}]"), &Value::Object(body.rest), MESSAGE_LABELS)?;
    if body.reasoning.is_some() && body.reasoning_content.is_some() && body.reasoning != body.reasoning_content {
        let message = "'reasoning' and 'reasoning_content' say different things; send one of them.";
        return Err(Error::invalid(format!("messages[{at}].reasoning"), message));
    }
    let calls = body.tool_calls.unwrap_or_default();
    if body.content.is_none() && calls.is_empty() && role != Role::Assistant {
        return Err(Error::invalid(format!("messages[{at}].content"), "A message needs content."));
    }
    let called =
        |(index, CallBody { id, function: CalledBody { name, arguments: text, .. }, .. }): (usize, CallBody)| {
            let at = format!("messages[{at}].tool_calls[{index}].function.arguments");
            Ok(g::ToolCall { id, name, arguments: arguments(&at, text)? })
        };
    let mut content = body.content.map_or(Ok(String::new()), |content| text(at, content))?;
    if role == Role::System {
        content = instructions(&content).to_owned();
    }
    Ok(g::Message {
        role,
        content,
        reasoning: body.reasoning_content.or(body.reasoning),
        tool_calls: calls.into_iter().enumerate().map(called).collect::<Result<_, _>>()?,
        tool_call_id: body.tool_call_id,
        name: body.name,
    })
}

fn text(at: usize, content: Content) -> Result<String, Error> {
    let parts = match content {
        Content::Text(text) => return Ok(text),
        Content::Parts(parts) => parts,
    };
    let mut joined = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let at = format!("messages[{at}].content[{index}]");
        // What an assistant refused is sent back in its history.
        if let Some(other) = part.get("type").and_then(Value::as_str).filter(|kind| !["text", "refusal"].contains(kind))
        {
            let message = format!("Content of type '{other}' is not supported; only text is.");
            return Err(Error::unsupported(at, message));
        }
        let part: Part = body::part(&at, part)?;
        let text = part.text.or(part.refusal);
        joined
            .push_str(&text.ok_or_else(|| Error::invalid(at, format!("A part of type '{}' has text.", part.r#type)))?);
    }
    Ok(joined)
}

fn tool(body: ToolBody) -> Result<g::Tool, Error> {
    if body.r#type != "function" {
        let message = format!("Tools of type '{}' are not supported; only functions are.", body.r#type);
        return Err(Error::unsupported("tools", message));
    }
    let function =
        body.function.ok_or_else(|| Error::invalid("tools", "A tool of type 'function' has a 'function'."))?;
    Ok(g::Tool {
        name: function.name,
        description: function.description,
        parameters: function.parameters.map(|schema| g::Json(schema.to_string())),
        strict: function.strict == Some(true),
    })
}

/// Leaves of the tools those that may be called; returns what else is said of the choice.
fn limit(choice: ToolChoiceBody, tools: &mut Vec<g::Tool>) -> Result<ToolChoiceBody, Error> {
    let named = match choice {
        ToolChoiceBody::Named(named) => named,
        mode @ ToolChoiceBody::Mode(_) => return Ok(mode),
    };
    match named.get("type").and_then(Value::as_str) {
        None | Some("function") => return Ok(ToolChoiceBody::Named(named)),
        Some("allowed_tools") => {}
        Some(other) => {
            let message = format!("'tool_choice' cannot be of type '{other}' here; only functions can be chosen.");
            return Err(Error::unsupported("tool_choice", message));
        }
    }
    let Allowed { mode, tools: allowed } = body::part::<AllowedTools>("tool_choice", named)?.allowed_tools;
    let allowed = allowed.into_iter().map(|body| Ok(tool(body)?.name)).collect::<Result<Vec<_>, _>>()?;
    only_allowed(tools, &allowed)?;
    Ok(ToolChoiceBody::Mode(mode))
}

/// Leaves of the tools those that are named, all of which there must be.
pub fn only_allowed(tools: &mut Vec<g::Tool>, allowed: &[String]) -> Result<(), Error> {
    if let Some(name) = allowed.iter().find(|name| !tools.iter().any(|tool| tool.name == **name)) {
        let message = format!("'tool_choice' names '{name}', which is not among the tools.");
        return Err(Error::invalid("tool_choice", message));
    }
    tools.retain(|tool| allowed.contains(&tool.name));
    Ok(())
}

fn tool_choice(choice: Option<ToolChoiceBody>, tools: &[g::Tool]) -> Result<g::ToolChoice, Error> {
    let choice = match choice {
        None => return Ok(g::ToolChoice::Auto),
        Some(ToolChoiceBody::Named(named)) => {
            g::ToolChoice::Named(body::part::<NamedTool>("tool_choice", named)?.function.name)
        }
        Some(ToolChoiceBody::Mode(mode)) => match mode.as_str() {
            "auto" => return Ok(g::ToolChoice::Auto),
            "none" => return Ok(g::ToolChoice::None),
            "required" => g::ToolChoice::Required,
            _ => {
                let message = format!("'tool_choice' cannot be '{mode}'; it is auto, none, required or a function.");
                return Err(Error::invalid("tool_choice", message));
            }
        },
    };
    if tools.is_empty() {
        return Err(Error::invalid("tool_choice", "'tool_choice' needs 'tools'."));
    }
    if let g::ToolChoice::Named(name) = &choice
        && !tools.iter().any(|tool| tool.name == *name)
    {
        return Err(Error::invalid(
            "tool_choice",
            format!("'tool_choice' names '{name}', which is not among the tools."),
        ));
    }
    Ok(choice)
}

#[cfg(test)]
mod tests;
