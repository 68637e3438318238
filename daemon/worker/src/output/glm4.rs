//! Tool calls as GLM-4-0414 and Z1 write them: a function's name in the first line, and its arguments after it.
//!
//! Only the beginning of an answer can be a call, and only of a known function: no marker tells it from a heading. So what
//! cannot become a function's name is text at once. More calls may follow.

use super::answer::Answer;
use super::call::CallReader;
use super::functions::Functions;
use super::json::Step;

/// The most white space around a name.
const SPACE_BYTES_MAX: usize = 256;

/// Reads one answer.
pub struct Glm4 {
    functions: Functions,
    state: State,
}

enum State {
    /// The first line, and what stands between it and what follows.
    Line(String),
    Call(CallReader),
    Text,
}

impl Glm4 {
    /// Begins an answer.
    pub fn new(functions: Functions) -> Self {
        Self { functions, state: State::Line(String::new()) }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Text => answer.text(letter),
            State::Line(line) => {
                let name = line.trim();
                if letter == '{' && line.trim_start().contains('\n') && self.functions.has(name) {
                    self.state = State::Call(CallReader::with_name(name.to_string(), line));
                    return self.push(letter, answer);
                }
                line.push(letter);
                if !may_name(line, &self.functions) {
                    let line = std::mem::take(line);
                    self.state = State::Text;
                    answer.texts(&line);
                }
            }
            State::Call(call) => match call.push(letter, answer) {
                Step::More => {}
                Step::Done => self.state = State::Line(String::new()),
                Step::DoneBefore | Step::Malformed => {
                    let text = call.give_back();
                    self.state = State::Text;
                    answer.texts(&text);
                    answer.text(letter);
                }
            },
        }
    }

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        match &mut self.state {
            State::Text => {}
            State::Line(line) => answer.texts(line),
            State::Call(call) => call.finish(cut, answer),
        }
    }
}

/// Whether a text may still become the name of one of the functions and a line's end.
fn may_name(text: &str, functions: &Functions) -> bool {
    let begun = text.trim_start();
    let name = begun.trim_end();
    let whole = name.len() < begun.len();
    text.len() - name.len() <= SPACE_BYTES_MAX && if whole { functions.has(name) } else { functions.may_begin(name) }
}
