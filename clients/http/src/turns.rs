//! Turns of a conversation as dialects put them together.
//!
//! Many templates take a single system turn, at the start, while clients send instructions in several places: those that
//! stand there become one. Nothing is dropped or reordered.

use protocol::generation::{Message, Role};

/// What stands between two texts of one turn.
const BETWEEN: &str = "\n\n";

/// Adds instructions; those before the first other turn are joined.
pub fn instruct(turns: &mut Vec<Message>, text: String) {
    match turns.as_mut_slice() {
        [first] if first.role == Role::System => append(&mut first.content, &text),
        _ => turns.push(Message::new(Role::System, text)),
    }
}

/// Adds a text after another, with a blank line between.
pub fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str(BETWEEN);
    }
    text.push_str(more);
}
