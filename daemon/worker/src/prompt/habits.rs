//! What one family's chat template expects of a conversation beyond the form that all share.
//!
//! Templates have no standard for an assistant's past reasoning, some refuse the ids of tool calls that others take, and
//! some read tools from the system message. A template shows its habits in its own words, so they are looked for there. Only `chat` asks.

use std::borrow::Cow;

use engine::text::Template;
use protocol::generation::Message;
use serde_json::{Map, Value, json};

use super::shown::add_system;

/// The fields of a message in which templates look for its reasoning.
const REASONING_FIELDS: [&str; 4] = ["reasoning_content", "reasoning", "thinking", "thought"];
/// Mistral's templates refuse every other length.
const SHORT_ID_LETTERS: usize = 9;

/// The habits of one template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    reasoning_fields: Vec<&'static str>,
    reasoning_blocks: bool,
    one_text_before_calls: bool,
    short_ids: bool,
    tools_in_system: bool,
}

impl Habits {
    /// The habits that a template's words show.
    pub fn of(template: &Template) -> Self {
        let sources = [template.source(), template.tool_source()];
        let says = |words: &str| sources.iter().any(|source| source.contains(words));
        let fields = REASONING_FIELDS.into_iter().filter(|field| sources.iter().any(|source| names(source, field)));
        Self {
            reasoning_fields: fields.collect(),
            reasoning_blocks: says("== 'thinking'") || says("== \"thinking\""),
            // A turn of the harmony form has one message before its call.
            one_text_before_calls: template.is_harmony(),
            short_ids: says("length != 9"),
            // Phi 4 mini.
            tools_in_system: ["'tools' in message", "message['tools']", "message.tools"].into_iter().any(says),
        }
    }

    /// Puts an assistant's past reasoning where the template looks for it.
    pub fn add_reasoning(&self, turn: &mut Map<String, Value>, message: &Message, reasoning: &str) {
        let content = message.content.as_str();
        let both = !message.tool_calls.is_empty() && !content.is_empty() && !reasoning.is_empty();
        let joined = (self.one_text_before_calls && both).then(|| format!("{reasoning}\n\n{content}"));
        if joined.is_some() {
            turn.insert("content".to_string(), json!(""));
        }
        let reasoning = joined.as_deref().unwrap_or(reasoning);
        if self.reasoning_blocks {
            let text = (!content.is_empty()).then(|| json!({ "type": "text", "text": content }));
            let blocks = [json!({ "type": "thinking", "thinking": reasoning })].into_iter().chain(text);
            turn.insert("content".to_string(), blocks.collect());
        }
        for field in &self.reasoning_fields {
            turn.insert((*field).to_string(), json!(reasoning));
        }
    }

    /// Puts tools where the template looks for them beside its variable `tools`: as a text, in the system message.
    pub fn add_tools(&self, messages: &mut Value, tools: &Value) {
        if !self.tools_in_system {
            return;
        }
        let functions: Value = tools.as_array().into_iter().flatten().map(|tool| tool["function"].clone()).collect();
        add_system(messages);
        messages[0]["tools"] = json!(as_python(&functions));
    }

    /// The id of a tool call, as the template takes it: the same for a call and its result.
    pub fn call_id<'a>(&self, id: &'a str) -> Cow<'a, str> {
        let fits = id.len() == SHORT_ID_LETTERS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if self.short_ids && !fits { Cow::Owned(short(id)) } else { Cow::Borrowed(id) }
    }
}

/// JSON with the spaces that models were trained on.
pub fn as_python(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(as_python).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", json!(key), as_python(value));
            format!("{{{}}}", object.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// Whether a template reads a field: by a dot, or by its quoted name.
fn names(source: &str, field: &str) -> bool {
    source.match_indices(field).any(|(at, _)| {
        let (before, after) = (source[..at].chars().next_back(), source[at + field.len()..].chars().next());
        match before {
            Some(quote @ ('\'' | '"')) => after == Some(quote),
            Some('.') => !after.is_some_and(|after| after.is_alphanumeric() || after == '_'),
            _ => false,
        }
    })
}

/// Nine letters and digits that stand for an id.
fn short(id: &str) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // FNV-1a.
    let mut hash = id
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let letter = |_| {
        let letter = LETTERS[(hash % 62) as usize];
        hash /= 62;
        char::from(letter)
    };
    (0..SHORT_ID_LETTERS).map(letter).collect()
}
