//! How many tokens of an answer are its reasoning.
//!
//! A token counts on the side where it stands, a blank one and a part of a character too. What marks the reasoning is no
//! part of it; whether the last tokens are such a mark is sometimes known only after more. Only `Choice` counts with it.

/// The tokens of one choice's reasoning.
#[derive(Default)]
pub struct ReasoningTokens {
    tokens: u32,
    /// The last tokens, which may be what ends the reasoning.
    unsure: u32,
}

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside of the reasoning.
    Inside,
    /// The same, unless it is what ends it.
    Unsure,
    /// Outside, or on the border.
    Outside,
}

impl ReasoningTokens {
    /// How many there are.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Adds a token; `said` tells whether more of the reasoning came out with it.
    pub fn count(&mut self, said: bool, place: Place) {
        let unsure = std::mem::take(&mut self.unsure);
        match place {
            Place::Unsure if !said => self.unsure = unsure + 1,
            Place::Outside if !said => {}
            _ => self.tokens += unsure + 1,
        }
    }

    /// Ends the answer; `said` tells whether what was not sure came out as reasoning.
    pub fn end(&mut self, said: bool) {
        let unsure = std::mem::take(&mut self.unsure);
        self.tokens += if said { unsure } else { 0 };
    }
}
