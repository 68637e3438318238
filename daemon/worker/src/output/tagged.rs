//! Tool calls whose arguments stand between tags, one by one: GLM 4.5 and later, and Qwen3-Coder.
//!
//! A text is passed on as it comes; any other argument becomes JSON once it is whole, of a type that its tool's schema allows (`functions`). Several calls may
//! follow each other, and tags that models leave out are made up for where what follows shows it. What is no call after
//! all becomes text, tags included.

use super::answer::Answer;
use super::functions::{Functions, escaped};
use super::marker::{Found, Scanner};

const NAME_BYTES_MAX: usize = 256;

/// The tags of a family.
#[derive(Clone, Copy)]
pub struct Tags {
    /// What begins a call; the name follows.
    open: &'static str,
    /// What ends the name if an argument follows; it begins the argument's name.
    first: &'static str,
    /// What begins the name of an argument.
    key: &'static str,
    /// What ends the name of an argument and begins its value.
    value: &'static [&'static str],
    /// What ends a value, and what comes then.
    ends: &'static [(&'static str, Then)],
    /// What ends a call.
    close: &'static str,
    /// Whether each value has lines of its own.
    lines: bool,
}

/// What follows a value.
#[derive(Clone, Copy)]
enum Then {
    /// An argument or the end of the call.
    Between,
    /// The next argument's name, if it is one: its own end was left out.
    Key,
    /// Whatever follows a call.
    Text,
    /// Another call.
    Call,
}

/// `<tool_call>name\n<arg_key>k</arg_key>\n<arg_value>v</arg_value></tool_call>`
pub const GLM: Tags = Tags {
    open: "<tool_call>",
    first: "<arg_key>",
    key: "<arg_key>",
    value: &["</arg_key>", "<arg_value>"],
    ends: &[("</arg_value>", Then::Between)],
    close: "</tool_call>",
    lines: false,
};

/// `<tool_call>\n<function=name>\n<parameter=k>\nv\n</parameter>\n</function>\n</tool_call>`
pub const CODER: Tags = Tags {
    open: "<function=",
    first: ">",
    key: "<parameter=",
    value: &[">"],
    ends: &[
        ("\n</parameter>", Then::Between),
        ("</parameter>", Then::Between),
        ("\n<parameter=", Then::Key),
        ("\n</function>\n</tool_call>", Then::Text),
        ("\n</function>\n<tool_call>", Then::Call),
        ("\n</tool_call>\n<tool_call>", Then::Call),
    ],
    close: "</function>",
    lines: true,
};

/// Reads one answer.
pub struct Tagged {
    tags: Tags,
    functions: Functions,
    state: State,
    scanner: Scanner,
    /// What was read of the part under way.
    read: String,
    name: String,
    key: String,
    /// A value after which another argument may have begun.
    value: String,
    /// How much of the value under way was passed on; `None` if it must be whole.
    passed: Option<usize>,
    arguments: usize,
    /// A tag around calls that no call has followed yet.
    around: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Text,
    Name,
    /// An argument or the end of the call is due.
    Between,
    Key,
    /// The argument's name is read, and this many tags before its value.
    ToValue(usize),
    Value,
    /// After a value without an end: the name of another argument, or more of the value.
    NextKey,
    /// Around a call, where a family writes a second pair of tags.
    Around,
}

impl Tagged {
    /// Begins an answer.
    pub fn new(tags: Tags, functions: Functions) -> Self {
        let mut reader = Self {
            tags,
            functions,
            state: State::Text,
            scanner: Scanner::new([""]),
            read: String::new(),
            name: String::new(),
            key: String::new(),
            value: String::new(),
            passed: None,
            arguments: 0,
            around: "",
        };
        reader.go(State::Text);
        reader
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        if self.state == State::NextKey {
            return self.next_key(letter, answer);
        }
        match self.scanner.push(letter) {
            Found::Text(text) if self.state == State::Text => answer.texts(&text),
            Found::Text(text) if self.state == State::Value => {
                self.read.push_str(&text);
                self.pass_on(answer);
            }
            Found::Text(text) => {
                self.read.push_str(&text);
                self.check(answer);
            }
            Found::Marker(index, text) => {
                self.read.push_str(&text);
                self.found(index, answer);
            }
        }
    }

    /// Ends the answer, or cuts it off; an argument that was cut off is left out.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        let held = self.scanner.finish();
        match self.state {
            State::Text => answer.texts(&held),
            State::Name if cut => answer.leave_out_call(),
            State::Around if cut && !self.around.is_empty() => answer.leave_out_call(),
            State::Name => answer.texts(&format!("{}{}{held}", self.tags.open, self.read)),
            State::Around => answer.texts(&format!("{}{}{held}", self.around, self.read.trim_start())),
            // What was held back may have become an end.
            State::Value if self.passed.is_some() => answer.arguments("\"}"),
            State::Value => {
                let read = std::mem::take(&mut self.read) + &held;
                // Where values have lines of their own, a line that ended is whole.
                let ended = ["\n</tool_call>", "\n</function>", "\n"]
                    .iter()
                    .fold(&read[..], |read, end| read.strip_suffix(end).unwrap_or(read));
                if self.tags.lines && ended.len() < read.len() {
                    self.argument(ended, answer);
                }
                answer.arguments("}");
            }
            State::NextKey => {
                let value = std::mem::take(&mut self.value);
                self.argument(&value, answer);
                answer.arguments("}");
            }
            _ => answer.arguments("}"),
        }
    }

    fn go(&mut self, state: State) {
        let tags = self.tags;
        self.scanner = match state {
            State::Text if tags.lines => Scanner::new(["<tool_call>", tags.open]),
            State::Text => Scanner::new([tags.open]),
            State::Name if tags.lines => Scanner::new([tags.first]),
            State::Name => Scanner::new([tags.first, tags.close]),
            State::Between if tags.lines => Scanner::new([tags.key, tags.close, tags.open, "</tool_call>"]),
            State::Between => Scanner::new([tags.key, tags.close, tags.open]),
            State::Key => Scanner::new([tags.value[0]]),
            State::ToValue(passed) => Scanner::new([tags.value[passed]]),
            State::Value => Scanner::new(tags.ends.iter().map(|(end, _)| end)),
            State::NextKey => Scanner::new([""]),
            State::Around => Scanner::new([tags.open, "</tool_call>", "<tool_call>"]),
        };
        self.state = state;
        self.read.clear();
    }

    fn found(&mut self, index: usize, answer: &mut Answer) {
        let read = std::mem::take(&mut self.read);
        match (self.state, index) {
            (State::Text, _) => {
                answer.texts(&read);
                let around = self.tags.lines && index == 0;
                self.around = if around { "<tool_call>" } else { "" };
                self.go(if around { State::Around } else { State::Name });
            }
            (State::Name, _) => self.begin(&read, index, answer),
            (State::Between, 0) => self.go(State::Key),
            (State::Between, 1) => self.end(answer),
            (State::Between, index) => {
                answer.arguments("}");
                self.around = "";
                self.go(if index == 2 { State::Name } else { State::Text });
            }
            (State::Key, _) => {
                self.key = read.trim().to_string();
                if self.tags.value.len() > 1 { self.go(State::ToValue(1)) } else { self.begin_value(answer) }
            }
            (State::ToValue(_), _) => self.begin_value(answer),
            (State::Value, index) => self.end_value(read, self.tags.ends[index].1, answer),
            (State::NextKey, _) => {}
            (State::Around, 0) => self.go(State::Name),
            (State::Around, 2) => {
                answer.texts(&format!("{}{}", self.around, if self.around.is_empty() { "" } else { &read }));
                self.around = "<tool_call>";
                self.go(State::Around);
            }
            (State::Around, _) => {
                if !self.around.is_empty() {
                    answer.texts(&format!("{}{read}</tool_call>", self.around));
                }
                self.go(State::Text);
            }
        }
    }

    fn end_value(&mut self, read: String, then: Then, answer: &mut Answer) {
        if let Then::Key = then {
            self.value = read;
            return self.go(State::NextKey);
        }
        self.argument(&read, answer);
        match then {
            Then::Between | Then::Key => return self.go(State::Between),
            Then::Text => (self.around, self.state) = ("", State::Text),
            Then::Call => (self.around, self.state) = ("<tool_call>", State::Around),
        }
        answer.arguments("}");
        self.go(self.state);
    }

    /// Reads on where a value may have ended without its end.
    fn next_key(&mut self, letter: char, answer: &mut Answer) {
        let is_key = self.functions.may_have(&self.name, self.read.trim());
        if letter == '>' && is_key {
            let (value, key) = (std::mem::take(&mut self.value), self.read.trim().to_string());
            self.argument(&value, answer);
            self.key = key;
            return self.begin_value(answer);
        }
        if !matches!(letter, '>' | '\n') && self.read.len() < NAME_BYTES_MAX {
            return self.read.push(letter);
        }
        let value = format!("{}\n{}{}", std::mem::take(&mut self.value), self.tags.key, self.read);
        self.go(State::Value);
        self.read = value;
        self.pass_on(answer);
        self.push(letter, answer);
    }

    fn begin_value(&mut self, answer: &mut Answer) {
        self.go(State::Value);
        if self.functions.is_text(&self.name, &self.key) {
            self.begin_argument("\"", answer);
            self.passed = Some(0);
        }
    }

    /// Passes on what was read of a text.
    fn pass_on(&mut self, answer: &mut Answer) {
        let Some(passed) = &mut self.passed else { return };
        let read = std::mem::take(&mut self.read);
        let first = self.tags.lines && *passed == 0;
        *passed += read.len();
        answer.arguments(&escaped(if first { read.strip_prefix('\n').unwrap_or(&read) } else { &read }));
    }

    /// Gives up a call whose name cannot be one, and tags that are around no call.
    fn check(&mut self, answer: &mut Answer) {
        if self.state == State::Around && !self.read.trim().is_empty() {
            let text = format!("{}{}{}", self.around, self.read, self.scanner.finish());
            self.go(State::Text);
            return answer.texts(&text);
        }
        if self.state == State::Name && (self.read.len() > NAME_BYTES_MAX || self.read.trim().contains(['{', '<'])) {
            let text = format!("{}{}{}", self.tags.open, self.read, self.scanner.finish());
            self.go(State::Text);
            answer.texts(&text);
        }
    }

    fn begin(&mut self, read: &str, index: usize, answer: &mut Answer) {
        self.name = read.trim().to_string();
        // What tags alone do not show to be a call must name a function; an argument that follows does show it.
        let shown = if self.tags.lines {
            !self.around.is_empty()
        } else {
            index == 0 && !self.name.contains(char::is_whitespace)
        };
        if self.name.is_empty() || !shown && !self.functions.has(&self.name) {
            let found = if index == 0 { self.tags.first } else { self.tags.close };
            let text = format!("{}{read}{found}", self.tags.open);
            self.go(State::Text);
            return answer.texts(&text);
        }
        self.arguments = 0;
        answer.begin_call(self.name.clone());
        answer.arguments("{");
        match index {
            0 if self.tags.first == self.tags.key => self.go(State::Key),
            0 => self.go(State::Between),
            _ => self.end(answer),
        }
    }

    fn argument(&mut self, read: &str, answer: &mut Answer) {
        if self.passed.is_some() {
            self.read = read.to_string();
            self.pass_on(answer);
            self.passed = None;
            return answer.arguments("\"");
        }
        let value = if self.tags.lines { read.strip_prefix('\n').unwrap_or(read) } else { read };
        let value = self.functions.json(&self.name, &self.key, value);
        self.begin_argument(&value, answer);
    }

    fn begin_argument(&mut self, value: &str, answer: &mut Answer) {
        let comma = if self.arguments > 0 { ", " } else { "" };
        self.arguments += 1;
        answer.arguments(&format!("{comma}{}: {value}", serde_json::Value::from(self.key.as_str())));
    }

    fn end(&mut self, answer: &mut Answer) {
        answer.arguments("}");
        self.around = "";
        self.go(if self.tags.lines { State::Around } else { State::Text });
    }
}
