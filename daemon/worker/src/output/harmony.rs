//! Answers in OpenAI's harmony form: messages with a header each, in channels.
//!
//! The channel `analysis` is reasoning, `final` is the answer, and a message to a function is a call; what is said in
//! `commentary` to nobody is part of the answer. It stands in for both the reasoning and the tool stage of other models.

use super::answer::Answer;
use super::call::CallReader;
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
    state: State,
    scanner: Scanner,
}

enum State {
    Header(String),
    Reasoning,
    Answer,
    Call(CallReader),
    /// A call is read; what follows it in its message is left out.
    After,
}

impl Harmony {
    /// Begins an answer, in the header of its first message; one that goes on is inside of the message that says it.
    pub fn new(begun: bool) -> Self {
        if begun {
            return Self { state: State::Answer, scanner: Scanner::new(ENDS) };
        }
        Self { state: State::Header(String::new()), scanner: Scanner::new(MESSAGE) }
    }

    /// Whether it is inside of the reasoning.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning)
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
                self.state = body(header);
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
            State::Call(call) => {
                for letter in text.chars() {
                    if call.push(letter, answer) != Step::More {
                        answer.texts(&call.give_back());
                        self.state = State::After;
                        return;
                    }
                }
            }
        }
    }

    /// Ends the message under way.
    fn close(&mut self, answer: &mut Answer) {
        if let State::Call(call) = &mut self.state {
            call.close(answer);
            answer.texts(&call.give_back());
        }
    }
}

/// How the body under a header is to be read.
fn body(header: &str) -> State {
    if let Some((_, rest)) = header.split_once("to=functions.") {
        let name: String = rest.chars().take_while(|letter| !letter.is_whitespace() && *letter != '<').collect();
        if !name.is_empty() {
            return State::Call(CallReader::with_name(name, ""));
        }
    }
    let channel = header.rsplit("<|channel|>").next().unwrap_or_default().trim_start();
    if header.contains("<|channel|>") && channel.starts_with("analysis") { State::Reasoning } else { State::Answer }
}
