//! Tool calls as Mistral models write them, after `[TOOL_CALLS]`, Command models, after `<|START_ACTION|>`, and Granite's and
//! Phi's, after `<|tool_call|>`.
//!
//! Older models write an array of objects with name and arguments; newer ones the name, `[ARGS]` and the arguments, once
//! for every call and perhaps with a `[CALL_ID]`, which is left out. The markers themselves are never part of the text.

use super::answer::Answer;
use super::call::CallReader;
use super::json::Step;
use super::marker::{Found, Scanner};

const NAME_BYTES_MAX: usize = 256;

/// Reads one answer.
pub struct Mistral {
    marker: &'static str,
    state: State,
}

enum State {
    Text(Scanner),
    /// After the marker: an array or a name begins.
    Begin,
    /// A name, with whatever stands between it and the arguments.
    Name(String),
    /// Inside the array, where a call or its end is due.
    Array,
    Call {
        call: CallReader,
        in_array: bool,
    },
}

impl Mistral {
    /// Begins an answer; calls follow the marker.
    pub fn new(marker: &'static str) -> Self {
        Self { marker, state: State::text(marker) }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Text(scanner) => match scanner.push(letter) {
                Found::Text(text) => answer.texts(&text),
                Found::Marker(_, text) => {
                    answer.texts(&text);
                    self.state = State::Begin;
                }
            },
            State::Begin => match letter {
                '[' => self.state = State::Array,
                _ if letter.is_whitespace() => {}
                _ => {
                    self.state = State::Name(String::new());
                    self.push(letter, answer);
                }
            },
            State::Name(name) => match letter {
                '{' if !name_of(name).is_empty() => {
                    let call = CallReader::with_name(name_of(name).to_string(), name);
                    self.state = State::Call { call, in_array: false };
                    self.push(letter, answer);
                }
                _ if fits_name(name, letter) => name.push(letter),
                _ => {
                    let name = std::mem::take(name);
                    self.give_up(&name, letter, answer);
                }
            },
            State::Array => match letter {
                '{' => {
                    self.state = State::Call { call: CallReader::new(""), in_array: true };
                    self.push(letter, answer);
                }
                ']' => self.state = State::text(self.marker),
                ',' => {}
                _ if letter.is_whitespace() => {}
                _ => self.give_up("", letter, answer),
            },
            State::Call { call, in_array } => match call.push(letter, answer) {
                Step::More => {}
                Step::Done => self.state = if *in_array { State::Array } else { State::text(self.marker) },
                Step::DoneBefore | Step::Malformed => {
                    let text = call.give_back();
                    self.give_up(&text, letter, answer);
                }
            },
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self, answer: &mut Answer) {
        match &mut self.state {
            State::Text(scanner) => answer.texts(&scanner.finish()),
            State::Name(name) => answer.texts(name),
            State::Call { call, .. } => {
                call.close(answer);
                answer.texts(&call.give_back());
            }
            State::Begin | State::Array => {}
        }
    }

    /// Goes on as text, from what was read and turned out to be no call.
    fn give_up(&mut self, text: &str, letter: char, answer: &mut Answer) {
        answer.texts(text);
        self.state = State::text(self.marker);
        self.push(letter, answer);
    }
}

impl State {
    fn text(marker: &str) -> Self {
        Self::Text(Scanner::new([marker]))
    }
}

/// The name before the markers that may follow it.
fn name_of(text: &str) -> &str {
    text.split('[').next().unwrap_or_default().trim()
}

/// Whether a letter continues a name, or the markers `[CALL_ID]…[ARGS]` after it.
fn fits_name(text: &str, letter: char) -> bool {
    let of_name = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':');
    let after_marker = text.ends_with("[CALL_ID") || text.ends_with("[ARGS");
    let marker = letter == '[' || letter == ']' && after_marker;
    text.len() < NAME_BYTES_MAX && (of_name || marker || letter.is_whitespace())
}
