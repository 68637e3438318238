//! Input items, and items of earlier outputs, read into the turns of a conversation.
//!
//! What an assistant did in one go stands in several items: reasoning, a message, calls. They become one turn, as a
//! template writes it. An item that no model here can read is refused by its type, and a search that another server made itself
//! is left out: what came of it stands in the answer. What items are called and how they came about
//! changes no prompt and is only checked.

use protocol::generation::{Message, Role, ToolCall};
use protocol::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::tools::flat;
use crate::body::part;
use crate::ids::new_id;
use crate::thoughts;
use crate::turns::{self, append, instruct};

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Map<String, Value>>),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleBody {
    System,
    Developer,
    User,
    Assistant,
}

#[derive(Deserialize)]
struct MessageItem {
    role: RoleBody,
    content: Content,
    #[serde(rename = "phase")]
    _phase: Option<String>,
}

#[derive(Deserialize)]
struct CallItem {
    call_id: String,
    namespace: Option<String>,
    name: String,
    arguments: String,
    /// The arguments as a client's library has read them.
    #[serde(rename = "parsed_arguments")]
    _parsed: Option<Value>,
    #[serde(rename = "caller")]
    _caller: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct OutputItem {
    call_id: String,
    output: Content,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "caller")]
    _caller: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct ReasoningItem {
    #[serde(default)]
    summary: Vec<Map<String, Value>>,
    content: Option<Vec<Map<String, Value>>>,
    encrypted_content: Option<String>,
}

/// A search that another server made itself.
#[derive(Deserialize)]
struct SearchItem {
    #[serde(rename = "action")]
    _action: Option<Map<String, Value>>,
}

/// What items are called and how they came about.
const LABELS: &[&str] = &["id", "status", "created_by"];

/// Returns the items of an input with what the client may have left out: ids, types, and parts in place of text.
pub fn complete(input: Value) -> Result<Vec<Value>> {
    let items = match input {
        Value::String(text) => vec![json!({ "role": "user", "content": text })],
        Value::Array(items) => items,
        _ => return Err(Error::invalid("input", "'input' must be text or a list of items.")),
    };
    items.into_iter().enumerate().map(|(at, item)| complete_item(&format!("input[{at}]"), item)).collect()
}

fn complete_item(at: &str, item: Value) -> Result<Value> {
    let Value::Object(mut item) = item else {
        return Err(Error::invalid(at, format!("'{at}' must be an object.")));
    };
    if item.get("type").is_none_or(Value::is_null) && item.contains_key("role") {
        item.insert("type".to_owned(), json!("message"));
    }
    let assistant = item.get("role").is_some_and(|role| role == "assistant");
    if let Some(Value::String(text)) = item.get("content") {
        let part = match assistant {
            true => json!([{ "type": "output_text", "text": text, "annotations": [] }]),
            false => json!([{ "type": "input_text", "text": text }]),
        };
        item.insert("content".to_owned(), part);
    }
    if item.get("id").is_none_or(Value::is_null) {
        let prefix = match item.get("type").and_then(Value::as_str) {
            Some("function_call") => "fc_",
            Some("function_call_output") => "fco_",
            Some("reasoning") => "rs_",
            Some("web_search_call") => "ws_",
            _ => "msg_",
        };
        item.insert("id".to_owned(), json!(new_id(prefix)));
    }
    if item.get("status").is_none_or(Value::is_null) {
        item.insert("status".to_owned(), json!("completed"));
    }
    Ok(Value::Object(item))
}

/// The turns of a conversation, as its items are read.
#[derive(Default)]
pub struct Turns {
    turns: Vec<Message>,
    /// Whether the last turn is an assistant's that goes on.
    going_on: bool,
}

impl Turns {
    /// Begins with instructions, if there are any.
    pub fn new(instructions: Option<&str>) -> Self {
        let mut this = Self::default();
        if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
            instruct(&mut this.turns, instructions);
        }
        this
    }

    /// Reads an item that stands at `at`.
    pub fn read(&mut self, at: &str, item: Value) -> Result<()> {
        let Value::Object(mut item) = item else {
            return Err(Error::invalid(at, format!("'{at}' must be an object.")));
        };
        let kind = item.remove("type");
        for name in LABELS {
            if item.remove(*name).is_some_and(|label| !label.is_string() && !label.is_null()) {
                let param = format!("{at}.{name}");
                return Err(Error::invalid(param.clone(), format!("'{param}' must be text.")));
            }
        }
        match kind.as_ref().and_then(Value::as_str).unwrap_or_default() {
            "message" => self.message(at, part(at, item)?),
            "reasoning" => self.reasoning(at, part(at, item)?),
            "function_call" => {
                let CallItem { call_id: id, namespace, name, arguments, .. } = part(at, item)?;
                let name = flat(namespace.as_deref(), &name);
                let arguments = turns::arguments(&format!("{at}.arguments"), arguments)?;
                self.assistant(|_| true).tool_calls.push(ToolCall { id, name, arguments });
                Ok(())
            }
            "function_call_output" => self.result(at, part(at, item)?),
            "web_search_call" => part::<SearchItem>(at, item).map(drop),
            "" => Err(Error::invalid(format!("{at}.type"), format!("'{at}' has no 'type'."))),
            other => {
                let message = format!("'{at}' is of type '{other}', which is not supported here.");
                Err(Error::unsupported(at, message))
            }
        }
    }

    /// Returns the turns.
    pub fn end(self) -> Vec<Message> {
        self.turns
    }

    fn message(&mut self, at: &str, MessageItem { role, content, .. }: MessageItem) -> Result<()> {
        let text = text(&format!("{at}.content"), content)?;
        match role {
            RoleBody::System | RoleBody::Developer => instruct(&mut self.turns, &text),
            RoleBody::User => self.turns.push(Message::new(Role::User, text)),
            RoleBody::Assistant => {
                append(&mut self.assistant(|turn| turn.tool_calls.is_empty()).content, &text);
                return Ok(());
            }
        }
        self.going_on = false;
        Ok(())
    }

    fn reasoning(&mut self, at: &str, item: ReasoningItem) -> Result<()> {
        let ReasoningItem { summary, content, encrypted_content } = item;
        let parts = content.filter(|content| !content.is_empty()).unwrap_or(summary);
        let text = thoughts::read(text(at, Content::Parts(parts))?, encrypted_content.as_deref());
        if !text.is_empty() {
            let turn = self.assistant(|turn| turn.content.is_empty() && turn.tool_calls.is_empty());
            append(turn.reasoning.get_or_insert_default(), &text);
        }
        Ok(())
    }

    fn result(&mut self, at: &str, OutputItem { call_id, output, .. }: OutputItem) -> Result<()> {
        let mut calls = self.turns.iter().rev().flat_map(|turn| &turn.tool_calls);
        let Some(name) = calls.find(|call| call.id == call_id).map(|call| call.name.clone()) else {
            let message = format!("'{at}.call_id' is '{call_id}', which no function_call before it has.");
            return Err(Error::invalid(format!("{at}.call_id"), message));
        };
        let content = text(&format!("{at}.output"), output)?;
        let turn = Message::new(Role::Tool, content);
        self.turns.push(Message { tool_call_id: Some(call_id), name: Some(name), ..turn });
        self.going_on = false;
        Ok(())
    }

    /// Returns the assistant's turn that goes on, or a new one where none does or what follows does not fit.
    fn assistant(&mut self, fits: impl FnOnce(&Message) -> bool) -> &mut Message {
        if !(self.going_on && self.turns.last().is_some_and(fits)) {
            self.turns.push(Message::new(Role::Assistant, ""));
            self.going_on = true;
        }
        let last = self.turns.len() - 1;
        &mut self.turns[last]
    }
}

fn text(at: &str, content: Content) -> Result<String> {
    #[derive(Deserialize)]
    struct TextPart {
        text: String,
        #[serde(rename = "annotations")]
        _annotations: Option<Vec<Value>>,
        #[serde(rename = "logprobs")]
        _logprobs: Option<Vec<Value>>,
        /// A hint for a cache.
        #[serde(rename = "prompt_cache_breakpoint")]
        _cached: Option<Value>,
    }
    #[derive(Deserialize)]
    struct RefusalPart {
        refusal: String,
    }
    let parts = match content {
        Content::Text(text) => return Ok(text),
        Content::Parts(parts) => parts,
    };
    let mut joined = String::new();
    for (index, mut body) in parts.into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        let kind = body.remove("type");
        match kind.as_ref().and_then(Value::as_str).unwrap_or_default() {
            "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
                joined.push_str(&part::<TextPart>(&at, body)?.text);
            }
            // What an assistant refused is sent back in its history.
            "refusal" => joined.push_str(&part::<RefusalPart>(&at, body)?.refusal),
            other => {
                let message = format!("'{at}' is of type '{other}', which is not supported here; only text is.");
                return Err(Error::unsupported(at, message));
            }
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
