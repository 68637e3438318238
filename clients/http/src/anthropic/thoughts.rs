//! How thoughts are shown, and how they come back. Where they are not to be shown, their block says nothing and its
//! signature holds them, so that a model that goes on after a call goes on with its thoughts. Thoughts that are shown are
//! signed too, if by nothing: clients drop those that are not, or send them back as text. `response` and `stream` show
//! thoughts, `content` reads them through `crate::thoughts`.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::thoughts::sign;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thoughts::read;

    #[test]
    fn a_thought_that_is_not_shown_comes_back_all_the_same() {
        for display in [Display::Summarized, Display::Omitted] {
            let (shown, signature) = display.show("Hm, \u{1F914}.".to_owned());
            assert_eq!(shown.is_empty(), display == Display::Omitted);
            assert!(!signature.is_empty());
            assert_eq!(read(shown, Some(&signature)), "Hm, \u{1F914}.");
        }
    }
}
