//! How thoughts are shown, and how they come back. Where they are not to be shown, their block says nothing and its
//! signature holds them, so that a model that goes on after a call goes on with its thoughts. It neither hides nor proves them.
//! Thoughts that are shown are signed too, if by nothing: clients drop those that are not, or send them back as text.
//! `response` and `stream` show thoughts, `content` reads them.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::base64::{decode_for_url, encode_for_url};

/// What marks a signature as one of ours.
const MARK: &str = "imp.";

/// How thoughts are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = AnthropicThinkingDisplay)]
#[serde(rename_all = "lowercase")]
pub enum Display {
    /// Whole.
    #[default]
    Summarized,
    /// Not at all.
    Omitted,
}

impl Display {
    /// Returns what a block shows of a thought, and its signature.
    pub fn show(self, thought: String) -> (String, String) {
        match self {
            Self::Summarized => (thought, sign("")),
            Self::Omitted => (String::new(), sign(&thought)),
        }
    }
}

/// Returns the signature that holds a thought.
pub fn sign(thought: &str) -> String {
    format!("{MARK}{}", encode_for_url(thought.as_bytes()))
}

/// Returns the thought of a block that came back: what it shows, or what its signature holds if that is one of ours.
pub fn read(shown: String, signature: Option<&str>) -> String {
    if !shown.is_empty() {
        return shown;
    }
    let held = signature.and_then(|signature| decode_for_url(signature.strip_prefix(MARK)?));
    held.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_that_is_not_shown_comes_back_all_the_same() {
        for display in [Display::Summarized, Display::Omitted] {
            let (shown, signature) = display.show("Hm, \u{1F914}.".to_owned());
            assert_eq!(shown.is_empty(), display == Display::Omitted);
            assert!(!signature.is_empty());
            assert_eq!(read(shown, Some(&signature)), "Hm, \u{1F914}.");
        }
    }

    #[test]
    fn signatures_of_others_say_nothing() {
        for signature in [None, Some(""), Some("ErUBCkYICBgCIkA="), Some("imp.%"), Some("imp._w")] {
            assert_eq!(read(String::new(), signature), "", "{signature:?}");
        }
    }
}
