//! Turns of a conversation as dialects put them together.
//!
//! Many templates take a single system turn, at the start, while clients send instructions in several places: those that
//! stand there become one. Nothing is reordered, and nothing is dropped but one line that is not for the model: the
//! account that Claude Code puts before its instructions. It differs with every request, and no prefix would be found
//! again after it.

use protocol::Error;
use protocol::generation::{Ending, Json, Message, Role};
use serde::de::IgnoredAny;

/// What stands between two texts of one turn.
const BETWEEN: &str = "\n\n";

/// What the line of an account begins with.
const ACCOUNT: &str = "x-anthropic-billing-header:";

/// Adds instructions; those before the first other turn are joined.
pub fn instruct(turns: &mut Vec<Message>, given: &str) {
    let text = instructions(given);
    match turns.as_mut_slice() {
        _ if text.is_empty() && !given.is_empty() => {}
        [first] if first.role == Role::System => append(&mut first.content, text),
        _ => turns.push(Message::new(Role::System, text)),
    }
}

/// Instructions without the account before them.
pub fn instructions(text: &str) -> &str {
    if !text.starts_with(ACCOUNT) {
        return text;
    }
    let after = text.find('\n').map_or("", |end| &text[end..]);
    after.trim_start_matches(['\r', '\n'])
}

/// Where a prompt ends in the dialects whose answers go on with a last message of the assistant.
pub fn ending(turns: &[Message]) -> Ending {
    let begun = turns.last().is_some_and(|last| last.role == Role::Assistant);
    if begun { Ending::LastMessage } else { Ending::NewTurn }
}

/// Returns the arguments of an earlier call, whose text stands at `at`: clients keep an empty one of a call without any.
pub fn arguments(at: &str, text: String) -> Result<Json, Error> {
    if text.trim().is_empty() {
        return Ok(Json("{}".to_owned()));
    }
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => Ok(Json(text)),
        Err(error) => Err(Error::invalid(at, format!("'{at}' is not JSON: {error}."))),
    }
}

/// Adds a text after another, with a blank line between.
pub fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str(BETWEEN);
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_arguments_has_none_and_what_is_no_json_is_named() {
        let read = |text: &str| arguments("at", text.to_owned()).map(|json| json.0);
        for empty in ["", " \n"] {
            assert_eq!(read(empty).unwrap(), "{}");
        }
        assert_eq!(read(r#"{"a": 1}"#).unwrap(), r#"{"a": 1}"#);
        assert_eq!(read(r#"{"a": "#).unwrap_err().param.as_deref(), Some("at"));
    }

    #[test]
    fn the_account_before_instructions_is_left_out_and_nothing_else_is() {
        let account = "x-anthropic-billing-header: cc_version=2.1.100.7b4; cc_entrypoint=cli; cch=eb6c6;";
        let of = |text: &str| instructions(text).to_owned();
        assert_eq!(of(&format!("{account}\n\nYou write code.\n")), "You write code.\n");
        assert_eq!(of(&format!("{account}\r\nYou write code.")), "You write code.");
        assert_eq!(of(account), "");
        for kept in ["You write code.", "", "\n", &format!("Explain this line:\n{account}\n")] {
            assert_eq!(of(kept), kept);
        }
    }
}
