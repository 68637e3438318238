//! Tool calls as a list after a marker: as Mistral models, Command models, Granite, Phi 4 mini and Nemotron write them.
//!
//! A list holds objects with name and arguments; one object alone counts as well. Newer Mistral models write the name,
//! `[ARGS]` and the arguments, once for every call and perhaps with a `[CALL_ID]`, which is left out. Markers are never
//! part of the text, but for those that are text themselves and lead to no call.

use super::answer::Answer;
use super::call::CallReader;
use super::json::Step;
use super::marker::{Found, Scanner};

const NAME_BYTES_MAX: usize = 256;

/// The marks of a family.
#[derive(Clone, Copy, Default)]
pub struct Marks {
    /// Tokens that calls follow.
    pub open: &'static [&'static str],
    /// Texts that calls follow.
    pub spelled: &'static [&'static str],
    /// A text that calls follow where it begins the answer.
    pub first: &'static str,
    /// What ends the calls.
    pub close: &'static [&'static str],
    /// What stands around an answer and is no part of it.
    pub around: &'static [&'static str],
    /// Whether a name may stand before the arguments in place of a list.
    pub named: bool,
}

const NONE: Marks = Marks { open: &[], spelled: &[], first: "", close: &[], around: &[], named: false };
/// Mistral.
pub const MISTRAL: Marks = Marks { open: &["[TOOL_CALLS]"], named: true, ..NONE };
/// Command R7B and Command A.
pub const COMMAND: Marks = Marks {
    open: &["<|START_ACTION|>"],
    close: &["<|END_ACTION|>"],
    around: &["<|START_RESPONSE|>", "<|END_RESPONSE|>"],
    ..NONE
};
/// Command R.
pub const ACTION: Marks = Marks { spelled: &["Action: ```json", "Action:\n```json"], close: &["```"], ..NONE };
/// Granite 3, whose templates show a token and whose models spell it otherwise, and Phi 4 mini.
pub const LISTED: Marks = Marks {
    open: &["<|tool_call|>"],
    spelled: &["<tool_call>"],
    first: "functools",
    close: &["<|/tool_call|>", "</tool_call>"],
    ..NONE
};
/// Nemotron.
pub const NEMOTRON: Marks = Marks { spelled: &["<TOOLCALL>"], close: &["</TOOLCALL>"], ..NONE };

/// Reads one answer.
pub struct List {
    marks: Marks,
    state: State,
    /// Whether something but white space was said.
    said: bool,
    /// What led to the first call and is text if none comes.
    raw: String,
}

enum State {
    Text(Scanner),
    /// After the marker: a list, an object or a name begins.
    Begin,
    /// A name, with whatever stands between it and the arguments.
    Name(String),
    /// Inside of the list, where a call or its end is due.
    Inside,
    Call {
        call: CallReader,
        in_list: bool,
    },
    /// After the calls, where their end is due: what was read of it.
    After(String),
}

impl List {
    /// Begins an answer.
    pub fn new(marks: Marks) -> Self {
        Self { marks, state: State::text(marks), said: false, raw: String::new() }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Text(scanner) => match scanner.push(letter) {
                Found::Text(text) => self.say(&text, answer),
                Found::Marker(index, text) => {
                    self.say(&text, answer);
                    self.found(index, answer);
                }
            },
            State::Begin => self.begin(letter, answer),
            State::Name(name) => match letter {
                '{' if !name_of(name).is_empty() => {
                    let call = CallReader::with_name(name_of(name).to_string(), name);
                    self.state = State::Call { call, in_list: false };
                    self.push(letter, answer);
                }
                _ if fits_name(name, letter) => name.push(letter),
                _ => {
                    let name = std::mem::take(name);
                    self.give_up(&name, letter, answer);
                }
            },
            State::Inside => match letter {
                '{' => {
                    self.state = State::Call { call: CallReader::new(""), in_list: true };
                    self.push(letter, answer);
                }
                ']' => self.end(),
                ',' => {}
                _ if letter.is_whitespace() => {}
                _ => self.give_up("", letter, answer),
            },
            State::Call { call, in_list } => match call.push(letter, answer) {
                Step::More => {}
                Step::Done => {
                    self.raw.clear();
                    if *in_list { self.state = State::Inside } else { self.end() }
                }
                Step::DoneBefore | Step::Malformed => {
                    if call.is_announced() {
                        self.raw.clear();
                    }
                    let text = call.give_back();
                    self.give_up(&text, letter, answer);
                }
            },
            State::After(read) => {
                read.push(letter);
                let end = read.trim_start();
                if self.marks.close.contains(&end) {
                    self.state = State::text(self.marks);
                } else if !self.marks.close.iter().any(|close| close.starts_with(end)) {
                    let read = std::mem::take(read);
                    self.state = State::text(self.marks);
                    read.chars().for_each(|letter| self.push(letter, answer));
                }
            }
        }
    }

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        let raw = std::mem::take(&mut self.raw);
        // The word that begins some families' calls may as well begin an answer.
        let sure =
            !matches!(self.state, State::Begin) || self.marks.first.is_empty() || raw.trim_end() != self.marks.first;
        match &mut self.state {
            State::Text(scanner) => answer.texts(&scanner.finish()),
            State::Begin | State::Name(_) | State::Inside if cut && sure => answer.leave_out_call(),
            State::Name(name) => answer.texts(&format!("{raw}{name}")),
            State::Call { call, .. } => {
                if !cut && !call.is_announced() {
                    answer.texts(&raw);
                }
                call.finish(cut, answer);
            }
            State::Begin | State::Inside => answer.texts(&raw),
            State::After(_) => {}
        }
    }

    fn say(&mut self, text: &str, answer: &mut Answer) {
        self.said |= !text.trim().is_empty();
        answer.texts(text);
    }

    fn found(&mut self, index: usize, answer: &mut Answer) {
        let Marks { open, spelled, first, .. } = self.marks;
        if index < open.len() {
            self.state = State::Begin;
        } else if let Some(marker) = spelled.get(index - open.len()) {
            self.raw = marker.to_string();
            self.state = State::Begin;
        } else if index == open.len() + spelled.len() {
            if self.said {
                return self.say(first, answer);
            }
            self.raw = first.to_string();
            self.state = State::Begin;
        }
    }

    fn begin(&mut self, letter: char, answer: &mut Answer) {
        if !self.raw.is_empty() {
            self.raw.push(letter);
        }
        match letter {
            '[' => self.state = State::Inside,
            '{' => {
                self.raw.pop();
                self.state = State::Call { call: CallReader::new(""), in_list: false };
                self.push(letter, answer);
            }
            _ if letter.is_whitespace() => {}
            _ if self.marks.named => {
                self.state = State::Name(String::new());
                self.push(letter, answer);
            }
            _ => {
                self.raw.pop();
                self.give_up("", letter, answer);
            }
        }
    }

    fn end(&mut self) {
        let ends = !self.marks.close.is_empty();
        self.raw.clear();
        self.state = if ends { State::After(String::new()) } else { State::text(self.marks) };
    }

    /// Goes on as text, from what was read and turned out to be no call.
    fn give_up(&mut self, text: &str, letter: char, answer: &mut Answer) {
        let text = std::mem::take(&mut self.raw) + text;
        self.say(&text, answer);
        self.state = State::text(self.marks);
        self.push(letter, answer);
    }
}

impl State {
    fn text(marks: Marks) -> Self {
        let first = std::iter::once(&marks.first);
        Self::Text(Scanner::new(marks.open.iter().chain(marks.spelled).chain(first).chain(marks.around)))
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
