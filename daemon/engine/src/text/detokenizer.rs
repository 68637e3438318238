//! Turns tokens into text as they come, and never hands out half a character.
//!
//! Bytes wait until they form a character; what can never become one is replaced by U+FFFD, as a decoder of the whole
//! text would. Special tokens are left out unless asked for. The work per token does not grow with the text. The worker
//! keeps one for each choice.

#[cfg(test)]
mod tests;

use super::Tokenizer;

/// Where the tokens stand in their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its beginning, as an answer does: the space that a sentencepiece vocabulary puts there is dropped.
    Text,
    /// After a prompt that they continue: every space counts.
    Middle,
}

/// Tokens in, characters out.
pub struct Detokenizer {
    tokenizer: Tokenizer,
    shown: Vec<u32>,
    /// Bytes that are not yet a character, at most three between calls.
    pending: Vec<u8>,
    spaces_to_drop: usize,
}

impl Detokenizer {
    /// Begins a text.
    pub fn new(tokenizer: &Tokenizer, start: Start) -> Self {
        let spaces_to_drop = if start == Start::Text { tokenizer.leading_spaces() } else { 0 };
        Self { tokenizer: tokenizer.clone(), shown: Vec::new(), pending: Vec::new(), spaces_to_drop }
    }

    /// Writes out these special tokens, which a reader of tool calls or of reasoning must see.
    pub fn showing<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        self.shown.extend(texts.into_iter().filter_map(|text| self.tokenizer.token_id(text)));
        self
    }

    /// Writes out every special token: for text that is to be read as it was tokenized.
    pub fn showing_all(mut self) -> Self {
        self.shown = (0..self.tokenizer.vocabulary()).filter(|token| self.tokenizer.is_special(*token)).collect();
        self
    }

    /// Adds a token; returns the characters that are now complete.
    pub fn push(&mut self, token: u32) -> String {
        if self.tokenizer.is_special(token) && !self.shown.contains(&token) {
            return String::new();
        }
        let mut bytes = self.tokenizer.token_bytes(token);
        while self.spaces_to_drop > 0 && !bytes.is_empty() {
            match bytes.strip_prefix(b" ") {
                Some(rest) => (bytes, self.spaces_to_drop) = (rest, self.spaces_to_drop - 1),
                None => self.spaces_to_drop = 0,
            }
        }
        self.pending.extend_from_slice(bytes);
        self.take_complete()
    }

    /// Whether the text ends with a whole character.
    pub fn is_whole(&self) -> bool {
        self.pending.is_empty()
    }

    /// Ends the text; an incomplete character comes out as U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut taken = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            let broken = chunk.invalid();
            if broken.is_empty() || taken + broken.len() == self.pending.len() && may_grow(broken) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            taken += broken.len();
        }
        self.pending.drain(..taken);
        text
    }
}

/// Whether more bytes could complete a character, where these end a text.
fn may_grow(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
