//! Tool calls between `<tool_call>` and `</tool_call>`, as Hermes and Qwen models write them.
//!
//! Several calls may follow each other. Models forget the tags around calls that are their whole answer. A call without its closing tag still counts; what follows a complete call up to
//! the tag is left out. What is no call after all becomes text, tags included.

use super::answer::Answer;
use super::bare::Bare;
use super::call::CallReader;
use super::functions::Functions;
use super::json::Step;
use super::marker::{Found, Scanner};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Reads one answer.
pub struct Hermes {
    state: State,
}

enum State {
    /// All of the answer so far may be calls without tags.
    Bare(Box<Bare>),
    Outside(Scanner),
    Inside(CallReader),
    /// The call is read; its closing tag is due.
    After(Scanner),
}

impl Hermes {
    /// Begins an answer in which these functions may be called without tags.
    pub fn new(bare: Option<Functions>) -> Self {
        Self { state: bare.map_or_else(State::outside, |functions| State::Bare(Box::new(Bare::new(functions)))) }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Bare(bare) => {
                let Some(text) = bare.push(letter) else { return };
                self.state = State::outside();
                text.chars().for_each(|letter| self.push(letter, answer));
            }
            State::Outside(scanner) => match scanner.push(letter) {
                Found::Text(text) => answer.texts(&text),
                Found::Marker(_, text) => {
                    answer.texts(&text);
                    self.state = State::Inside(CallReader::new(OPEN));
                }
            },
            State::Inside(call) => match call.push(letter, answer) {
                Step::More => {}
                Step::Malformed if !call.is_announced() => {
                    answer.texts(&call.give_back());
                    self.state = State::outside();
                    self.push(letter, answer);
                }
                Step::Done => self.state = State::after(),
                Step::DoneBefore | Step::Malformed => {
                    self.state = State::after();
                    self.push(letter, answer);
                }
            },
            State::After(scanner) => match scanner.push(letter) {
                Found::Text(_) => {}
                Found::Marker(0, _) => self.state = State::outside(),
                Found::Marker(..) => self.state = State::Inside(CallReader::new(OPEN)),
            },
        }
    }

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        match &mut self.state {
            State::Bare(bare) => bare.finish(answer),
            State::Outside(scanner) => answer.texts(&scanner.finish()),
            State::Inside(call) => call.finish(cut, answer),
            State::After(_) => {}
        }
    }
}

impl State {
    fn outside() -> Self {
        Self::Outside(Scanner::new([OPEN]))
    }

    fn after() -> Self {
        Self::After(Scanner::new([CLOSE, OPEN]))
    }
}
