//! Renders a conversation into the prompt that a model was trained on, as Hugging Face's `apply_chat_template` does.
//!
//! The template comes from the model's folder and is not trusted. It can reach nothing but its arguments, and its
//! instructions, its output and its source are bounded here; the memory and the time of a single instruction are not,
//! not even while it compiles, so the worker compiles and renders in a process of its own. Time is an argument. It
//! never tokenizes.

mod continued;
mod environment;
#[cfg(test)]
mod goldens;
mod json;
mod methods;
mod source;
mod strftime;
#[cfg(test)]
mod tests;
mod values;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use self::continued::Marked;
use self::environment::{Clock, Raised};
use super::{TextError, files};

/// The most text that a template may write.
const BYTES_MAX: usize = 64 << 20;

/// What is rendered.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    /// A list of messages in the form of Hugging Face and OpenAI.
    pub messages: &'a Value,
    /// A list of tools in the same form, if there are any.
    pub tools: Option<&'a Value>,
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends where the text of the last message does, for an answer that goes on with it.
    pub continue_final_message: bool,
    /// More variables, such as `enable_thinking`; they shadow the special tokens and not the conversation.
    pub arguments: &'a Map<String, Value>,
    /// What the template takes for the current time, in UTC.
    pub now_unix_ms: i64,
}

/// Why a conversation was not rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template refuses the conversation, in its own words.
    #[error("the model's chat template refuses the conversation: {0}")]
    Raised(String),
    /// The template runs too long or writes too much.
    #[error("the model's chat template does not come to an end; replace its chat_template.jinja")]
    Endless,
    /// The template leaves out or rewrites the text that is to be continued.
    #[error("the model's chat template does not write the last message as it stands, so it cannot be continued")]
    Lost,
    /// The template cannot cope with the conversation.
    #[error("the model's chat template failed: {0}")]
    Failed(String),
}

/// The chat templates of one model, as they were read.
pub struct Template {
    path: PathBuf,
    sources: BTreeMap<String, String>,
    special_tokens: Map<String, Value>,
}

/// The chat templates of one model, ready to render.
pub struct Compiled {
    environment: Environment<'static>,
    special_tokens: Map<String, Value>,
    has_tool_use: bool,
}

impl Template {
    /// Reads a folder's templates; `None` if it has none.
    pub fn open(dir: &Path) -> Result<Option<Self>, TextError> {
        let Some(found) = source::find(dir)? else { return Ok(None) };
        Ok(Some(Self { path: found.path, sources: found.sources, special_tokens: special_tokens(dir)? }))
    }

    /// Compiles the templates, which computes their constants.
    pub fn compile(self) -> Result<Compiled, TextError> {
        let mut environment = environment::new();
        for (name, source) in &self.sources {
            environment
                .add_template_owned(name.clone(), source::plain(source))
                .map_err(|error| TextError::invalid(&self.path, describe(&error)))?;
        }
        let has_tool_use = self.sources.contains_key(source::TOOL_USE);
        Ok(Compiled { environment, special_tokens: self.special_tokens, has_tool_use })
    }

    /// Whether a text occurs in the template for a conversation without tools.
    pub fn mentions(&self, text: &str) -> bool {
        self.source().contains(text)
    }

    /// Whether the template for a conversation without tools reads a variable of this name that its caller may set.
    pub fn reads(&self, name: &str) -> bool {
        words::read(self.source(), name)
    }

    /// Whether it writes OpenAI's harmony form, in which every answer reasons first and in a channel of its own.
    pub fn is_harmony(&self) -> bool {
        self.mentions("<|channel|>") && self.mentions("<|message|>")
    }

    /// The template for a conversation without tools, as it was read.
    pub fn source(&self) -> &str {
        self.sources.get(source::DEFAULT).map_or("", String::as_str)
    }

    /// The template for a conversation with tools; the same one where the model has no other.
    pub fn tool_source(&self) -> &str {
        self.sources.get(source::TOOL_USE).map_or_else(|| self.source(), String::as_str)
    }
}

impl Compiled {
    /// Renders the conversation.
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<String, TemplateError> {
        let mut variables = self.special_tokens.clone();
        variables.extend(conversation.arguments.clone());
        let mut variables: BTreeMap<&str, minijinja::Value> =
            variables.iter().map(|(name, value)| (name.as_str(), values::of(value))).collect();
        let marked = conversation.continue_final_message.then(|| Marked::new(conversation.messages)).transpose()?;
        let messages = marked.as_ref().map_or(conversation.messages, |marked| &marked.messages);
        variables.insert("messages", values::of(messages));
        variables.insert("tools", conversation.tools.map_or(minijinja::Value::from(()), values::of));
        variables.insert("add_generation_prompt", conversation.add_generation_prompt.into());
        variables.entry("documents").or_insert(minijinja::Value::from(()));
        variables.insert(environment::CLOCK, minijinja::Value::from_object(Clock(conversation.now_unix_ms)));

        let mut output = Bounded { bytes: Vec::new(), overflowed: false };
        let with_tools = conversation.tools.is_some() && self.has_tool_use;
        let rendered = self
            .environment
            .get_template(if with_tools { source::TOOL_USE } else { source::DEFAULT })
            .and_then(|template| template.render_captured_to(variables, &mut output).map(drop));
        if output.overflowed {
            return Err(TemplateError::Endless);
        }
        rendered.map_err(|error| sort(&error))?;
        let prompt = String::from_utf8(output.bytes).map_err(|error| TemplateError::Failed(error.to_string()))?;
        match marked {
            Some(marked) => marked.cut(prompt),
            None => Ok(prompt),
        }
    }
}

/// The special tokens by name (`bos_token`, …), which templates write by their names.
fn special_tokens(dir: &Path) -> Result<Map<String, Value>, TextError> {
    let mut tokens = Map::new();
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        for (name, value) in files::read_object(dir, file)? {
            if name.ends_with("_token")
                && let Some(text) = files::token_text(&value)
            {
                tokens.insert(name, text.into());
            }
        }
    }
    Ok(tokens)
}

/// Finds what the template itself raised, among what the engine wrapped around it.
fn sort(error: &minijinja::Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return TemplateError::Raised(raised.0.clone());
        }
        if let Some(error) = current.downcast_ref::<minijinja::Error>()
            && error.kind() == ErrorKind::OutOfFuel
        {
            return TemplateError::Endless;
        }
        cause = current.source();
    }
    TemplateError::Failed(describe(error))
}

fn describe(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), |it| format!("{}: {it}", error.kind()));
    error.line().map_or_else(|| detail.clone(), |line| format!("line {line}: {detail}"))
}

/// Collects output up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > BYTES_MAX {
            self.overflowed = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
