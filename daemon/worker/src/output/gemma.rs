//! Tool calls as Gemma writes them: `call:name{key:value}`, with texts between marks instead of quotes.
//!
//! FunctionGemma and Gemma 4 differ in their marks only. Keys are bare and values are not JSON, so a call is passed on
//! once it is whole; a call that is cut off is closed. What is no call after all becomes text.

use serde_json::{Map, Value};

use super::answer::Answer;
use super::marker::{Found, Scanner};

const CALL_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 64;

/// The marks of a family.
#[derive(Clone, Copy)]
pub struct Marks {
    /// What begins a call.
    pub open: &'static str,
    /// What ends it.
    pub close: &'static str,
    /// What stands before and after a text.
    pub quote: &'static str,
}

/// FunctionGemma.
pub const FUNCTION: Marks = Marks { open: "<start_function_call>", close: "<end_function_call>", quote: "<escape>" };
/// Gemma 4.
pub const FOUR: Marks = Marks { open: "<|tool_call>", close: "<tool_call|>", quote: "<|\"|>" };

/// Reads one answer.
pub struct Gemma {
    marks: Marks,
    scanner: Scanner,
    /// The call under way.
    call: Option<String>,
}

impl Gemma {
    /// Begins an answer.
    pub fn new(marks: Marks) -> Self {
        Self { marks, scanner: Scanner::new([marks.open]), call: None }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match (self.scanner.push(letter), &mut self.call) {
            (Found::Text(text), None) => answer.texts(&text),
            (Found::Marker(_, text), None) => {
                answer.texts(&text);
                self.call = Some(String::new());
                self.scanner = Scanner::new([self.marks.close]);
            }
            (Found::Text(text), Some(call)) => {
                call.push_str(&text);
                if call.len() > CALL_BYTES_MAX {
                    let call = std::mem::take(call) + &self.scanner.finish();
                    self.give_back(&call, answer);
                }
            }
            (Found::Marker(_, text), Some(call)) => {
                call.push_str(&text);
                let call = std::mem::take(call);
                match read(&call, self.marks.quote) {
                    Some((name, arguments)) => {
                        pass_on(name, arguments, answer);
                        self.outside();
                    }
                    None => self.give_back(&(call + self.marks.close), answer),
                }
            }
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self, answer: &mut Answer) {
        let held = self.scanner.finish();
        match self.call.take() {
            None => answer.texts(&held),
            Some(call) => match read(&(call.clone() + &held), self.marks.quote) {
                Some((name, arguments)) => pass_on(name, arguments, answer),
                None => answer.texts(&format!("{}{call}{held}", self.marks.open)),
            },
        }
    }

    fn outside(&mut self) {
        self.call = None;
        self.scanner = Scanner::new([self.marks.open]);
    }

    fn give_back(&mut self, text: &str, answer: &mut Answer) {
        answer.texts(self.marks.open);
        answer.texts(text);
        self.outside();
    }
}

fn pass_on(name: String, arguments: Value, answer: &mut Answer) {
    answer.begin_call(name);
    answer.arguments(&arguments.to_string());
}

/// A call's name and arguments; what is missing at the end is taken as closed.
fn read(call: &str, quote: &str) -> Option<(String, Value)> {
    let (name, rest) = call.trim_start().strip_prefix("call:")?.split_once('{')?;
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let mut reader = Reader { rest, quote };
    Some((name.to_string(), reader.object(0)?))
}

struct Reader<'a> {
    rest: &'a str,
    quote: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.trim()
    }

    fn quoted(&mut self) -> Option<&'a str> {
        if !self.eat(self.quote) {
            return None;
        }
        let (text, rest) = self.rest.split_once(self.quote).unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(text)
    }

    /// After the opening brace.
    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut object = Map::new();
        loop {
            if self.eat("}") || self.rest.is_empty() {
                return Some(Value::Object(object));
            }
            let key = match self.quoted() {
                Some(key) => key,
                None => self.until(|letter| matches!(letter, ':' | ',' | '}')),
            };
            if !self.eat(":") {
                return if self.rest.is_empty() { Some(Value::Object(object)) } else { None };
            }
            let value = self.value(depth + 1)?;
            object.insert(key.to_string(), value);
            self.eat(",");
        }
    }

    /// After the opening bracket.
    fn list(&mut self, depth: usize) -> Option<Value> {
        let mut list = Vec::new();
        loop {
            if self.eat("]") || self.rest.is_empty() {
                return Some(Value::Array(list));
            }
            let before = self.rest.len();
            list.push(self.value(depth + 1)?);
            self.eat(",");
            // A bracket of another kind is no value, and nothing gets past it.
            if self.rest.len() == before {
                return None;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        if let Some(text) = self.quoted() {
            return Some(text.into());
        }
        if self.eat("{") {
            return self.object(depth);
        }
        if self.eat("[") {
            return self.list(depth);
        }
        let word = self.until(|letter| matches!(letter, ',' | '}' | ']'));
        Some(serde_json::from_str(word).unwrap_or_else(|_| word.into()))
    }
}
