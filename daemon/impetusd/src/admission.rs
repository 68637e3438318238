//! Whether a request may enter: its ranges, the model it means, and whether there is room. Pure: it looks at what it
//! is given and changes nothing. Called by `supervisor` before any work begins, so that refusals come early.

mod ranges;
#[cfg(test)]
mod tests;
mod whole;

use std::time::Duration;

use protocol::generation::{Chat, GenerateRequest, Json, Priority, Prompt, ToolChoice};
use protocol::model::ModelFacts;
use protocol::{Error, ErrorKind, Result};

use crate::nearest::nearest;

pub use whole::{Whole, check_whole, resolve_whole, suits_whole};

/// The longest deadline of work that gives way to all other.
const LOW_DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Bytes of all that is being answered, beyond which nothing more is taken in: what one request asks has its own bound.
const BYTES_MAX: u64 = 512 << 20;

/// Bytes of a model's name.
pub const NAME_BYTES_MAX: usize = 128;

/// What one request may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Choices of one request.
    pub choices_max: u16,
    /// The longest deadline, but for work of low priority, and the one of requests that name none.
    pub deadline: Duration,
    /// Generations at once.
    pub active_max: usize,
}

/// How full the daemon is.
#[derive(Clone, Copy, Debug)]
pub struct Occupancy {
    /// Generations going on.
    pub active: usize,
    /// Bytes of what they ask.
    pub bytes: u64,
    /// How many of them are of the key that asks; `None` where its share is not bounded.
    pub held: Option<usize>,
    /// Whether the daemon shuts down.
    pub draining: bool,
}

/// Refuses what cannot be taken in now, whatever it asks.
pub fn room(occupancy: &Occupancy, limits: &Limits) -> Result<()> {
    if occupancy.draining {
        return Err(Error::new(ErrorKind::Closing, "the daemon is shutting down").hint("start it again, then retry"));
    }
    if occupancy.active >= limits.active_max {
        let message = format!("{} requests are being answered, the most this daemon takes", occupancy.active);
        let hint = "retry shortly, or raise requests.active_max";
        return Err(Error::new(ErrorKind::Busy, message).hint(hint).retry_after_ms(1_000));
    }
    if occupancy.bytes >= BYTES_MAX {
        let message = format!("what is being answered takes {} MB, the most this daemon keeps", occupancy.bytes >> 20);
        return Err(Error::new(ErrorKind::Busy, message).hint("retry shortly").retry_after_ms(1_000));
    }
    share(occupancy.held.unwrap_or(0), limits.active_max - occupancy.active)
}

/// Refuses a key that holds as many places as are free: so no number of keys can take them all, and who has none yet finds
/// one. Alone, a key may hold half of them.
fn share(held: usize, free: usize) -> Result<()> {
    if held < free {
        return Ok(());
    }
    let message = format!(
        "{held} requests of this key are being answered; it may have as many as there are free places, now {free}"
    );
    let hint = "wait for one of them, or have an administrator raise requests.active_max";
    Err(Error::new(ErrorKind::RateLimited, message).hint(hint).retry_after_ms(1_000))
}

/// Refuses a request with a value out of its range, naming the field; returns how long it may take.
pub fn check(request: &GenerateRequest, limits: &Limits) -> Result<Duration> {
    ranges::sampling(&request.sampling)?;
    ranges::stop(&request.stop, request.prompt_logprobs)?;
    if request.prompt_logprobs && request.logprobs.is_none() {
        return Err(Error::invalid("prompt_logprobs", "prompt_logprobs needs logprobs"));
    }
    ranges::within("logprobs", request.logprobs.unwrap_or(0), 0, 20)?;
    ranges::within("choices", request.choices, 1, limits.choices_max)?;
    prompt(&request.prompt)?;
    time(request.deadline_ms, request.priority, limits)
}

/// How long a request may take. Work that gives way to all other may say that it has longer than the limit, as that of batches
/// has.
fn time(deadline_ms: Option<u64>, priority: Priority, limits: &Limits) -> Result<Duration> {
    let most = if priority == Priority::Low { LOW_DEADLINE_MAX.max(limits.deadline) } else { limits.deadline };
    match deadline_ms {
        None => Ok(limits.deadline),
        Some(0) => Err(Error::invalid("deadline_ms", "deadline_ms is 0; no work fits into that")),
        Some(deadline) => Ok(Duration::from_millis(deadline).min(most)),
    }
}

/// Refuses what this model cannot do.
pub fn suits(request: &GenerateRequest, name: &str, facts: &ModelFacts) -> Result<()> {
    if !facts.capabilities.generates() {
        let (what, verb) = match facts.capabilities.embed {
            true => ("turns texts into vectors", "embeddings"),
            false => ("scores documents for a query", "rerank"),
        };
        let message = format!("{name} {what}; it generates no text");
        let hint = format!("ask it for {verb}, or use another model; `impetusctl models` lists them");
        return Err(Error::unsupported("model", message).hint(hint));
    }
    match &request.prompt {
        Prompt::Chat(_) if !facts.capabilities.chat => {
            let message = format!("{name} has no chat template");
            Err(Error::unsupported("messages", message).hint("give it a plain prompt instead"))
        }
        Prompt::Chat(chat) if !chat.tools.is_empty() && !facts.capabilities.tools => {
            let message = format!("the chat template of {name} shows no tools to the model");
            Err(Error::unsupported("tools", message).hint("leave tools out, or use another model"))
        }
        Prompt::Tokens(tokens) => suits_tokens(tokens, request, name, facts),
        _ => Ok(()),
    }
}

fn suits_tokens(tokens: &[u32], request: &GenerateRequest, name: &str, facts: &ModelFacts) -> Result<()> {
    if let Some(token) = tokens.iter().find(|token| **token >= facts.vocabulary) {
        let message = format!("token {token} is not one of the {} that {name} knows", facts.vocabulary);
        return Err(Error::invalid("prompt", message));
    }
    let asked = u64::from(request.stop.max_tokens.unwrap_or(1));
    if tokens.len() as u64 + asked > u64::from(facts.context_length) {
        let message = format!(
            "This model's maximum context length is {} tokens, but {} tokens of prompt and {asked} of answer were asked for",
            facts.context_length,
            tokens.len(),
        );
        return Err(Error::new(ErrorKind::ContextLengthExceeded, message).param("prompt").hint("shorten the prompt"));
    }
    Ok(())
}

/// Finds the model a request means: names are exact, and no name means `default`, else the first one.
pub fn resolve<'a>(
    asked: Option<&str>,
    default: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<&'a str> {
    match asked {
        Some(asked) => names.clone().find(|name| *name == asked).ok_or_else(|| unknown_model(asked, names)),
        None => names.clone().find(|name| *name == default).or(names.clone().next()).ok_or_else(|| {
            Error::new(ErrorKind::ModelNotFound, "this daemon has no models").hint("add one: impetusctl pull ORG/NAME")
        }),
    }
}

/// Refuses what no model can be called, before it gets into a log, a trace or the eye of an administrator: a name in a
/// request may be as large as the request.
pub fn nameable(model: Option<&str>) -> Result<()> {
    let Some(model) = model.filter(|model| model.len() > NAME_BYTES_MAX || model.contains(char::is_control)) else {
        return Ok(());
    };
    let message =
        format!("there is no such model: a name has {NAME_BYTES_MAX} bytes at most and no control characters");
    let hint = format!("this one has {} bytes; `impetusctl models` lists the names", model.len());
    Err(Error::new(ErrorKind::ModelNotFound, message).param("model").hint(hint))
}

/// Says that no model has this name, and which one may have been meant.
pub fn unknown_model<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::new(ErrorKind::ModelNotFound, format!("there is no model {asked:?}")).param("model");
    match nearest(asked, names) {
        Some(name) => error.hint(format!("did you mean {name:?}? names are exact; `impetusctl models` lists them")),
        None => error.hint("`impetusctl models` lists the names; `impetusctl pull ORG/NAME` fetches another model"),
    }
}

fn prompt(prompt: &Prompt) -> Result<()> {
    match prompt {
        Prompt::Chat(chat) => self::chat(chat),
        Prompt::Text(text) if text.is_empty() => Err(Error::invalid("prompt", "the prompt is empty")),
        Prompt::Tokens(tokens) if tokens.is_empty() => Err(Error::invalid("prompt", "the prompt has no tokens")),
        _ => Ok(()),
    }
}

fn chat(chat: &Chat) -> Result<()> {
    if chat.messages.is_empty() {
        return Err(Error::invalid("messages", "the conversation has no messages"));
    }
    let known = |name: &str| chat.tools.iter().any(|tool| tool.name == name);
    match &chat.tool_choice {
        ToolChoice::Named(name) if !known(name) => {
            return Err(Error::invalid("tool_choice", format!("tool_choice names {name:?}, which is not in tools")));
        }
        ToolChoice::Required if chat.tools.is_empty() => {
            return Err(Error::invalid("tool_choice", "tool_choice requires a call, but tools is empty"));
        }
        _ => {}
    }
    for tool in &chat.tools {
        tool.parameters.as_ref().map_or(Ok(()), |json| object("tools", json))?;
    }
    for call in chat.messages.iter().flat_map(|message| &message.tool_calls) {
        object("messages", &call.arguments)?;
    }
    chat.template_arguments.as_ref().map_or(Ok(()), |json| object("template_arguments", json))
}

fn object(param: &str, json: &Json) -> Result<()> {
    let fault = match serde_json::from_str::<serde_json::Value>(&json.0) {
        Ok(serde_json::Value::Object(_)) => return Ok(()),
        Ok(_) => "it is not an object".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::invalid(param, format!("{param} holds JSON that cannot be used: {fault}")))
}
