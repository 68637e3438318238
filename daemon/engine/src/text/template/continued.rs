//! Cuts a prompt where the text of its last message ends, for a model that goes on with that message.
//!
//! What a template writes after the text cannot be told from its source, so the text is marked before it is rendered and
//! the prompt is cut at the mark, as transformers does. Only the template itself asks.

use serde_json::{Value, json};

use super::TemplateError;

/// Stands after the text while it is rendered. A template that trims texts takes the space, and is known by that.
const MARK: &str = "IMPETUS_GOES_ON_HERE ";

/// A conversation whose last text is marked.
pub struct Marked {
    /// The messages, the last of them with the mark.
    pub messages: Value,
    text: String,
}

impl Marked {
    /// Marks the last text of the last message; an error if there is none.
    pub fn new(messages: &Value) -> Result<Self, TemplateError> {
        let mut messages = messages.clone();
        let content = messages.as_array_mut().and_then(|all| all.last_mut()).and_then(|last| last.get_mut("content"));
        if let Some(Value::Array(blocks)) = content {
            let is_text = |block: &Value| block["type"] == "text" && block["text"].is_string();
            if !blocks.iter().any(is_text) {
                blocks.push(json!({ "type": "text", "text": "" }));
            }
            let last = blocks.iter_mut().rfind(|block| is_text(block)).and_then(|block| block.get_mut("text"));
            let text = last.map(mark).unwrap_or_default();
            return Ok(Self { messages, text });
        }
        let text = content.filter(|content| content.is_string()).map(mark).ok_or(TemplateError::Lost)?;
        Ok(Self { messages, text })
    }

    /// Cuts a rendered prompt at the mark; an error if the template does not write the text as it stands.
    pub fn cut(&self, mut prompt: String) -> Result<String, TemplateError> {
        let at = prompt.rfind(MARK.trim_end()).ok_or(TemplateError::Lost)?;
        let trims = !prompt[at..].starts_with(MARK);
        prompt.truncate(at);
        if trims {
            prompt.truncate(prompt.trim_end().len());
        }
        if prompt.trim_end().ends_with(self.text.trim()) { Ok(prompt) } else { Err(TemplateError::Lost) }
    }
}

/// Adds the mark to a text; returns the text as it was.
fn mark(value: &mut Value) -> String {
    let text = value.as_str().unwrap_or_default().to_string();
    *value = Value::String(format!("{text}{MARK}"));
    text
}
