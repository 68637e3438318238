//! What Anthropic clients send, and how it becomes a `GenerateRequest`.

use protocol::Error;
use protocol::generation::{self as g, Chat, Constraint, GenerateRequest, Prompt, Sampling, Stop};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::content::{Content, MessageBody, conversation, references};
use super::labels::CacheControl;
use super::thoughts::Display;
use crate::body::{accept_only, not_honoured, only, part};
use crate::sampling::tokens;
use crate::turns::ending;

/// The least budget of thinking that this dialect knows.
const BUDGET_MIN: u32 = 1024;

/// The members that say what is asked of whom; each has an effect or is a label that is defined to have none.
pub const SHARED: &[&str] = &[
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "context_management",
    "cache_control",
    "speed",
    "mcp_servers",
    "fallbacks",
];

/// The members that say how it is answered.
pub const OWN: &[&str] =
    &["max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier"];

/// What is asked of whom.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Shared {
    model: String,
    messages: Vec<MessageBody>,
    system: Option<Content>,
    tools: Option<Vec<Map<String, Value>>>,
    tool_choice: Option<ToolChoiceBody>,
    thinking: Option<ThinkingBody>,
    output_config: Option<Map<String, Value>>,
    /// The older name of `output_config.format`.
    output_format: Option<Value>,
    context_management: Option<Map<String, Value>>,
    /// Only `standard`.
    speed: Option<Value>,
    /// Only an empty list.
    mcp_servers: Option<Value>,
    /// Only an empty list.
    fallbacks: Option<Value>,
}

/// How it is answered.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Own {
    #[serde(deserialize_with = "tokens")]
    max_tokens: u32,
    stream: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    stop_sequences: Option<Vec<String>>,
}

/// Members of a tool that may only ask for what happens anyway, which is this.
const TOOL_USUAL: &[(&str, &str)] =
    &[("allowed_callers", r#"["direct"]"#), ("eager_input_streaming", "true"), ("input_examples", "[]")];

#[derive(Debug, Deserialize)]
struct ToolBody {
    name: String,
    description: Option<String>,
    input_schema: Value,
    strict: Option<bool>,
    defer_loading: Option<bool>,
    #[serde(rename = "cache_control")]
    _cache_control: Option<CacheControl>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicToolChoice)]
#[serde(deny_unknown_fields)]
struct ToolChoiceBody {
    r#type: ChoiceKind,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicToolChoiceType)]
#[serde(rename_all = "lowercase")]
enum ChoiceKind {
    Auto,
    Any,
    Tool,
    None,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicThinking)]
#[serde(deny_unknown_fields)]
struct ThinkingBody {
    r#type: ThinkingKind,
    budget_tokens: Option<u32>,
    display: Option<Display>,
}

#[derive(Debug, Deserialize)]
struct OutputBody {
    effort: Option<Effort>,
    format: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, ToSchema)]
#[schema(as = AnthropicThinkingType)]
#[serde(rename_all = "lowercase")]
enum ThinkingKind {
    Enabled,
    Disabled,
    /// The model decides, as it does where nothing is said.
    Adaptive,
}

impl Shared {
    /// Returns how thoughts are shown.
    pub fn display(&self) -> Display {
        self.thinking.as_ref().and_then(|thinking| thinking.display).unwrap_or_default()
    }

    /// Returns the shape that the answer is held to.
    pub fn constraint(&self) -> Result<Option<Constraint>, Error> {
        let shaped = self.output_config.clone().map_or(Ok((None, None)), output)?.0;
        match (shaped, &self.output_format) {
            (Some(_), Some(_)) => Err(Error::invalid(
                "output_format",
                "'output_format' and 'output_config.format' are the same; send one.",
            )),
            (None, Some(format)) => Ok(Some(shape(format)?)),
            (shaped, None) => Ok(shaped),
        }
    }

    /// Returns the conversation, and the name of the model it is for; `max_tokens` bounds the thinking.
    pub fn chat(self, max_tokens: Option<u32>) -> Result<(String, Chat), Error> {
        let thinking_budget = self.thinking.as_ref().and_then(ThinkingBody::budget);
        let thinking = self.thinking.map_or(Ok(None), |thinking| thinking.wish(max_tokens))?;
        keeps_everything(self.context_management)?;
        accept_only("speed", self.speed.as_ref(), &[json!("standard")])?;
        accept_only("mcp_servers", self.mcp_servers.as_ref(), &[json!([])])?;
        accept_only("fallbacks", self.fallbacks.as_ref(), &[json!([])])?;
        let tools = tools(self.tools.unwrap_or_default(), &references(&self.messages))?;
        let single = self.tool_choice.as_ref().is_some_and(|choice| choice.disable_parallel_tool_use == Some(true));
        let messages = conversation(self.system, self.messages)?;
        let chat = Chat {
            ending: ending(&messages),
            messages,
            tool_choice: self.tool_choice.map_or(Ok(g::ToolChoice::Auto), ToolChoiceBody::choice)?,
            single_tool_call: single && !tools.is_empty(),
            tools,
            thinking,
            thinking_budget,
            template_arguments: self.output_config.map_or(Ok((None, None)), output)?.1,
        };
        Ok((self.model, chat))
    }
}

impl Own {
    /// Whether the answer is streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Returns the request in the protocol's words.
    pub fn request(self, shared: Shared) -> Result<GenerateRequest, Error> {
        if self.max_tokens == 0 {
            return Err(Error::invalid("max_tokens", "max_tokens is 0; it must be at least 1."));
        }
        let temperature = self.temperature.map_or(Ok(None), |value| share("temperature", value).map(Some))?;
        let constraint = shared.constraint()?;
        let (model, chat) = shared.chat(Some(self.max_tokens))?;
        if chat.ending == g::Ending::LastMessage && constraint.is_some() {
            let message = "A begun answer cannot be held to 'output_config.format', which is for whole answers.";
            return Err(not_honoured("output_config.format", message));
        }
        Ok(GenerateRequest {
            sampling: Sampling { temperature, top_p: self.top_p, top_k: self.top_k, ..Sampling::default() },
            stop: Stop {
                strings: self.stop_sequences.unwrap_or_default(),
                max_tokens: Some(self.max_tokens),
                ..Stop::default()
            },
            constraint,
            ..GenerateRequest::new(Some(model), Prompt::Chat(chat))
        })
    }
}

/// Checks a number that this dialect keeps between 0 and 1.
fn share(name: &str, value: f32) -> Result<f32, Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(Error::invalid(name, format!("{name} is {value}; it must be from 0 to 1.")))
}

impl ThinkingBody {
    /// The most tokens of thinking, where it is enabled.
    fn budget(&self) -> Option<u32> {
        self.budget_tokens.filter(|_| self.r#type == ThinkingKind::Enabled)
    }

    fn wish(self, max_tokens: Option<u32>) -> Result<Option<bool>, Error> {
        let fault = |message: String| Err(Error::invalid("thinking.budget_tokens", message));
        match (self.r#type, self.budget_tokens) {
            (ThinkingKind::Enabled, Some(budget)) if budget < BUDGET_MIN => {
                fault(format!("thinking.budget_tokens is {budget}; it must be at least {BUDGET_MIN}."))
            }
            (ThinkingKind::Enabled, Some(budget)) if max_tokens.is_some_and(|most| budget >= most) => {
                let most = max_tokens.unwrap_or_default();
                fault(format!("thinking.budget_tokens is {budget}; it must be below max_tokens, which is {most}."))
            }
            (ThinkingKind::Enabled, _) => Ok(Some(true)),
            (ThinkingKind::Disabled, _) => Ok(Some(false)),
            (ThinkingKind::Adaptive, _) => Ok(None),
        }
    }
}

/// Returns the shape of the answer, and the effort asked for under the name that templates know it by, in their words.
fn output(output: Map<String, Value>) -> Result<(Option<Constraint>, Option<g::Json>), Error> {
    let OutputBody { effort, format } = part("output_config", output)?;
    let word = effort.map(|effort| match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    });
    let effort = word.map(|word| g::Json(json!({ "reasoning_effort": word }).to_string()));
    Ok((format.map(|format| shape(&format)).transpose()?, effort))
}

/// Returns the shape that a format asks for; there is one kind.
fn shape(format: &Value) -> Result<Constraint, Error> {
    only("output_config.format", format, &["type", "schema"])?;
    match (format["type"].as_str(), &format["schema"]) {
        (Some("json_schema"), schema @ Value::Object(_)) => {
            Ok(Constraint::JsonSchema { schema: g::Json(schema.to_string()), strict: true })
        }
        _ => {
            Err(Error::invalid("output_config.format", "'output_config.format' is of type json_schema, with a schema."))
        }
    }
}

/// Accepts only edits that leave the conversation as it is: nothing of a prompt is ever dropped here.
fn keeps_everything(management: Option<Map<String, Value>>) -> Result<(), Error> {
    let harmless = |edit: &Value| edit["type"] == "clear_thinking_20251015" && edit["keep"] == "all";
    for (name, value) in management.into_iter().flatten() {
        let edits = value.as_array().filter(|_| name == "edits");
        if !edits.is_some_and(|edits| edits.iter().all(harmless)) {
            let param = format!("context_management.{name}");
            let message =
                format!("'{param}' asks for parts of the conversation to be dropped, which is not supported.");
            return Err(not_honoured(param, message));
        }
    }
    Ok(())
}

/// Returns the tools that the model is told of: those that are deferred only once a result refers to them.
fn tools(bodies: Vec<Map<String, Value>>, referenced: &[(String, String)]) -> Result<Vec<g::Tool>, Error> {
    let mut tools = Vec::new();
    for (at, body) in bodies.into_iter().enumerate() {
        tools.push(tool(&format!("tools[{at}]"), body)?);
    }
    for (at, name) in referenced {
        if !tools.iter().any(|(tool, _)| tool.name == *name) {
            let message = format!("'{at}' refers to the tool '{name}', which is not among 'tools'.");
            return Err(Error::invalid(at.clone(), message));
        }
    }
    tools.retain(|(tool, deferred)| !deferred || referenced.iter().any(|(_, name)| *name == tool.name));
    Ok(tools.into_iter().map(|(tool, _)| tool).collect())
}

/// Returns a tool, and whether the model is not told of it yet.
fn tool(at: &str, mut body: Map<String, Value>) -> Result<(g::Tool, bool), Error> {
    if let Some(kind) = body.remove("type").filter(|kind| !kind.is_null() && *kind != "custom") {
        let message = format!("Tools of type {kind} are run by Anthropic's servers and are not supported here.");
        return Err(Error::unsupported(at, message).hint("Define the tool with input_schema."));
    }
    for (name, usual) in TOOL_USUAL {
        let usual: Value = serde_json::from_str(usual).unwrap_or_default();
        accept_only(&format!("{at}.{name}"), body.remove(*name).as_ref(), &[usual])?;
    }
    let tool: ToolBody = part(at, body)?;
    let parameters = Some(g::Json(tool.input_schema.to_string()));
    let strict = tool.strict == Some(true);
    let told = g::Tool { name: tool.name, description: tool.description, parameters, strict };
    Ok((told, tool.defer_loading == Some(true)))
}

impl ToolChoiceBody {
    fn choice(self) -> Result<g::ToolChoice, Error> {
        match (self.r#type, self.name) {
            (ChoiceKind::Auto, _) => Ok(g::ToolChoice::Auto),
            (ChoiceKind::None, _) => Ok(g::ToolChoice::None),
            (ChoiceKind::Any, _) => Ok(g::ToolChoice::Required),
            (ChoiceKind::Tool, Some(name)) => Ok(g::ToolChoice::Named(name)),
            (ChoiceKind::Tool, None) => {
                Err(Error::invalid("tool_choice.name", "A tool_choice of type 'tool' needs the tool's name."))
            }
        }
    }
}

#[cfg(test)]
mod tests;
