//! What clients send for a response, and how it becomes a `GenerateRequest` and the response that will answer it.

use protocol::client::Client;
use protocol::generation::{self as g, Chat, GenerateRequest, Prompt, Sampling, Stop};
use protocol::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::background::Background;
use super::input::{Turns, complete};
use super::kept::{Keeping, dereference, history};
use super::object::{Response, Status};
use super::tools::{Tools, flat};
use crate::body::{Members, accept_only, only};
use crate::ids::new_id;
use crate::openai::chat::only_allowed;
use crate::openai::effort::{Effort, template_arguments};
use crate::openai::labels::Labels;
use crate::openai::request::{Shared, Urgency, all_or_count};
use crate::openai::shape;
use crate::sampling::alternatives;
use crate::time::now_s;

/// The members of a request; each has an effect or is a label that is defined to have none.
pub const KNOWN: &[&[&str]] = &[PROMPT, OWN, DRAWING];

/// Members of other servers, and of chat completions, that say how tokens are drawn.
const DRAWING: &[&str] =
    &["seed", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"];

/// The members of a request that only asks how long its prompt is.
pub const COUNT: &[&[&str]] = &[PROMPT];

/// Members that say what a prompt is made of.
const PROMPT: &[&str] = &[
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
];

const OWN: &[&str] = &[
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_logprobs",
    "include",
    "store",
    "stream",
    "stream_options",
    "context_management",
    "background",
    "metadata",
    "client_metadata",
    "user",
    "safety_identifier",
    "service_tier",
    "priority",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
];

/// Members that a response repeats as they were sent, and what it says where they were not.
const ECHOED: &[(&str, &str)] = &[
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("safety_identifier", "null"),
    ("store", "true"),
    ("temperature", "null"),
    ("text", r#"{"format": {"type": "text"}}"#),
    ("tool_choice", "\"auto\""),
    ("top_logprobs", "0"),
    ("top_p", "null"),
    ("user", "null"),
];

/// What a response may include besides.
const INCLUDED: &[&str] = &[LOGPROBS, THOUGHTS];
const LOGPROBS: &str = "message.output_text.logprobs";
const THOUGHTS: &str = "reasoning.encrypted_content";

#[derive(Debug, Deserialize, ToSchema)]
pub struct Body {
    model: Option<String>,
    input: Value,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    tools: Option<Vec<Map<String, Value>>>,
    tool_choice: Option<ToolChoiceBody>,
    parallel_tool_calls: Option<bool>,
    reasoning: Option<ReasoningBody>,
    text: Option<TextBody>,
    #[serde(default, deserialize_with = "all_or_count")]
    #[schema(minimum = -1)]
    max_output_tokens: Option<u32>,
    #[serde(skip)]
    sampling: Sampling,
    #[serde(default, deserialize_with = "alternatives")]
    #[schema(maximum = 20)]
    top_logprobs: Option<u8>,
    include: Option<Vec<String>>,
    store: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<Value>,
    /// Only an empty list.
    context_management: Option<Value>,
    background: Option<bool>,
    truncation: Option<Value>,
    service_tier: Option<Value>,
    priority: Option<Urgency>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseToolChoice)]
#[serde(untagged, expecting = "expected a word or an object that names a function")]
enum ToolChoiceBody {
    Mode(String),
    Kind(Map<String, Value>),
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseReasoning)]
#[serde(deny_unknown_fields)]
struct ReasoningBody {
    effort: Option<Effort>,
    #[serde(alias = "generate_summary")]
    summary: Option<Summary>,
}

/// How long a summary is to be; thoughts are given whole.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = ReasoningSummary)]
#[serde(rename_all = "lowercase")]
enum Summary {
    Auto,
    Concise,
    Detailed,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ResponseText)]
#[serde(deny_unknown_fields)]
struct TextBody {
    format: Option<Value>,
    verbosity: Option<Value>,
}

/// A response that is asked for.
pub struct Asked {
    /// What the model is asked.
    pub request: GenerateRequest,
    /// The response, before anything came of it.
    pub response: Response,
    /// What is to be kept with it, if it is to be kept.
    pub stored: Option<Keeping>,
    /// Whether its events are streamed.
    pub streams: bool,
    /// Whether it is made after its request was answered.
    pub background: bool,
}

impl Asked {
    /// Reads a request of members that are `known`, and what it goes on from.
    pub async fn read(
        body: &axum::body::Bytes,
        known: &[&[&str]],
        client: &Client,
        background: &Background,
    ) -> Result<Self> {
        let members = Members::read(body, known)?;
        let mut body = Body::read(&members)?;
        dereference(client, &mut body.input).await?;
        let before = history(client, background, body.previous_response_id.clone()).await?;
        Self::after(before, &members.part()?, body)
    }

    /// Makes a request of a body, `echo` as it was sent, that goes on from the items before it.
    pub fn after(before: Vec<Value>, echo: &Map<String, Value>, mut body: Body) -> Result<Self> {
        let mut turns = Turns::new(body.instructions.as_deref());
        for item in before {
            turns.read("previous_response_id", item)?;
        }
        let input = complete(body.input.clone())?;
        for (at, item) in input.iter().enumerate() {
            turns.read(&format!("input[{at}]"), item.clone())?;
        }
        let (streams, background) = (body.stream.unwrap_or(false), body.background.unwrap_or(false));
        let stored = body.store.unwrap_or(true).then_some(Keeping { input });
        if background && stored.is_none() {
            return Err(Error::invalid("store", "A response made in the background must be stored to be found again."));
        }
        let Tools { offered, shown, .. } = Tools::read(body.tools.take().unwrap_or_default())?;
        let response = body.response(echo, shown);
        Ok(Self { request: body.request(turns.end(), offered)?, response, stored, streams, background })
    }
}

impl Body {
    /// Reads what stands for itself.
    pub fn read(members: &Members) -> Result<Self> {
        Labels::check(members)?;
        let sampling = members.part::<Shared>()?.sampling()?;
        let body = Self { sampling, ..members.part()? };
        body.check()?;
        Ok(body)
    }

    /// Refuses what would have no effect.
    fn check(&self) -> Result<()> {
        accept_only("truncation", self.truncation.as_ref(), &[json!("disabled")])?;
        accept_only("context_management", self.context_management.as_ref(), &[json!([])])?;
        accept_only("service_tier", self.service_tier.as_ref(), &[json!("auto"), json!("default")])?;
        accept_only(
            "stream_options",
            self.stream_options.as_ref(),
            &[json!({}), json!({"include_obfuscation": false})],
        )?;
        if self.stream_options.is_some() && self.stream != Some(true) {
            return Err(Error::invalid("stream_options", "'stream_options' needs 'stream': true."));
        }
        if let Some(text) = &self.text {
            accept_only("text.verbosity", text.verbosity.as_ref(), &[json!("medium")])?;
        }
        self.include.iter().flatten().try_for_each(|wish| included(wish.clone()).map(drop))
    }

    fn includes(&self, wish: &str) -> bool {
        self.include.iter().flatten().any(|wished| wished == wish)
    }

    fn request(self, messages: Vec<g::Message>, mut tools: Vec<g::Tool>) -> Result<GenerateRequest> {
        let wants_logprobs = self.includes(LOGPROBS);
        let (tool_choice, allowed) = self.tool_choice.map_or(Ok((g::ToolChoice::Auto, None)), ToolChoiceBody::read)?;
        if let Some(allowed) = allowed {
            only_allowed(&mut tools, &allowed)?;
        }
        if tools.is_empty() && tool_choice == g::ToolChoice::Required {
            return Err(Error::invalid("tool_choice", "'tool_choice' needs a function among the 'tools'."));
        }
        let single_tool_call = self.parallel_tool_calls == Some(false) && !tools.is_empty();
        let format = self.text.as_ref().and_then(|text| text.format.as_ref());
        let constraint = format.map(shaped).transpose()?.flatten();
        let effort = self.reasoning.as_ref().and_then(|asked| asked.effort);
        let thinking = (effort == Some(Effort::None)).then_some(false);
        let thinking_budget = effort.and_then(Effort::budget);
        let template_arguments = template_arguments(None, effort);
        let chat = Chat {
            messages,
            tools,
            tool_choice,
            single_tool_call,
            thinking,
            thinking_budget,
            template_arguments,
            ..Chat::default()
        };
        Ok(GenerateRequest {
            sampling: self.sampling,
            stop: Stop { max_tokens: self.max_output_tokens, ..Stop::default() },
            logprobs: self.top_logprobs.filter(|count| *count > 0).or(wants_logprobs.then_some(0)),
            constraint,
            priority: self.priority.unwrap_or_default().into(),
            ..GenerateRequest::new(self.model, Prompt::Chat(chat))
        })
    }

    /// Returns the response before anything came of it.
    fn response(&self, sent: &Map<String, Value>, tools: Vec<Value>) -> Response {
        let mut asked = Map::new();
        for (name, absent) in ECHOED {
            let absent = || serde_json::from_str(absent).unwrap_or_default();
            asked.insert((*name).to_owned(), sent.get(*name).cloned().unwrap_or_else(absent));
        }
        let (effort, summary) = self.reasoning.as_ref().map_or((None, None), |asked| (asked.effort, asked.summary));
        asked.insert("reasoning".to_owned(), json!({ "effort": effort, "summary": summary }));
        asked.insert("service_tier".to_owned(), json!("default"));
        asked.insert("truncation".to_owned(), json!("disabled"));
        asked.insert("tools".to_owned(), tools.into());
        Response {
            id: new_id("resp_"),
            object: "response",
            created_at: now_s(),
            completed_at: None,
            status: Status::Queued,
            background: self.background.unwrap_or(false),
            error: None,
            incomplete_details: None,
            model: self.model.clone().unwrap_or_default(),
            output: Vec::new(),
            usage: None,
            holds_thoughts: self.includes(THOUGHTS),
            asked,
        }
    }
}

/// Returns a wish that a response may include something, if it may.
pub fn included(wish: String) -> Result<String> {
    if INCLUDED.contains(&wish.as_str()) {
        return Ok(wish);
    }
    let message = format!("'include' cannot hold '{wish}' here.");
    Err(Error::unsupported("include", message).hint("Leave it out."))
}

/// Returns what the answer is held to.
fn shaped(format: &Value) -> Result<Option<g::Constraint>> {
    let known: Vec<&str> = shape::NAMED.iter().copied().chain(["type"]).collect();
    only("text.format", format, &known)?;
    shape::of_format("text.format", format, "text.format", format)
}

impl ToolChoiceBody {
    /// Returns the choice, and the names it is limited to, if it is.
    fn read(self) -> Result<(g::ToolChoice, Option<Vec<String>>)> {
        let body = match self {
            Self::Mode(mode) => return Ok((mode_of("tool_choice", &mode)?, None)),
            Self::Kind(body) => body,
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        match (text("type"), text("name")) {
            (Some("function"), Some(name)) => Ok((g::ToolChoice::Named(flat(text("namespace"), name)), None)),
            (Some("function"), None) => {
                Err(Error::invalid("tool_choice.name", "A choice of a function needs its name."))
            }
            (Some("allowed_tools"), _) => {
                let allowed = body.get("tools").and_then(Value::as_array).into_iter().flatten();
                // Those of other kinds are not offered in any case.
                let functions = allowed.filter(|tool| tool["type"] == "function");
                let named = |tool: &Value| Some(flat(tool["namespace"].as_str(), tool["name"].as_str()?));
                let names = functions.filter_map(named).collect();
                Ok((mode_of("tool_choice.mode", text("mode").unwrap_or("auto"))?, Some(names)))
            }
            (kind, _) => {
                let kind = kind.map_or_else(|| "without a type".to_owned(), |kind| format!("of type '{kind}'"));
                let message = format!("'tool_choice' cannot be {kind} here; only functions can be chosen.");
                Err(Error::unsupported("tool_choice", message))
            }
        }
    }
}

fn mode_of(param: &str, mode: &str) -> Result<g::ToolChoice> {
    match mode {
        "auto" => Ok(g::ToolChoice::Auto),
        "none" => Ok(g::ToolChoice::None),
        "required" => Ok(g::ToolChoice::Required),
        other => {
            let message = format!("'{param}' cannot be '{other}'; it is auto, none, required or a function.");
            Err(Error::invalid(param, message))
        }
    }
}

#[cfg(test)]
mod tests;
