//! Tool calls as DeepSeek V3, V3.1 and R1 write them, each part between tokens of its own.
//!
//! Older models write `function`, the separator, the name and the arguments in a JSON code block; newer ones the name, the
//! separator and the arguments. What is no call after all becomes text, without its markers.

use super::answer::Answer;
use super::call::CallReader;
use super::json::Step;
use super::marker::{Found, Scanner};

pub const BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub const CALL: &str = "<｜tool▁call▁begin｜>";
pub const SEPARATOR: &str = "<｜tool▁sep｜>";
pub const CALL_END: &str = "<｜tool▁call▁end｜>";
pub const END: &str = "<｜tool▁calls▁end｜>";
const NAME_BYTES_MAX: usize = 256;

/// Reads one answer.
pub struct DeepSeek {
    state: State,
}

enum State {
    Text(Scanner),
    /// Before the separator: the name, or `function`.
    Head(String, Scanner),
    /// After `function` and the separator: the name and whatever stands between it and the arguments.
    Name(String),
    Arguments(CallReader),
    /// The call is read; the next or the end is due.
    After(Scanner),
}

impl DeepSeek {
    /// Begins an answer.
    pub fn new() -> Self {
        Self { state: State::text() }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Text(scanner) => match scanner.push(letter) {
                Found::Text(text) => answer.texts(&text),
                Found::Marker(index, text) => {
                    answer.texts(&text);
                    self.state = if index == 0 { State::after() } else { State::head() };
                }
            },
            State::Head(head, scanner) => match scanner.push(letter) {
                Found::Text(text) => {
                    head.push_str(&text);
                    if head.len() > NAME_BYTES_MAX {
                        let text = std::mem::take(head) + &scanner.finish();
                        self.give_up(&text, None, answer);
                    }
                }
                Found::Marker(_, text) => {
                    head.push_str(&text);
                    self.state = match head.trim() {
                        "function" => State::Name(String::new()),
                        name => State::Arguments(CallReader::with_name(name.to_string(), head)),
                    };
                }
            },
            State::Name(name) => match letter {
                '{' if !name_of(name).is_empty() => {
                    self.state = State::Arguments(CallReader::with_name(name_of(name).to_string(), name));
                    self.push(letter, answer);
                }
                _ if name.len() < NAME_BYTES_MAX && letter != '{' => name.push(letter),
                _ => {
                    let text = std::mem::take(name);
                    self.give_up(&text, Some(letter), answer);
                }
            },
            State::Arguments(call) => match call.push(letter, answer) {
                Step::More => {}
                Step::Done => self.state = State::after(),
                Step::DoneBefore | Step::Malformed if call.is_announced() => {
                    self.state = State::after();
                    self.push(letter, answer);
                }
                Step::DoneBefore | Step::Malformed => {
                    let text = call.give_back();
                    self.give_up(&text, Some(letter), answer);
                }
            },
            State::After(scanner) => match scanner.push(letter) {
                Found::Text(_) | Found::Marker(2, _) => {}
                Found::Marker(0, _) => self.state = State::head(),
                Found::Marker(..) => self.state = State::text(),
            },
        }
    }

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        match &mut self.state {
            State::Text(scanner) => answer.texts(&scanner.finish()),
            State::Head(..) | State::Name(_) if cut => answer.leave_out_call(),
            State::Head(head, scanner) => {
                answer.texts(head);
                answer.texts(&scanner.finish());
            }
            State::Name(name) => answer.texts(name),
            State::Arguments(call) => call.finish(cut, answer),
            State::After(_) => {}
        }
    }

    /// Goes on as text, from what was read and turned out to be no call.
    fn give_up(&mut self, text: &str, letter: Option<char>, answer: &mut Answer) {
        answer.texts(text);
        self.state = State::text();
        if let Some(letter) = letter {
            self.push(letter, answer);
        }
    }
}

impl State {
    fn text() -> Self {
        Self::Text(Scanner::new([BEGIN, CALL]))
    }

    fn head() -> Self {
        Self::Head(String::new(), Scanner::new([SEPARATOR]))
    }

    fn after() -> Self {
        Self::After(Scanner::new([CALL, END, CALL_END]))
    }
}

/// The name before the code block that may follow it.
fn name_of(text: &str) -> &str {
    text.split(['\n', '`']).next().unwrap_or_default().trim()
}
