//! Answers in OpenAI's harmony form: messages with a header each, in channels.
//!
//! The channel `analysis` is reasoning, `final` is the answer, and a message to a function is a call; what is said in
//! `commentary` to nobody is part of the answer. It stands in for both the reasoning and the tool stage of other models.

use super::answer::Answer;
use super::call::CallReader;
use super::functions::Functions;
use super::json::Step;
use super::marker::{Found, Scanner};

/// What the tokens of the form are written as.
pub const SHOWN: [&str; 7] =
    ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"];
/// What ends the reasoning and begins the answer.
pub const TO_ANSWER: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";
/// What ends the reasoning and begins whatever a grammar says.
pub const TO_NEXT: &str = "<|end|><|start|>assistant";
const HEADER_BYTES_MAX: usize = 1024;
const MESSAGE: [&str; 1] = ["<|message|>"];
const ENDS: [&str; 4] = ["<|end|>", "<|call|>", "<|return|>", "<|start|>"];

/// Reads one answer.
pub struct Harmony {
    functions: Functions,
    state: State,
    scanner: Scanner,
}

enum State {
    Header(String),
    Reasoning,
    Answer,
    /// A message to this function.
    Call(String, CallReader),
    /// A call is read; what follows it in its message is left out.
    After,
}

impl Harmony {
    /// Begins an answer, in the header of its first message; one that goes on is inside of the message that says it.
    pub fn new(begun: bool, functions: Functions) -> Self {
        if begun {
            return Self { functions, state: State::Answer, scanner: Scanner::new(ENDS) };
        }
        Self { functions, state: State::Header(String::new()), scanner: Scanner::new(MESSAGE) }
    }

    /// Whether it is inside of the reasoning.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning)
    }

    /// Whether what was said last may be a mark as well as reasoning.
    pub fn is_unsure(&self) -> bool {
        self.is_reasoning() && self.scanner.is_holding()
    }

    /// Adds a character.
    pub fn push(&mut self, letter: char, reasoning: &mut String, answer: &mut Answer) {
        let (text, ended) = match self.scanner.push(letter) {
            Found::Text(text) => (text, false),
            Found::Marker(_, text) => (text, true),
        };
        self.say(&text, reasoning, answer);
        if !ended {
            return;
        }
        match &mut self.state {
            State::Header(header) => {
                self.state = body(header, &self.functions);
                self.scanner = Scanner::new(ENDS);
            }
            _ => {
                self.close(answer);
                self.state = State::Header(String::new());
                self.scanner = Scanner::new(MESSAGE);
            }
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self, reasoning: &mut String, answer: &mut Answer) {
        let held = self.scanner.finish();
        self.say(&held, reasoning, answer);
        self.close(answer);
        // An answer without any header is text all the same.
        if let State::Header(header) = &self.state
            && !header.contains("<|")
            && header.trim() != "assistant"
        {
            answer.texts(header);
        }
    }

    fn say(&mut self, text: &str, reasoning: &mut String, answer: &mut Answer) {
        match &mut self.state {
            State::Header(header) if header.len() < HEADER_BYTES_MAX => header.push_str(text),
            State::Header(_) | State::After => {}
            State::Reasoning => reasoning.push_str(text),
            State::Answer => answer.texts(text),
            State::Call(_, call) => {
                for (at, letter) in text.char_indices() {
                    let step = call.push(letter, answer);
                    if step == Step::More {
                        continue;
                    }
                    let is_call = call.is_announced();
                    answer.texts(&call.give_back());
                    self.state = if is_call { State::After } else { State::Answer };
                    // What is no JSON was said to a function, and is an answer rather than lost.
                    if !is_call {
                        answer.texts(&text[at..]);
                    }
                    return;
                }
            }
        }
    }

    /// Ends the message under way.
    fn close(&mut self, answer: &mut Answer) {
        if let State::Call(name, call) = &mut self.state {
            call.close(answer);
            let unread = call.give_back();
            if unread.trim().is_empty() && !call.is_announced() {
                answer.begin_call(std::mem::take(name));
                answer.arguments("{}");
            } else {
                answer.texts(&unread);
            }
        }
    }
}

/// How the body under a header is to be read. Models leave `functions.` out.
fn body(header: &str, functions: &Functions) -> State {
    if let Some((_, rest)) = header.split_once("to=") {
        let name: String = rest.chars().take_while(|letter| !letter.is_whitespace() && *letter != '<').collect();
        let name = match name.strip_prefix("functions.") {
            Some(name) => Some(name).filter(|name| !name.is_empty()),
            None => Some(name.as_str()).filter(|name| functions.has(name)),
        };
        if let Some(name) = name {
            return State::Call(name.to_string(), CallReader::with_name(name.to_string(), ""));
        }
    }
    let channel = header.rsplit("<|channel|>").next().unwrap_or_default().trim_start();
    if header.contains("<|channel|>") && channel.starts_with("analysis") { State::Reasoning } else { State::Answer }
}
