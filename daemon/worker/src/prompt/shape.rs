//! The grammar that an answer is held to, from what a request asks for and what its model's formats are.
//!
//! A forced call is written in the model's own format, with arguments of its tool's schema. Reasoning comes first and is
//! free. An answer that nothing constrains has no grammar at all. Only `prompt` calls this.

use engine::text::{Grammar, GrammarError, Shape};
use protocol::generation::{Chat, Constraint, Json, Tool, ToolChoice};
use protocol::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::output::{Functions, HarmonyForm, Place, ReasoningTags, ToolFormat};

/// The most calls of one answer.
const CALLS_MAX: u32 = 64;

/// How a model writes what is not text.
#[derive(Clone, Copy, Default)]
pub struct Formats {
    /// How it marks its reasoning, if it may reason.
    pub reasoning: Option<ReasoningTags>,
    /// Whether it may mark it in a way that its template does not show.
    pub may_reason: bool,
    /// Whether it was asked to put its answer between tags.
    pub wrapped: bool,
    /// How it writes calls, if it is shown tools.
    pub tools: Option<ToolFormat>,
    /// Whether it answers in the harmony form.
    pub harmony: bool,
    /// Whether an answer goes on with what is in its prompt.
    pub begun: bool,
}

/// The grammar of an answer to a conversation; `None` leaves it free.
pub fn of_chat(
    chat: &Chat,
    shown: bool,
    constraint: Option<&Constraint>,
    formats: Formats,
) -> Result<Option<Grammar>, Error> {
    let answer = constraint.map(of_constraint).transpose()?;
    let forced = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let strict = chat.tools.iter().any(|tool| tool.strict);
    if formats.harmony {
        let held = forced || strict || answer.is_some();
        if formats.begun {
            return begun_in_harmony(chat, shown && forced, answer);
        }
        // Where thoughts may be cut short, only a grammar keeps what follows them a call or an answer.
        let cut = chat.thinking == Some(false) || chat.thinking_budget.is_some();
        let calls = if shown && (held || cut) { callable(chat)? } else { Vec::new() };
        let calls = calls.into_iter().map(|tool| harmony_call(tool, held)).collect::<Result<_, Error>>()?;
        return Ok(in_harmony(calls, forced, answer));
    }
    let limited = forced || chat.single_tool_call || answer.is_some() || strict;
    // A call that nobody can tell from text would be no call, whether it is forced or not.
    let format = shown.then(|| formats.tools.ok_or_else(unknown_format)).transpose()?;
    let whole = match format.filter(|_| limited) {
        Some(format) => {
            let calls = Calls { format, tools: callable(chat)?, most: most(chat) };
            Some(calls.grammar(forced, answer)?)
        }
        None => answer,
    };
    Ok(whole.map(|whole| after_reasoning(whole, chat, formats.reasoning)))
}

/// The grammar of an answer in the harmony form, in which one turn makes one call at most.
fn in_harmony(calls: Vec<Grammar>, forced: bool, answer: Option<Grammar>) -> Option<Grammar> {
    if calls.is_empty() && answer.is_none() {
        return None;
    }
    let answer = (!forced || calls.is_empty()).then(|| HarmonyForm::answer(answer));
    Some(HarmonyForm::after_reasoning(Grammar::Either(calls.into_iter().chain(answer).collect())))
}

/// A call in the harmony form; one that nothing is `held` to has any object as its arguments.
fn harmony_call(tool: &Tool, held: bool) -> Result<Grammar, Error> {
    let schema = if held { arguments(tool)? } else { json!({ "type": "object" }) };
    Ok(HarmonyForm::call(&tool.name, &schema, held && tool.strict))
}

/// The grammar of the rest of an answer in the harmony form: a call that is forced, or more of the answer.
fn begun_in_harmony(chat: &Chat, forced: bool, answer: Option<Grammar>) -> Result<Option<Grammar>, Error> {
    if !forced {
        return Ok(answer);
    }
    let calls = callable(chat)?.into_iter().map(|tool| harmony_call(tool, true)).collect::<Result<_, Error>>()?;
    Ok(Some(HarmonyForm::after_answer(Grammar::Either(calls))))
}

/// What a constraint asks for, as a grammar.
pub fn of_constraint(constraint: &Constraint) -> Result<Grammar, Error> {
    Ok(Grammar::Shape(match constraint {
        Constraint::JsonSchema { schema, strict } => {
            Shape::Json { schema: value(schema, "constraint")?, strict: *strict }
        }
        Constraint::JsonObject => Shape::Json { schema: json!({ "type": "object" }), strict: true },
        Constraint::Regex(regex) => Shape::Regex(regex.clone()),
        Constraint::Choice(texts) => Shape::Choice(texts.clone()),
        Constraint::Lark(lark) => Shape::Lark(lark.clone()),
    }))
}

/// The functions that a conversation's answer may call.
pub fn functions(chat: &Chat) -> Functions {
    let schema = |tool: &Tool| serde_json::from_str(&tool.parameters.as_ref()?.0).ok();
    let schemas: Vec<(&str, Value)> =
        chat.tools.iter().map(|tool| (tool.name.as_str(), schema(tool).unwrap_or_default())).collect();
    Functions::of(schemas.iter().map(|(name, schema)| (*name, schema)))
}

/// Why a grammar does not compile, in the protocol's words.
pub fn refusal(error: &GrammarError, chat: Option<&Chat>, constraint: Option<&Constraint>) -> Error {
    let kind = match error {
        GrammarError::NotEnforced { .. } => ErrorKind::Unsupported,
        GrammarError::Busy => ErrorKind::Busy,
        _ => ErrorKind::Invalid,
    };
    // Shapes of tools are compiled together with the constraint, so the one at fault is known where there is only one.
    let tools = chat.is_some_and(|chat| !chat.tools.is_empty());
    let param = if constraint.is_none() && tools { "tools" } else { "constraint" };
    let refused = Error::new(kind, error.to_string()).param(param);
    match error {
        GrammarError::NotEnforced { .. } => refused.hint("leave it out of the schema, or do not ask for strictness"),
        GrammarError::Busy => refused.retry_after_ms(1_000),
        _ => refused,
    }
}

fn unknown_format() -> Error {
    let message = "the way this model writes tool calls is not known here, so its calls would be text";
    Error::new(ErrorKind::Unsupported, message)
        .param("tools")
        .hint("send no tools, or the tool choice none, or choose a model that calls tools")
}

fn most(chat: &Chat) -> u32 {
    if chat.single_tool_call || matches!(chat.tool_choice, ToolChoice::Named(_)) { 1 } else { CALLS_MAX }
}

/// The tools that may be called.
fn callable(chat: &Chat) -> Result<Vec<&Tool>, Error> {
    let wanted = |tool: &&Tool| match &chat.tool_choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let tools: Vec<&Tool> = chat.tools.iter().filter(wanted).collect();
    if tools.is_empty() {
        let message = match &chat.tool_choice {
            ToolChoice::Named(name) => format!("tool_choice names {name:?}, which is not among the tools"),
            _ => "tool_choice asks for a call, and there are no tools".to_string(),
        };
        return Err(Error::invalid("tool_choice", message));
    }
    Ok(tools)
}

/// Calls in a model's own format.
struct Calls<'a> {
    format: ToolFormat,
    tools: Vec<&'a Tool>,
    most: u32,
}

impl Calls<'_> {
    /// Calls and nothing else if they are forced; otherwise calls, or an answer that may be free.
    fn grammar(&self, forced: bool, answer: Option<Grammar>) -> Result<Grammar, Error> {
        let each = self.tools.iter().map(|tool| {
            let call = self.format.call(&tool.name, &arguments(tool)?, tool.strict);
            call.map_err(|feature| not_enforced(tool, &feature))
        });
        let call = Grammar::Either(each.collect::<Result<_, Error>>()?);
        let calls = self.format.calls(call.clone(), self.most);
        Ok(match (forced, answer) {
            (true, _) => calls,
            (false, Some(answer)) => Grammar::Either(vec![calls, answer]),
            (false, None) => self.format.calls_in_text(call, self.most),
        })
    }
}

/// Why a tool's calls cannot be held to its schema in the way that this model writes calls.
fn not_enforced(tool: &Tool, feature: &str) -> Error {
    let message =
        format!("the schema of {} asks for {feature}, which is not enforced in this model's calls", tool.name);
    Error::new(ErrorKind::Unsupported, message).param("tools").hint("leave it out of the schema, or do not force calls")
}

/// The schema of a tool's arguments, which are an object in any case.
fn arguments(tool: &Tool) -> Result<Value, Error> {
    let mut schema = match &tool.parameters {
        Some(parameters) if !parameters.0.trim().is_empty() => match value(parameters, "tools")? {
            Value::Object(schema) => schema,
            _ => return Err(Error::invalid("tools", format!("the parameters of {} are no schema", tool.name))),
        },
        _ => Map::new(),
    };
    if schema.is_empty() {
        // A function that names no parameters has none, as OpenAI says it.
        schema.insert("properties".to_string(), json!({}));
    }
    schema.entry("type").or_insert(json!("object"));
    if schema["type"] != "object" {
        return Err(Error::invalid("tools", format!("the parameters of {} must be of type object", tool.name)));
    }
    Ok(Value::Object(schema))
}

/// The grammar of an answer that reasoning may go before.
fn after_reasoning(answer: Grammar, chat: &Chat, tags: Option<ReasoningTags>) -> Grammar {
    let Some(tags) = tags else { return answer };
    let space = Grammar::Shape(Shape::Regex("\n{0,2}".to_string()));
    let rest = Grammar::Until(tags.close.to_string());
    if tags.place != Place::Start {
        return Grammar::Sequence(vec![rest, space, answer]);
    }
    if chat.thinking == Some(false) {
        return answer;
    }
    // GLM begins a line for it.
    let line = Grammar::Optional(Box::new(Grammar::Text("\n".to_string())));
    let thought = Grammar::Sequence(vec![line, Grammar::Text(tags.open.to_string()), rest, space]);
    Grammar::Sequence(vec![Grammar::Optional(Box::new(thought)), answer])
}

fn value(json: &Json, param: &str) -> Result<Value, Error> {
    serde_json::from_str(&json.0).map_err(|error| Error::invalid(param, format!("the schema is not JSON: {error}")))
}
