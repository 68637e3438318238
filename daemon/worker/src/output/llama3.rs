//! Tool calls as Llama 3 writes them: a JSON object in place of an answer, with or without `<|python_tag|>` before it.
//!
//! Only the beginning of an answer can be a call, so that JSON inside of an answer stays text, and without the tag only
//! what names a known function: an answer may be JSON. More calls may follow after white space or a semicolon. After the
//! tag, `name.call(key=value)` calls a known function, and code one that runs code, if there is any. The tag itself is never
//! part of the text.

use serde_json::{Map, Value};

use super::answer::Answer;
use super::call::CallReader;
use super::functions::{Functions, escaped};
use super::json::Step;
use super::marker::{Found, Scanner};

const TAG: &str = "<|python_tag|>";
/// What functions that run code are called.
const CODE: [&str; 2] = ["python", "code_interpreter"];
const NAME_BYTES_MAX: usize = 256;
/// How many brackets are tried as the end of a call.
const ENDS_MAX: usize = 64;

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
    /// After the tag, what is no JSON: perhaps `name.call(`.
    Head(String),
    /// A function's name, and what follows its opening bracket.
    Named(String, String),
    /// Code, inside of the quotes of an argument.
    Code,
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
            State::Head(_) | State::Named(..) => self.push_named(letter, answer),
            State::Code => answer.arguments(&escaped(letter.encode_utf8(&mut [0; 4]))),
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

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        match &mut self.state {
            State::Ready(_) if cut && self.tagged => answer.leave_out_call(),
            State::Ready(scanner) | State::Text(scanner) => answer.texts(&scanner.finish()),
            State::Call(call) => call.finish(cut, answer),
            State::Head(head) if cut && self.functions.may_begin(head.split('.').next().unwrap_or_default()) => {
                answer.leave_out_call();
            }
            State::Named(..) if cut => answer.leave_out_call(),
            State::Head(_) | State::Named(..) => {
                self.give_up(answer);
                self.finish(cut, answer);
            }
            State::Code => answer.arguments("\"}"),
        }
    }

    /// Reads `name.call(key=value)` after the tag.
    fn push_named(&mut self, letter: char, answer: &mut Answer) {
        match &mut self.state {
            State::Head(head) => {
                head.push(letter);
                let name = head.strip_suffix(".call(").unwrap_or_default();
                if self.functions.has(name) {
                    self.state = State::Named(name.to_string(), String::new());
                } else if !may_name(head) {
                    self.give_up(answer);
                }
            }
            State::Named(name, read) => {
                read.push(letter);
                if letter != ')' {
                    return;
                }
                if let Some(arguments) = arguments(read) {
                    answer.begin_call(std::mem::take(name));
                    answer.arguments(&arguments);
                    self.called = true;
                    self.state = State::Ready(Scanner::new([TAG]));
                } else if read.matches(')').count() > ENDS_MAX {
                    self.give_up(answer);
                }
            }
            _ => {}
        }
    }

    /// Goes on with what follows the tag and calls no function by its name: code, if a function runs that, or text.
    fn give_up(&mut self, answer: &mut Answer) {
        let read = match &self.state {
            State::Head(head) => head.clone(),
            State::Named(name, read) => format!("{name}.call({read}"),
            _ => return,
        };
        self.state = match CODE.into_iter().find(|name| self.functions.has(name)) {
            Some(name) => {
                answer.begin_call(name.to_string());
                answer.arguments("{\"code\": \"");
                State::Code
            }
            None => State::Text(Scanner::new([TAG])),
        };
        read.chars().for_each(|letter| self.push(letter, answer));
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
                let tagged = std::mem::take(&mut self.tagged);
                self.state = if tagged { State::Head(String::new()) } else { State::Text(Scanner::new([TAG])) };
                text.chars().chain(held.chars()).for_each(|letter| self.push(letter, answer));
            }
        }
    }
}

/// Whether a text may still become `name.call(`.
fn may_name(text: &str) -> bool {
    let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let named = name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'));
    named && text.len() < NAME_BYTES_MAX && ".call(".starts_with(rest)
}

/// The arguments `key=value, …)` as an object; `None` if they are not whole.
fn arguments(text: &str) -> Option<String> {
    let mut object = Map::new();
    let mut rest = text.strip_suffix(')')?.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let mut values = serde_json::Deserializer::from_str(after).into_iter();
        let value: Value = values.next()?.ok()?;
        object.insert(key.trim().to_string(), value);
        let after = after[values.byte_offset()..].trim_start();
        rest = after.strip_prefix(',').map_or(after, str::trim_start);
    }
    Some(Value::Object(object).to_string())
}
