//! Messages and their content blocks, read into the turns of a conversation.
//!
//! Instructions may come as `system`, or as messages of that role, which coding agents send; those before the first
//! turn become one. Tool results become turns of their own, in the order they are given, and may refer to tools that the
//! model was not told of before. A block that no model here can read is refused by its type, and what a history holds of
//! another server's alone (thoughts that only it can read, searches that it made itself) is left out: what came of it stands
//! in the answer. What a block says beside its text (hints for a cache, sources of an earlier answer, who called a tool)
//! changes no prompt and is only checked.

use protocol::Error;
use protocol::generation::{Json, Message, Role, ToolCall};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::labels::CacheControl;
use crate::body::part;
use crate::thoughts;
use crate::turns::{append, instruct};

/// Content as text, or as blocks.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicContent)]
#[serde(untagged)]
pub enum Content {
    /// Only text.
    Text(String),
    /// Typed blocks.
    Blocks(Vec<Map<String, Value>>),
}

/// One message of a request.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicMessage)]
#[serde(deny_unknown_fields)]
pub struct MessageBody {
    role: RoleBody,
    content: Content,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicRole)]
#[serde(rename_all = "lowercase")]
enum RoleBody {
    System,
    User,
    Assistant,
}

#[derive(Deserialize)]
struct TextBlock {
    text: String,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
    #[serde(rename = "citations")]
    _citations: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct DocumentBlock {
    source: Source,
    title: Option<String>,
    context: Option<String>,
    citations: Option<Citations>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
struct Citations {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Source {
    r#type: String,
    data: Option<String>,
    content: Option<Content>,
    #[serde(rename = "media_type")]
    _media_type: Option<String>,
}

#[derive(Deserialize)]
struct ThinkingBlock {
    thinking: String,
    signature: Option<String>,
}

/// A word in a result that a tool which was deferred is to be told of now.
#[derive(Deserialize)]
struct ReferenceBlock {
    tool_name: String,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
}

/// Thoughts that only the server they are from can read.
#[derive(Deserialize)]
struct RedactedBlock {
    #[serde(rename = "data")]
    _data: String,
}

/// What a search found that another server made itself, for its own eyes.
#[derive(Deserialize)]
struct SearchResultBlock {
    #[serde(rename = "tool_use_id")]
    _tool_use_id: String,
    #[serde(rename = "content")]
    _content: Value,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
    #[serde(rename = "caller")]
    _caller: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct ToolUseBlock {
    id: String,
    name: String,
    input: Value,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
    #[serde(rename = "caller")]
    _caller: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct ToolResultBlock {
    tool_use_id: String,
    content: Option<Content>,
    is_error: Option<bool>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
}

/// Returns the turns of a request, instructions first.
pub fn conversation(system: Option<Content>, bodies: Vec<MessageBody>) -> Result<Vec<Message>, Error> {
    if bodies.is_empty() {
        return Err(Error::invalid("messages", "messages is empty; a conversation has at least one message."));
    }
    let mut turns = Vec::new();
    if let Some(system) = system {
        instruct(&mut turns, &only_text("system", system)?);
    }
    for (index, MessageBody { role, content }) in bodies.into_iter().enumerate() {
        let at = format!("messages[{index}].content");
        match role {
            RoleBody::System => instruct(&mut turns, &only_text(&at, content)?),
            RoleBody::User => user(&mut turns, &at, content)?,
            RoleBody::Assistant => turns.push(assistant(&at, content)?),
        }
    }
    if turns.last().is_some_and(|last| last.role == Role::Assistant && last.content.ends_with(char::is_whitespace)) {
        // Anthropic's words, which its clients know.
        let message = "messages: final assistant content cannot end with trailing whitespace";
        return Err(Error::invalid("messages", message));
    }
    Ok(turns)
}

/// Takes the type out of a block.
fn kind(at: &str, block: &mut Map<String, Value>) -> Result<String, Error> {
    match block.remove("type") {
        Some(Value::String(kind)) => Ok(kind),
        _ => Err(Error::invalid(format!("{at}.type"), format!("'{at}' has no 'type'."))),
    }
}

fn unsupported(at: &str, kind: &str) -> Error {
    Error::unsupported(at, format!("'{at}' is of type '{kind}', which is not supported here."))
}

fn only_text(at: &str, content: Content) -> Result<String, Error> {
    let blocks = match content {
        Content::Text(text) => return Ok(text),
        Content::Blocks(blocks) => blocks,
    };
    let mut joined = String::new();
    for (index, mut block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        match kind(&at, &mut block)?.as_str() {
            "text" => append(&mut joined, &part::<TextBlock>(&at, block)?.text),
            other => return Err(unsupported(&at, other)),
        }
    }
    Ok(joined)
}

fn user(turns: &mut Vec<Message>, at: &str, content: Content) -> Result<(), Error> {
    let blocks = match content {
        Content::Text(text) => {
            turns.push(Message::new(Role::User, text));
            return Ok(());
        }
        Content::Blocks(blocks) if blocks.is_empty() => {
            return Err(Error::invalid(at, format!("'{at}' is empty; a message needs content.")));
        }
        Content::Blocks(blocks) => blocks,
    };
    let mut said: Option<String> = None;
    for (index, mut block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        match kind(&at, &mut block)?.as_str() {
            "text" => append(said.get_or_insert_default(), &part::<TextBlock>(&at, block)?.text),
            "document" => append(said.get_or_insert_default(), &document(&at, part(&at, block)?)?),
            "tool_result" => {
                turns.extend(said.take().map(|text| Message::new(Role::User, text)));
                let result = tool_result(turns, &at, part(&at, block)?)?;
                turns.push(result);
            }
            other => return Err(unsupported(&at, other)),
        }
    }
    turns.extend(said.map(|text| Message::new(Role::User, text)));
    Ok(())
}

/// Returns what a document says; only text is read here.
fn document(at: &str, block: DocumentBlock) -> Result<String, Error> {
    let DocumentBlock { source, title, context, citations, .. } = block;
    if citations.is_some_and(|citations| citations.enabled == Some(true)) {
        let message = format!("'{at}' asks for citations, which are not supported here.");
        return Err(Error::unsupported(format!("{at}.citations"), message));
    }
    let text = match (source.r#type.as_str(), source.data, source.content) {
        ("text", Some(text), None) => text,
        ("content", None, Some(content)) => only_text(&format!("{at}.source.content"), content)?,
        (other, ..) => return Err(unsupported(&format!("{at}.source"), other)),
    };
    Ok([title, context, Some(text)].into_iter().flatten().collect::<Vec<_>>().join("\n\n"))
}

fn tool_result(turns: &[Message], at: &str, block: ToolResultBlock) -> Result<Message, Error> {
    let text = block.content.map_or(Ok(String::new()), |content| result_text(&format!("{at}.content"), content))?;
    let mut calls = turns.iter().rev().flat_map(|turn| &turn.tool_calls);
    let Some(call) = calls.find(|call| call.id == block.tool_use_id) else {
        let message = format!("'{at}.tool_use_id' is '{}', which no tool_use before it has.", block.tool_use_id);
        return Err(Error::invalid(format!("{at}.tool_use_id"), message));
    };
    // Templates have no place for a failure; the model reads it in the text.
    let content = if block.is_error == Some(true) { format!("Error: {text}") } else { text };
    let name = Some(call.name.clone());
    Ok(Message { tool_call_id: Some(block.tool_use_id), name, ..Message::new(Role::Tool, content) })
}

/// Returns what a result says; of a tool that it refers to, that it is there.
fn result_text(at: &str, content: Content) -> Result<String, Error> {
    let Content::Blocks(mut blocks) = content else { return only_text(at, content) };
    for (index, block) in blocks.iter_mut().enumerate() {
        if block.get("type").is_some_and(|kind| kind == "tool_reference") {
            block.remove("type");
            let ReferenceBlock { tool_name, .. } = part(&format!("{at}[{index}]"), std::mem::take(block))?;
            block.insert("type".to_owned(), "text".into());
            block.insert("text".to_owned(), format!("The tool {tool_name} can be called now.").into());
        }
    }
    only_text(at, Content::Blocks(blocks))
}

/// Returns the tools that results refer to, each with the place where it does.
pub fn references(bodies: &[MessageBody]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (message, body) in bodies.iter().enumerate() {
        let Content::Blocks(blocks) = &body.content else { continue };
        for (block, result) in
            blocks.iter().enumerate().filter(|(_, block)| block.get("type") == Some(&"tool_result".into()))
        {
            let parts = result.get("content").and_then(Value::as_array).into_iter().flatten().enumerate();
            for (part, reference) in parts.filter(|(_, part)| part["type"] == "tool_reference") {
                let at = format!("messages[{message}].content[{block}].content[{part}]");
                found.extend(reference["tool_name"].as_str().map(|name| (at, name.to_owned())));
            }
        }
    }
    found
}

fn assistant(at: &str, content: Content) -> Result<Message, Error> {
    let blocks = match content {
        Content::Text(text) => return Ok(Message::new(Role::Assistant, text)),
        Content::Blocks(blocks) => blocks,
    };
    let mut said = Message::new(Role::Assistant, String::new());
    for (index, mut block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        match kind(&at, &mut block)?.as_str() {
            "text" => append(&mut said.content, &part::<TextBlock>(&at, block)?.text),
            "thinking" => {
                let ThinkingBlock { thinking, signature } = part(&at, block)?;
                append(said.reasoning.get_or_insert_default(), &thoughts::read(thinking, signature.as_deref()));
            }
            "tool_use" => {
                let ToolUseBlock { id, name, input, .. } = part(&at, block)?;
                said.tool_calls.push(ToolCall { id, name, arguments: Json(input.to_string()) });
            }
            "redacted_thinking" => drop(part::<RedactedBlock>(&at, block)?),
            "server_tool_use" => drop(part::<ToolUseBlock>(&at, block)?),
            "web_search_tool_result" => drop(part::<SearchResultBlock>(&at, block)?),
            other => return Err(unsupported(&at, other)),
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests;
