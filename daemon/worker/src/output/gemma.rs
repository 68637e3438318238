//! Tool calls as Gemma writes them: `call:name{key:value}`, with texts between marks instead of quotes.
//!
//! FunctionGemma and Gemma 4 differ in their marks only. Keys are bare and values are not JSON: they become it as they come,
//! texts letter by letter, words once they are whole. A call that is cut off is closed. What is no call after all becomes
//! text.

use serde_json::Value;

use super::answer::Answer;
use super::functions::escaped;
use super::marker::{Found, Scanner};

const HEAD_BYTES_MAX: usize = 256;
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
    state: State,
    scanner: Scanner,
}

enum State {
    Text,
    /// The name, with what stands before it.
    Head(String),
    Arguments(Arguments),
    /// The call is read; its end is due.
    After,
}

impl Gemma {
    /// Begins an answer.
    pub fn new(marks: Marks) -> Self {
        Self { marks, state: State::Text, scanner: Scanner::new([marks.open]) }
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match (self.scanner.push(letter), &mut self.state) {
            (Found::Text(text), State::Text) => answer.texts(&text),
            (Found::Marker(_, text), State::Text) => {
                answer.texts(&text);
                self.go(State::Head(String::new()));
            }
            (Found::Text(text), State::Head(head)) => {
                head.push_str(&text);
                self.begin(answer);
            }
            (Found::Marker(_, text), State::Head(head)) => {
                let text = format!("{}{head}{text}{}", self.marks.open, self.marks.close);
                self.go(State::Text);
                answer.texts(&text);
            }
            (Found::Text(text), State::Arguments(arguments)) => {
                if text.chars().any(|letter| arguments.push(letter, answer)) {
                    self.end(answer);
                }
            }
            (Found::Marker(0, text), State::Arguments(arguments)) => {
                let over = text.chars().any(|letter| arguments.push(letter, answer));
                if over { self.end(answer) } else { arguments.quote(self.marks.quote, answer) }
            }
            (Found::Marker(_, text), State::Arguments(arguments)) => {
                let _ = text.chars().any(|letter| arguments.push(letter, answer));
                arguments.end_word(answer);
                self.end(answer);
                self.go(State::Text);
            }
            (Found::Marker(0, _), State::After) => self.go(State::Text),
            (Found::Marker(..), State::After) => self.go(State::Head(String::new())),
            (Found::Text(_), State::After) => {}
        }
    }

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        let held = self.scanner.finish();
        match &mut self.state {
            State::Text => answer.texts(&held),
            State::Head(_) if cut => answer.leave_out_call(),
            State::Head(head) => answer.texts(&format!("{}{head}{held}", self.marks.open)),
            State::Arguments(arguments) => arguments.close(answer),
            State::After => {}
        }
    }

    fn go(&mut self, state: State) {
        let Marks { open, close, quote } = self.marks;
        self.scanner = match &state {
            State::Text => Scanner::new([open]),
            State::Head(_) => Scanner::new([close]),
            State::Arguments(_) => Scanner::new([quote, close]),
            State::After => Scanner::new([close, open]),
        };
        self.state = state;
    }

    /// Begins the arguments once the name is whole, and gives up what cannot become one.
    fn begin(&mut self, answer: &mut Answer) {
        let State::Head(head) = &self.state else { return };
        let start = head.trim_start();
        if let Some((name, rest)) = start.strip_prefix("call:").and_then(|head| head.split_once('{')) {
            let (name, rest) = (name.trim().to_string(), rest.to_string());
            if !name.is_empty() && !name.contains(char::is_whitespace) {
                let held = self.scanner.finish();
                answer.begin_call(name);
                answer.arguments("{");
                self.go(State::Arguments(Arguments::new()));
                return rest.chars().chain(held.chars()).for_each(|letter| self.push(letter, answer));
            }
        } else if ("call:".starts_with(start) || start.starts_with("call:")) && head.len() < HEAD_BYTES_MAX {
            return;
        }
        let text = format!("{}{head}", self.marks.open);
        let held = self.scanner.finish();
        self.go(State::Text);
        answer.texts(&text);
        held.chars().for_each(|letter| self.push(letter, answer));
    }

    fn end(&mut self, answer: &mut Answer) {
        let State::Arguments(arguments) = &mut self.state else { return };
        arguments.close(answer);
        let held = self.scanner.finish();
        self.go(State::After);
        held.chars().for_each(|letter| self.push(letter, answer));
    }
}

/// The arguments of one call, after their opening brace.
struct Arguments {
    expect: Expect,
    /// The closing brackets that are due, innermost last.
    open: Vec<char>,
    /// What goes before the next value: a comma, a key.
    pending: String,
    /// A key or a word that is not whole yet.
    word: String,
    /// Whether the innermost bracket holds something.
    filled: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Key,
    QuotedKey,
    Colon,
    Value,
    Text,
    CommaOrEnd,
}

impl Arguments {
    fn new() -> Self {
        let (pending, word) = (String::new(), String::new());
        Self { expect: Expect::Key, open: vec!['}'], pending, word, filled: false }
    }

    /// Adds a character; returns whether the arguments are over, because of their end or of what cannot go on.
    fn push(&mut self, letter: char, answer: &mut Answer) -> bool {
        match (self.expect, letter) {
            (Expect::Text, _) => answer.arguments(&escaped(letter.encode_utf8(&mut [0; 4]))),
            (Expect::QuotedKey, _) => self.word.push(letter),
            (Expect::Key, ':') | (Expect::Colon, ':') => {
                let key = std::mem::take(&mut self.word);
                self.pending = format!("{}:", Value::from(key.trim()));
                self.expect = Expect::Value;
            }
            (Expect::Value, '{' | '[') if self.word.trim().is_empty() => return self.begin_bracket(letter, answer),
            (_, ',') => {
                self.end_word(answer);
                self.expect = self.next();
            }
            (_, '}' | ']') => return self.end_bracket(letter, answer),
            (Expect::Key | Expect::Value, _) => self.word.push(letter),
            (Expect::Colon | Expect::CommaOrEnd, _) if letter.is_whitespace() => {}
            // A comma or a colon that is missing.
            (Expect::Colon, _) => return true,
            (Expect::CommaOrEnd, _) => {
                self.expect = self.next();
                return self.push(letter, answer);
            }
        }
        false
    }

    /// Takes the mark that stands before and after texts.
    fn quote(&mut self, mark: &str, answer: &mut Answer) {
        match self.expect {
            Expect::CommaOrEnd => {
                self.expect = self.next();
                self.quote(mark, answer);
            }
            Expect::Key if self.word.trim().is_empty() => {
                self.word.clear();
                self.expect = Expect::QuotedKey;
            }
            Expect::QuotedKey => self.expect = Expect::Colon,
            Expect::Value if self.word.trim().is_empty() => {
                self.word.clear();
                self.begin_value("\"", answer);
                self.expect = Expect::Text;
            }
            Expect::Text => {
                answer.arguments("\"");
                self.expect = Expect::CommaOrEnd;
            }
            Expect::Key | Expect::Value | Expect::Colon => self.word.push_str(mark),
        }
    }

    /// Takes the word under way as a value, if there is one.
    fn end_word(&mut self, answer: &mut Answer) {
        let word = std::mem::take(&mut self.word);
        let of_list = self.open.last() == Some(&']');
        if self.expect == Expect::Value && !(of_list && word.trim().is_empty()) {
            let word = word.trim();
            // As it stands: a number that is read loses the digits that have no room.
            let is_json = serde_json::from_str::<Value>(word).is_ok();
            self.begin_value(&if is_json { word.to_string() } else { Value::from(word).to_string() }, answer);
            self.expect = Expect::CommaOrEnd;
        }
    }

    /// Completes what was passed on.
    fn close(&mut self, answer: &mut Answer) {
        if std::mem::replace(&mut self.expect, Expect::CommaOrEnd) == Expect::Text {
            answer.arguments("\"");
        }
        answer.arguments(&self.open.drain(..).rev().collect::<String>());
    }

    fn next(&self) -> Expect {
        if self.open.last() == Some(&']') { Expect::Value } else { Expect::Key }
    }

    fn begin_value(&mut self, value: &str, answer: &mut Answer) {
        let comma = if std::mem::replace(&mut self.filled, true) { "," } else { "" };
        answer.arguments(&format!("{comma}{}{value}", std::mem::take(&mut self.pending)));
    }

    fn begin_bracket(&mut self, letter: char, answer: &mut Answer) -> bool {
        if self.open.len() >= DEPTH_MAX {
            return true;
        }
        self.word.clear();
        self.begin_value(letter.encode_utf8(&mut [0; 4]), answer);
        self.open.push(if letter == '{' { '}' } else { ']' });
        self.filled = false;
        self.expect = self.next();
        false
    }

    fn end_bracket(&mut self, letter: char, answer: &mut Answer) -> bool {
        self.end_word(answer);
        // A bracket of another kind is no value, and nothing gets past it.
        if self.open.last() != Some(&letter) || self.open.len() == 1 {
            return true;
        }
        self.open.pop();
        answer.arguments(letter.encode_utf8(&mut [0; 4]));
        (self.filled, self.expect) = (true, Expect::CommaOrEnd);
        self.pending.clear();
        false
    }
}
