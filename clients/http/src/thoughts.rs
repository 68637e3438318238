//! Thoughts in a form that clients send back unread, as they do signatures and what is encrypted: a mark, and the thought in
//! base64. It neither hides nor proves it. Anthropic's thinking and reasoning of responses are written and read through here.

use crate::base64::{decode_for_url, encode_for_url};

/// What marks them as ours.
const MARK: &str = "imp.";

/// Returns what holds a thought.
pub fn sign(thought: &str) -> String {
    format!("{MARK}{}", encode_for_url(thought.as_bytes()))
}

/// Returns the thought that came back: what was shown of it, or what is held if that is ours.
pub fn read(shown: String, held: Option<&str>) -> String {
    if !shown.is_empty() {
        return shown;
    }
    let held = held.and_then(|held| decode_for_url(held.strip_prefix(MARK)?));
    held.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_hold_says_nothing() {
        for held in [None, Some(""), Some("ErUBCkYICBgCIkA="), Some("imp.%"), Some("imp._w")] {
            assert_eq!(read(String::new(), held), "", "{held:?}");
        }
    }
}
