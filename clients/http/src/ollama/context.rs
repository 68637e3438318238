//! What `/api/generate` gives back to be sent with the next prompt: the conversation so far, as whole numbers.
//!
//! Ollama's numbers are tokens, and its clients only keep them. These are the turns themselves, three bytes a number, so
//! that a next prompt is rendered as any conversation is, instructions once and every turn ended. Numbers of other servers
//! are refused. Only `generate` and `lines` ask.

use protocol::Error;
use protocol::generation::{Message, Role};

/// What our numbers begin with; it is followed by how many bytes there are.
const MARK: u32 = 0x69_6D70;
/// How many bytes one number holds, so that it is small enough for every client.
const BYTES: usize = 3;

/// Writes turns as numbers.
pub fn write(turns: &[Message]) -> Vec<u32> {
    let said: Vec<_> = turns.iter().map(|turn| (name(turn.role), &turn.content)).collect();
    // Texts alone, which JSON holds.
    let bytes = serde_json::to_vec(&said).unwrap_or_default();
    let number = |part: &[u8]| part.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    [MARK, bytes.len() as u32].into_iter().chain(bytes.chunks(BYTES).map(number)).collect()
}

/// Reads the turns that numbers hold.
pub fn read(numbers: &[u32]) -> Result<Vec<Message>, Error> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    turns(numbers).ok_or_else(|| {
        let message = "'context' is not what an answer of Impetus gave back.";
        Error::invalid("context", message).hint("Use /api/chat and send the messages so far.")
    })
}

fn turns(numbers: &[u32]) -> Option<Vec<Message>> {
    let [MARK, length, parts @ ..] = numbers else { return None };
    let length = *length as usize;
    if parts.len() != length.div_ceil(BYTES) {
        return None;
    }
    let mut bytes = Vec::with_capacity(length);
    for (at, part) in parts.iter().enumerate() {
        let [0, number @ ..] = part.to_be_bytes() else { return None };
        bytes.extend_from_slice(&number[BYTES - BYTES.min(length - at * BYTES)..]);
    }
    let said: Vec<(String, String)> = serde_json::from_slice(&bytes).ok()?;
    said.into_iter().map(|(name, content)| Some(Message::new(role(&name)?, content))).collect()
}

fn name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn role(name: &str) -> Option<Role> {
    [Role::System, Role::User, Role::Assistant].into_iter().find(|role| self::name(*role) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_back_as_they_were_whatever_their_length() {
        for text in ["", "a", "ab", "abc", "Grüße, \u{1F326}!\n\"\\"] {
            let turns = [(Role::System, "Be brief."), (Role::User, text), (Role::Assistant, "Yes.")];
            let turns = turns.map(|(role, text)| Message::new(role, text));
            let numbers = write(&turns);
            assert!(numbers.iter().all(|number| *number < 1 << 24), "{numbers:?}");
            assert_eq!(read(&numbers).unwrap(), turns);
        }
        assert_eq!(read(&[]).unwrap(), []);
    }

    #[test]
    fn numbers_of_others_and_broken_ones_are_refused() {
        let whole = write(&[Message::new(Role::User, "Hi")]);
        let spoiled = |at: usize, number: u32| {
            let mut numbers = whole.clone();
            numbers[at] = number;
            numbers
        };
        let cut = whole[..whole.len() - 1].to_vec();
        for numbers in [vec![1, 2, 3], vec![MARK], cut, spoiled(1, u32::MAX), spoiled(2, 1 << 24), spoiled(2, 0)] {
            assert_eq!(read(&numbers).unwrap_err().param.as_deref(), Some("context"), "{numbers:?}");
        }
        assert!(read(&write(&[Message::new(Role::Tool, "x")])).is_err(), "no answer holds such a turn");
    }
}
