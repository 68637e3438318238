//! Tool calls whose arguments stand between tags, one by one: GLM 4.5 and later, and Qwen3-Coder.
//!
//! An argument becomes JSON once it is whole, of a type that its tool's schema allows (`types`). Several
//! calls may follow each other. What is no call after all becomes text, tags included.

use super::answer::Answer;
use super::marker::{Found, Scanner};
use super::types::ArgumentTypes;

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
    value_end: &'static str,
    /// What ends a call.
    close: &'static str,
    /// Whether each value has lines of its own.
    lines: bool,
}

/// `<tool_call>name\n<arg_key>k</arg_key>\n<arg_value>v</arg_value></tool_call>`
pub const GLM: Tags = Tags {
    open: "<tool_call>",
    first: "<arg_key>",
    key: "<arg_key>",
    value: &["</arg_key>", "<arg_value>"],
    value_end: "</arg_value>",
    close: "</tool_call>",
    lines: false,
};

/// `<tool_call>\n<function=name>\n<parameter=k>\nv\n</parameter>\n</function>\n</tool_call>`
pub const CODER: Tags = Tags {
    open: "<function=",
    first: ">",
    key: "<parameter=",
    value: &[">"],
    value_end: "</parameter>",
    close: "</function>",
    lines: true,
};

/// Reads one answer.
pub struct Tagged {
    tags: Tags,
    types: ArgumentTypes,
    state: State,
    scanner: Scanner,
    /// What was read of the part under way.
    read: String,
    name: String,
    key: String,
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
    /// Around a call, where a family writes a second pair of tags.
    Around,
}

impl Tagged {
    /// Begins an answer.
    pub fn new(tags: Tags, types: ArgumentTypes) -> Self {
        let mut reader = Self {
            tags,
            types,
            state: State::Text,
            scanner: Scanner::new([""]),
            read: String::new(),
            name: String::new(),
            key: String::new(),
            arguments: 0,
            around: "",
        };
        reader.go(State::Text);
        reader
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match self.scanner.push(letter) {
            Found::Text(text) if self.state == State::Text => answer.texts(&text),
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

    /// Ends the answer; an argument that was cut off is left out.
    pub fn finish(&mut self, answer: &mut Answer) {
        let held = self.scanner.finish();
        match self.state {
            State::Text => answer.texts(&held),
            State::Name => answer.texts(&format!("{}{}{held}", self.tags.open, self.read)),
            State::Around => answer.texts(&format!("{}{}{held}", self.around, self.read.trim_start())),
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
            State::Between => Scanner::new([tags.key, tags.close]),
            State::Key => Scanner::new([tags.value[0]]),
            State::ToValue(passed) => Scanner::new([tags.value[passed]]),
            State::Value => Scanner::new([tags.value_end]),
            State::Around => Scanner::new([tags.open, "</tool_call>"]),
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
            (State::Between, _) => self.end(answer),
            (State::Key, _) => {
                self.key = read.trim().to_string();
                self.go(if self.tags.value.len() > 1 { State::ToValue(1) } else { State::Value });
            }
            (State::ToValue(_), _) => self.go(State::Value),
            (State::Value, _) => {
                self.argument(&read, answer);
                self.go(State::Between);
            }
            (State::Around, 0) => self.go(State::Name),
            (State::Around, _) => {
                if !self.around.is_empty() {
                    answer.texts(&format!("{}{read}</tool_call>", self.around));
                }
                self.go(State::Text);
            }
        }
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
        if self.name.is_empty() {
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
        let value = match self.tags.lines {
            true => read.strip_prefix('\n').unwrap_or(read),
            false => read,
        };
        let value = if self.tags.lines { value.strip_suffix('\n').unwrap_or(value) } else { value };
        let value = self.types.read(&self.name, &self.key, value);
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
