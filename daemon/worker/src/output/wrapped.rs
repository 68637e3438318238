//! Takes away the tags that Granite 3.3 writes around its answer when it was asked for its thoughts.
//!
//! The opening tag counts where the answer begins, and the closing one only after it; white space beside them is layout.
//! Tags that stand elsewhere are text. The output room's stage after the reasoning.

use super::marker::{Found, Scanner};

const OPEN: &str = "<response>";
const CLOSE: &str = "</response>";
/// How a prompt asks for them.
const ASKED: &str = "<response></response>";

/// Reads one answer.
pub struct Wrapped {
    state: State,
    scanner: Scanner,
    /// White space whose side is not known yet.
    space: String,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing but white space so far.
    Start,
    /// After the opening tag, nothing but white space so far.
    Opened,
    Inside,
    /// After the closing tag.
    Closed,
    /// Without tags.
    Text,
}

/// Whether a prompt asks for the tags.
pub fn is_asked(prompt: &str) -> bool {
    prompt.contains(ASKED)
}

impl Wrapped {
    /// Begins an answer.
    pub fn new() -> Self {
        Self { state: State::Start, scanner: Scanner::new([OPEN]), space: String::new() }
    }

    /// Adds a character; returns what is known to belong to the answer.
    pub fn push(&mut self, letter: char) -> String {
        if self.state == State::Text {
            return letter.to_string();
        }
        match self.scanner.push(letter) {
            Found::Text(text) => self.text(&text),
            Found::Marker(_, text) if self.state == State::Start && text.trim().is_empty() => {
                self.space.clear();
                self.state = State::Opened;
                self.scanner = Scanner::new([CLOSE]);
                String::new()
            }
            Found::Marker(_, text) => {
                let text = self.text(&text);
                self.space.clear();
                self.state = State::Closed;
                self.scanner = Scanner::new([""]);
                text
            }
        }
    }

    /// Ends the answer; returns what was held back.
    pub fn finish(&mut self) -> String {
        let held = self.scanner.finish();
        let text = self.text(&held);
        if self.state == State::Start { std::mem::take(&mut self.space) } else { text }
    }

    fn text(&mut self, text: &str) -> String {
        let mut told = String::new();
        for letter in text.chars() {
            if letter.is_whitespace() && self.state != State::Text {
                self.space.push(letter);
                continue;
            }
            let space = std::mem::take(&mut self.space);
            match self.state {
                State::Start => (self.state, told) = (State::Text, told + &space),
                State::Opened => self.state = State::Inside,
                State::Inside | State::Closed | State::Text => told.push_str(&space),
            }
            told.push(letter);
        }
        if self.state == State::Text {
            told.push_str(&self.scanner.finish());
        }
        told
    }
}
