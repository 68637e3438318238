//! The grammar that an answer is held to, from what a request asks for and what its model's formats are.
//!
//! A forced call is written in the model's own format, with arguments of its tool's schema. Reasoning comes first and is
//! free. An answer that nothing constrains has no grammar at all. Only `prompt` calls this.

use std::collections::HashSet;

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

/// What an answer is held to.
pub struct Held<'a> {
    /// All of it.
    pub grammar: Grammar,
    /// What it is made of, where some tool is not strict and may so be given up.
    pub lenient: Option<Asked<'a>>,
    /// Whether the answer is free until it calls something.
    pub lazily: bool,
    /// Whether nothing but calls may come.
    pub calls_only: bool,
    /// Whether some tool is strict.
    pub strictly: bool,
}

impl Held<'_> {
    /// A grammar from the first token on, and nothing else in its place.
    pub fn wholly(grammar: Grammar) -> Self {
        Self { grammar, lenient: None, lazily: false, calls_only: false, strictly: true }
    }
}

/// What an answer to a conversation is held to; `None` leaves it free. Where tools may be called and need not, it is free
/// until it calls one.
pub fn of_chat<'a>(
    chat: &'a Chat,
    shown: bool,
    constraint: Option<&Constraint>,
    formats: Formats,
) -> Result<Option<Held<'a>>, Error> {
    let answer = constraint.map(of_constraint).transpose()?;
    let forced = shown && matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let strictly = chat.tools.iter().any(|tool| tool.strict);
    let lazily = shown && !forced && answer.is_none();
    // A call that nobody can tell from text would be no call, whether it is forced or not.
    if shown && !formats.harmony && formats.tools.is_none() {
        return Err(unknown_format());
    }
    let ask = Asked { chat, formats, forced, lazily, loose: HashSet::new(), answer };
    let whole = match shown {
        true => ask.clone().with_calls()?,
        false => ask.clone().without_calls(formats.harmony),
    };
    let lenient = shown && chat.tools.iter().any(|tool| !tool.strict);
    let held = |grammar| Held { grammar, lenient: lenient.then_some(ask), lazily, calls_only: forced, strictly };
    Ok(whole.map(held))
}

/// What a conversation asks of its answer.
#[derive(Clone)]
pub struct Asked<'a> {
    chat: &'a Chat,
    formats: Formats,
    forced: bool,
    lazily: bool,
    /// The tools whose arguments may be any.
    loose: HashSet<&'a str>,
    answer: Option<Grammar>,
}

impl<'a> Asked<'a> {
    /// The tools that may be called and need not be held to their schemas.
    pub fn lenient(&self) -> Result<Vec<&'a Tool>, Error> {
        let mut tools = callable(self.chat)?;
        tools.retain(|tool| !tool.strict);
        Ok(tools)
    }

    /// One call of one tool.
    pub fn one_call(&self, tool: &Tool) -> Result<Grammar, Error> {
        match self.formats.tools {
            Some(format) if !self.formats.harmony => self.call(format, tool),
            _ => self.call_in_harmony(tool),
        }
    }

    /// All of it with any arguments for these tools.
    pub fn loosened(&self, loose: HashSet<&'a str>) -> Result<Option<Grammar>, Error> {
        Self { loose, ..self.clone() }.with_calls()
    }

    /// An answer in which something may be called, or must be.
    fn with_calls(self) -> Result<Option<Grammar>, Error> {
        if self.formats.harmony { self.in_harmony() } else { self.calls().map(Some) }
    }

    /// An answer in which nothing is called.
    fn without_calls(self, harmony: bool) -> Option<Grammar> {
        let answer = self.answer?;
        Some(match harmony {
            true if self.formats.begun => answer,
            true => HarmonyForm::after_reasoning(HarmonyForm::answer(Some(answer))),
            false => after_reasoning(answer, self.chat, self.formats.reasoning),
        })
    }

    /// In the harmony form, in which one turn makes one call at most.
    fn in_harmony(self) -> Result<Option<Grammar>, Error> {
        if self.formats.begun && !self.forced {
            return Ok(self.answer);
        }
        let tools = callable(self.chat)?.into_iter();
        let calls: Vec<Grammar> = tools.map(|tool| self.call_in_harmony(tool)).collect::<Result<_, Error>>()?;
        Ok(Some(match self.formats.begun {
            true => HarmonyForm::after_answer(Grammar::Either(calls)),
            false if self.lazily => HarmonyForm::freely(calls),
            false => {
                let answer = (!self.forced).then(|| HarmonyForm::answer(self.answer));
                HarmonyForm::after_reasoning(Grammar::Either(calls.into_iter().chain(answer).collect()))
            }
        }))
    }

    /// Calls and nothing else if they are forced; otherwise calls, or an answer that may be free.
    fn calls(self) -> Result<Grammar, Error> {
        let Formats { tools: Some(format), reasoning, may_reason, .. } = self.formats else {
            return Err(unknown_format());
        };
        let tools = callable(self.chat)?;
        let each = tools.iter().map(|tool| self.call(format, tool));
        let call = Grammar::Either(each.collect::<Result<_, Error>>()?);
        let calls = |call| format.calls(call, most(self.chat));
        if self.lazily {
            let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            let tags = reasoning.or(may_reason.then_some(ReasoningTags::UNSAID));
            let text = format.calls_in_text(call, most(self.chat), &names);
            return Ok(match tags {
                Some(tags) => perhaps_after_reasoning(text, tags),
                None => text,
            });
        }
        let whole = match self.answer.filter(|_| !self.forced) {
            Some(answer) => Grammar::Either(vec![calls(call), answer]),
            None => calls(call),
        };
        Ok(after_reasoning(whole, self.chat, reasoning))
    }

    fn call_in_harmony(&self, tool: &Tool) -> Result<Grammar, Error> {
        Ok(HarmonyForm::call(&tool.name, &self.arguments(tool)?, tool.strict))
    }

    fn call(&self, format: ToolFormat, tool: &Tool) -> Result<Grammar, Error> {
        if self.loose.contains(tool.name.as_str()) {
            return Ok(format.any_call(&tool.name));
        }
        match format.call(&tool.name, &self.arguments(tool)?, tool.strict) {
            Err(_) if !tool.strict => Ok(format.any_call(&tool.name)),
            call => call.map_err(|feature| not_enforced(tool, &feature)),
        }
    }

    /// The schema of a tool's arguments; what is no schema allows any, unless the arguments must fit.
    fn arguments(&self, tool: &Tool) -> Result<Value, Error> {
        let any = json!({ "type": "object" });
        match arguments(tool) {
            _ if self.loose.contains(tool.name.as_str()) => Ok(any),
            Err(_) if self.lazily && !tool.strict => Ok(any),
            schema => schema,
        }
    }
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

/// The same where thoughts may also be left open, as a model that is free to end may do.
fn perhaps_after_reasoning(answer: Grammar, tags: ReasoningTags) -> Grammar {
    let space = Grammar::Shape(Shape::Regex("\n{0,2}".to_string()));
    let rest = Grammar::UntilWithout(tags.close.to_string(), Vec::new());
    let left_open = Grammar::Without(vec![tags.close.to_string()]);
    if tags.place != Place::Start {
        return Grammar::Either(vec![Grammar::Sequence(vec![rest, space, answer]), left_open]);
    }
    let line = Grammar::Shape(Shape::Regex("\n?".to_string()));
    let open = |after: Vec<Grammar>| {
        let before = [line.clone(), Grammar::Text(tags.open.to_string())];
        Grammar::Sequence(before.into_iter().chain(after).collect())
    };
    // In thoughts anything may stand that begins a call elsewhere, so an answer does not begin as they do.
    let other = Grammar::NotFirst(tags.open.to_string(), Box::new(answer.clone()));
    Grammar::Either(vec![open(vec![rest, space, answer]), open(vec![left_open]), other])
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
