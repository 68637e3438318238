//! A conversation in the form that chat templates of the Hugging Face hub read.
//!
//! Templates expect the JSON of the OpenAI dialect with one difference: the arguments of a tool call are an object, not
//! text. Nothing is left out or trimmed; what is malformed, or cannot be continued, is refused by name. Only `prompt` calls this.

use std::collections::HashSet;

use engine::text::Template;
use protocol::generation::{Chat, Ending, Json, Message, Role, Tool, ToolChoice};
use protocol::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use super::habits::Habits;
use super::shape::Formats;
use super::shown::not_shown;
use crate::output::{Place, ReasoningTags};

/// Variables that a conversation, or the language of templates, sets itself.
const RESERVED: [&str; 6] =
    ["messages", "tools", "add_generation_prompt", "raise_exception", "strftime_now", "namespace"];
/// Variables about reasoning that clients send to every model. A wish that cannot be granted is refused elsewhere.
const FOR_ALL: [&str; 3] = ["enable_thinking", "thinking", "reasoning_effort"];
/// What templates call the variable that switches reasoning on and off.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// The messages as a template of these habits reads them.
pub fn messages(chat: &Chat, habits: &Habits) -> Result<Value, Error> {
    let turns = turns(chat);
    if turns.is_empty() {
        return Err(Error::invalid("messages", "messages is empty; a conversation has at least one turn"));
    }
    turns.iter().enumerate().map(|(index, turn)| message(index, turn, habits)).collect()
}

fn message(index: usize, message: &Message, habits: &Habits) -> Result<Value, Error> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut turn = Map::new();
    turn.insert("role".to_string(), json!(role));
    turn.insert("content".to_string(), json!(message.content));
    if let Some(reasoning) = &message.reasoning {
        habits.add_reasoning(&mut turn, message, reasoning);
    }
    if let Some(id) = &message.tool_call_id {
        turn.insert("tool_call_id".to_string(), json!(habits.call_id(id)));
    }
    if let Some(name) = &message.name {
        turn.insert("name".to_string(), json!(name));
    }
    if !message.tool_calls.is_empty() {
        let calls: Result<Value, Error> = message
            .tool_calls
            .iter()
            .map(|call| {
                let arguments = object(&call.arguments, || format!("messages[{index}].tool_calls"))?;
                Ok(json!({ "id": habits.call_id(&call.id), "type": "function",
                           "function": { "name": call.name, "arguments": arguments } }))
            })
            .collect();
        turn.insert("tool_calls".to_string(), calls?);
    }
    Ok(Value::Object(turn))
}

/// The turns that are rendered. An answer that was begun with nothing is a new one.
fn turns(chat: &Chat) -> &[Message] {
    let is_nothing = |last: &Message| *last == Message::new(Role::Assistant, "");
    match chat.messages.split_last() {
        Some((last, rest)) if chat.ending == Ending::LastMessage && is_nothing(last) => rest,
        _ => &chat.messages,
    }
}

/// The beginning of the answer, where the conversation ends with one that is to be continued.
pub fn begun(chat: &Chat) -> Result<Option<&str>, Error> {
    if chat.ending != Ending::LastMessage || turns(chat).len() < chat.messages.len() {
        return Ok(None);
    }
    match chat.messages.last() {
        Some(Message { role: Role::Assistant, tool_calls, content, .. }) if tool_calls.is_empty() => Ok(Some(content)),
        Some(Message { role: Role::Assistant, .. }) => {
            let message = "messages ends with a call of a tool, which cannot be continued";
            Err(Error::invalid("messages", message).hint("send the call's result"))
        }
        _ => {
            let message = "messages does not end with a message of the assistant, so there is nothing to continue";
            Err(Error::invalid("messages", message))
        }
    }
}

/// Refuses a wish about thinking that the template cannot grant; `reasons` says what the model does by itself. Where it is known
/// what closes thoughts, a budget of none closes them before they begin.
pub fn check_thinking(chat: &Chat, template: &Template, name: &str, reasons: bool) -> Result<(), Error> {
    let has_switch = || template.mentions("enable_thinking") || template.reads("thinking");
    match chat.thinking {
        Some(false) if template.is_harmony() || ReasoningTags::detect(template.source(), "").is_some() => Ok(()),
        Some(thinking) if thinking != reasons && !has_switch() => {
            let can = if thinking { "does not reason" } else { "always reasons" };
            let message = format!("{name} {can} before it answers, and its template has no switch for it");
            Err(Error::new(ErrorKind::Unsupported, message).param("thinking").hint("leave thinking out"))
        }
        _ => Ok(()),
    }
}

/// Refuses a wish for thoughts before an answer that is past them.
pub fn check_begun_thinking(chat: &Chat, formats: &Formats) -> Result<(), Error> {
    let inside = formats.reasoning.is_some_and(|tags| tags.place != Place::Start);
    if !formats.begun || chat.thinking != Some(true) || inside {
        return Ok(());
    }
    let message = "thinking is asked for, and the last message, which is to be continued, has begun the answer";
    Err(Error::new(ErrorKind::Unsupported, message).param("thinking").hint("leave thinking out"))
}

/// The tools that the model is shown, as templates read them; `None` shows none.
pub fn tools(chat: &Chat, template_shows_tools: bool) -> Result<Option<Value>, Error> {
    check_names(&chat.tools)?;
    if chat.tools.is_empty() || chat.tool_choice == ToolChoice::None {
        return Ok(None);
    }
    if !template_shows_tools {
        return Err(not_shown());
    }
    chat.tools.iter().enumerate().map(|(index, shown)| tool(index, shown)).collect::<Result<Value, Error>>().map(Some)
}

/// Refuses tools that a call could not name, or not tell apart.
fn check_names(tools: &[Tool]) -> Result<(), Error> {
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let param = format!("tools[{index}].name");
        if tool.name.trim().is_empty() {
            return Err(Error::invalid(&param, format!("{param} is empty; a tool is called by its name")));
        }
        if !names.insert(tool.name.as_str()) {
            let message = format!("{param} is {:?}, and an earlier tool has that name", tool.name);
            return Err(Error::invalid(&param, message));
        }
    }
    Ok(())
}

fn tool(index: usize, tool: &Tool) -> Result<Value, Error> {
    let mut function = Map::new();
    function.insert("name".to_string(), json!(tool.name));
    if let Some(description) = &tool.description {
        function.insert("description".to_string(), json!(description));
    }
    let parameters = match &tool.parameters {
        Some(parameters) => Value::Object(object(parameters, || format!("tools[{index}].parameters"))?),
        None => json!({ "type": "object", "properties": {} }),
    };
    function.insert("parameters".to_string(), parameters);
    Ok(json!({ "type": "function", "function": function }))
}

/// The template's further variables; one that it does not read is refused.
pub fn arguments(chat: &Chat, template: &Template) -> Result<Map<String, Value>, Error> {
    let mut arguments = match &chat.template_arguments {
        Some(arguments) => object(arguments, || "template_arguments".to_string())?,
        None => Map::new(),
    };
    let read = |name: &str| template.source().contains(name) || template.tool_source().contains(name);
    for name in arguments.keys() {
        let problem = if RESERVED.contains(&name.as_str()) {
            "which the conversation itself sets"
        } else if name.ends_with("_token") {
            "which the model's own files set"
        } else if !read(name) && !FOR_ALL.contains(&name.as_str()) {
            "which the model's chat template does not read"
        } else {
            continue;
        };
        let message = format!("template_arguments holds {name}, {problem}");
        return Err(Error::invalid("template_arguments", message).hint(format!("leave {name} out of it")));
    }
    let Some(thinking) = chat.thinking else { return Ok(arguments) };
    for switch in SWITCHES {
        if arguments.get(switch).is_some_and(|other| *other != json!(thinking)) {
            let message = format!("thinking is {thinking}, and template_arguments sets {switch} otherwise");
            return Err(Error::invalid("template_arguments", message).hint("send one of the two"));
        }
        arguments.insert(switch.to_string(), json!(thinking));
    }
    Ok(arguments)
}

fn object(json: &Json, param: impl Fn() -> String) -> Result<Map<String, Value>, Error> {
    // An empty text is how some clients send a call without arguments.
    if json.0.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(&json.0) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::invalid(param(), format!("{} is not a JSON object", param()))),
        Err(error) => Err(Error::invalid(param(), format!("{} is not JSON: {error}", param()))),
    }
}
