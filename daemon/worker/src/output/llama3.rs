//! Tool calls as Llama 3 writes them: a JSON object in place of an answer, with or without `<|python_tag|>` before it.
//!
//! Only the beginning of an answer can be a call, so that JSON inside of an answer stays text, and without the tag only
//! what names a known function: an answer may be JSON. More calls may follow after white space or a semicolon. The tag
//! itself is never part of the text.

use super::answer::Answer;
use super::call::CallReader;
use super::functions::Functions;
use super::json::Step;
use super::marker::{Found, Scanner};

const TAG: &str = "<|python_tag|>";

/// Reads one answer.
pub struct Llama3 {
    functions: Functions,
    state: State,
    /// The tag came before.
    tagged: bool,
    /// A call came before; a semicolon may separate it from the next.
    called: bool,
}

enum State {
    /// A call may begin here.
    Ready(Scanner),
    Call(CallReader),
    /// The answer is text; only the tag begins a call.
    Text(Scanner),
}

impl Llama3 {
    /// Begins an answer.
    pub fn new(functions: Functions) -> Self {
        Self { functions, state: State::Ready(Scanner::new([TAG])), tagged: false, called: false }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Ready(scanner) => match scanner.push(letter) {
                Found::Marker(..) => self.tagged = true,
                Found::Text(text) => self.begin(&text, answer),
            },
            State::Call(call) => match call.push(letter, answer) {
                Step::More => {}
                Step::Malformed if !call.is_announced() => {
                    answer.texts(&call.give_back());
                    self.state = State::Text(Scanner::new([TAG]));
                    self.push(letter, answer);
                }
                step => {
                    self.called = true;
                    self.state = State::Ready(Scanner::new([TAG]));
                    if step != Step::Done {
                        self.push(letter, answer);
                    }
                }
            },
            State::Text(scanner) => match scanner.push(letter) {
                Found::Text(text) => answer.texts(&text),
                Found::Marker(_, text) => {
                    answer.texts(&text);
                    self.tagged = true;
                    self.state = State::Ready(Scanner::new([TAG]));
                }
            },
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self, answer: &mut Answer) {
        match &mut self.state {
            State::Ready(scanner) | State::Text(scanner) => answer.texts(&scanner.finish()),
            State::Call(call) => {
                call.close(answer);
                answer.texts(&call.give_back());
            }
        }
    }

    /// Looks at text where a call may begin: one character, or the start of a tag that is none.
    fn begin(&mut self, text: &str, answer: &mut Answer) {
        match text.chars().next() {
            None => {}
            Some('{') => {
                let tagged = std::mem::take(&mut self.tagged);
                let mut call = if tagged { CallReader::new("") } else { CallReader::bare(self.functions.clone()) };
                call.push('{', answer);
                self.state = State::Call(call);
            }
            Some(';') if self.called => {}
            Some(letter) if letter.is_whitespace() => answer.text(letter),
            Some(_) => {
                let State::Ready(scanner) = &mut self.state else { return };
                let held = scanner.finish();
                self.state = State::Text(Scanner::new([TAG]));
                text.chars().chain(held.chars()).for_each(|letter| self.push(letter, answer));
            }
        }
    }
}
