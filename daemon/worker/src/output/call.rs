//! Reads a tool call that is written as a JSON object with a name and arguments.
//!
//! The call is announced once its name is known and its arguments have begun; from then on the arguments are passed on
//! as they come. What turns out not to be a call before that is given back to be text. The readers of all formats use it.

use super::answer::Answer;
use super::functions::Functions;
use super::json::{JsonReader, Step};

/// Reads one call.
pub struct CallReader {
    at: At,
    value: JsonReader,
    /// What the value under way has passed on and is not yet used.
    text: String,
    key: String,
    name: Option<String>,
    /// Arguments that came before the name.
    arguments: Option<String>,
    announced: bool,
    /// The name was written before the object, which is the arguments themselves.
    named: bool,
    /// No marker says that it is a call: it must be one of these, and have arguments.
    bare: Option<Functions>,
    /// Everything read, while the call is not announced.
    raw: String,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    FirstKey,
    Key,
    Colon,
    Value,
    CommaOrEnd,
}

impl CallReader {
    /// Begins before the object's opening brace; `raw` is what led to it, should it be no call.
    pub fn new(raw: &str) -> Self {
        Self {
            at: At::Start,
            value: JsonReader::new(),
            text: String::new(),
            key: String::new(),
            name: None,
            arguments: None,
            announced: false,
            named: false,
            bare: None,
            raw: raw.to_string(),
        }
    }

    /// Begins at the arguments of a call whose name was written before them.
    pub fn with_name(name: String, raw: &str) -> Self {
        Self { at: At::Value, key: "arguments".to_string(), name: Some(name), named: true, ..Self::new(raw) }
    }

    /// Begins before the brace of an object that no marker stands before: it is a call only of one of these functions.
    pub fn bare(functions: Functions) -> Self {
        Self { bare: Some(functions), ..Self::new("") }
    }

    /// Adds a character. A malformed one is not part of the call; an announced call is closed then.
    pub fn push(&mut self, letter: char, answer: &mut Answer) -> Step {
        let step = self.step(letter, answer);
        match step {
            Step::Malformed if self.announced => self.close(answer),
            Step::Malformed | Step::DoneBefore => {}
            _ if self.announced => self.raw.clear(),
            _ => self.raw.push(letter),
        }
        step
    }

    /// What was read and is not a call; empty if the call was announced.
    pub fn give_back(&mut self) -> String {
        if self.announced { String::new() } else { std::mem::take(&mut self.raw) }
    }

    /// Whether the call was announced.
    pub fn is_announced(&self) -> bool {
        self.announced
    }

    /// Completes the arguments of an announced call that was cut off.
    pub fn close(&mut self, answer: &mut Answer) {
        if self.announced && self.at == At::Value && self.is_arguments() {
            answer.arguments(&self.value.close());
        }
    }

    /// Ends a call in the middle of which its answer ended. What was not announced is given back, or left out where it was cut
    /// off after a marker that says that it is a call.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        self.close(answer);
        match cut && self.bare.is_none() {
            _ if self.announced => {}
            true => answer.leave_out_call(),
            false => answer.texts(&self.give_back()),
        }
    }

    fn is_arguments(&self) -> bool {
        matches!(self.key.as_str(), "arguments" | "parameters")
    }

    fn step(&mut self, letter: char, answer: &mut Answer) -> Step {
        let space = letter.is_ascii_whitespace();
        match self.at {
            At::Key | At::FirstKey if !self.text.is_empty() || letter == '"' => self.read_key(letter),
            At::Value => self.read_value(letter, answer),
            _ if space => Step::More,
            At::Start if letter == '{' => self.go(At::FirstKey),
            At::Colon if letter == ':' => self.go(At::Value),
            At::CommaOrEnd if letter == ',' => self.go(At::Key),
            At::FirstKey | At::Key | At::CommaOrEnd if letter == '}' => self.end(answer),
            _ => Step::Malformed,
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        self.value = JsonReader::new();
        self.text.clear();
        Step::More
    }

    fn read_key(&mut self, letter: char) -> Step {
        let step = self.value.push(letter, &mut self.text);
        if step != Step::Done {
            return step;
        }
        self.key = serde_json::from_str(&self.text).unwrap_or_default();
        let known = match self.key.as_str() {
            "name" | "tool_name" => self.name.is_none(),
            "arguments" | "parameters" => !self.announced && self.arguments.is_none(),
            "id" | "type" | "tool_call_id" => true,
            _ => false,
        };
        if known { self.go(At::Colon) } else { Step::Malformed }
    }

    fn read_value(&mut self, letter: char, answer: &mut Answer) -> Step {
        let step = self.value.push(letter, &mut self.text);
        if self.is_arguments() && self.text.starts_with('{') && self.name.is_some() && !self.announced {
            self.announce(answer);
        }
        if self.is_arguments() && self.announced {
            answer.arguments(&self.text);
            self.text.clear();
        }
        match step {
            Step::Done | Step::DoneBefore if !self.end_value() => Step::Malformed,
            Step::Done if self.named => self.end(answer),
            Step::Done => Step::More,
            Step::DoneBefore => self.step(letter, answer),
            other => other,
        }
    }

    fn end_value(&mut self) -> bool {
        let text = std::mem::take(&mut self.text);
        self.at = At::CommaOrEnd;
        match self.key.as_str() {
            "name" | "tool_name" => {
                let known = |name: &String| self.bare.as_ref().is_none_or(|functions| functions.has(name));
                self.name = serde_json::from_str(&text).ok().filter(|name: &String| !name.is_empty() && known(name));
                self.name.is_some()
            }
            "arguments" | "parameters" if !self.announced => {
                self.arguments = object_text(&text);
                self.arguments.is_some()
            }
            _ => true,
        }
    }

    fn announce(&mut self, answer: &mut Answer) {
        answer.begin_call(self.name.clone().unwrap_or_default());
        self.announced = true;
    }

    fn end(&mut self, answer: &mut Answer) -> Step {
        if self.announced {
            return Step::Done;
        }
        if self.name.is_none() || self.bare.is_some() && self.arguments.is_none() {
            return Step::Malformed;
        }
        self.announce(answer);
        answer.arguments(self.arguments.as_deref().unwrap_or("{}"));
        Step::Done
    }
}

/// An object's text, from an object, from a string that holds one, or from nothing at all.
fn object_text(text: &str) -> Option<String> {
    let inner: Option<String> = serde_json::from_str(text).ok();
    let text = inner.as_deref().unwrap_or(text).trim();
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(_)) => Some(text.to_string()),
        Ok(serde_json::Value::Null) => Some("{}".to_string()),
        _ => None,
    }
}
