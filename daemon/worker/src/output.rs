//! Turns a model's raw text into what a client receives: answer, reasoning, tool calls, and where it stops.
//!
//! Text goes through three stages: reasoning and tags around the answer are split off, tool calls are read, and stop
//! strings are looked for in what is left. Every stage works character by character, so the outcome never depends on how the text was cut into pushes;
//! a resumed answer that replays its tokens comes out the same. The generation room keeps one for each choice.

mod answer;
mod bare;
mod call;
mod deepseek;
mod functions;
mod gemma;
mod glm4;
mod harmony;
mod hermes;
mod json;
mod list;
mod llama3;
mod marker;
mod past;
mod reasoning;
mod tagged;
#[cfg(test)]
mod tests;
mod tools;
mod wrapped;
mod written;

use protocol::generation::ToolCallDelta;

use self::answer::Answer;
use self::harmony::Harmony;
use self::reasoning::Splitter;
use self::tools::ToolReader;
use self::wrapped::Wrapped;

pub use self::functions::Functions;
pub use self::harmony::{SHOWN as HARMONY_SHOWN, TO_ANSWER as HARMONY_TO_ANSWER, TO_NEXT as HARMONY_TO_NEXT};
pub use self::reasoning::{Place, ReasoningTags};
pub use self::tools::ToolFormat;
pub use self::wrapped::is_asked as is_wrapped;
pub use self::written::HarmonyForm;

/// What to look for in a model's text.
#[derive(Clone, Debug, Default)]
pub struct OutputOptions {
    /// Texts that end the answer and are not part of it. Empty ones are ignored. Reasoning and calls are not searched.
    pub stop_strings: Vec<String>,
    /// How the model marks its reasoning, if it does.
    pub reasoning: Option<ReasoningTags>,
    /// Whether the model was asked to put its answer between tags.
    pub wrapped: bool,
    /// How the model writes tool calls, if it may make any.
    pub tools: Option<ToolFormat>,
    /// Whether the answer itself is to be JSON, or in another shape: then only what is marked is a call.
    pub shaped: bool,
    /// The functions that may be called.
    pub functions: Functions,
    /// Whether the model answers in the harmony form, which has a way of its own for reasoning and calls.
    pub harmony: bool,
    /// Whether the answer goes on with what is in its prompt.
    pub begun: bool,
    /// Whether nothing but calls may come, so that what else is there is the beginning of one that was cut off.
    pub calls_only: bool,
    /// What the calls' ids are made from; the same seed makes the same ids.
    pub call_id_seed: u64,
}

/// How a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended it.
    Whole,
    /// It was cut off at its limit.
    Cut,
    /// The same, while its reasoning was being closed because its budget was spent.
    Closing,
}

/// What became of some text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// More of the answer.
    pub text: String,
    /// More of the reasoning.
    pub reasoning: String,
    /// More of the tool calls, at most one delta for each.
    pub tool_calls: Vec<ToolCallDelta>,
    /// The stop string that ended the answer here.
    pub stopped: Option<String>,
}

/// The stages that one choice's text goes through.
pub struct Output {
    harmony: Option<Harmony>,
    reasoning: Option<Splitter>,
    wrapped: Option<Wrapped>,
    tools: Option<ToolReader>,
    answer: Answer,
}

impl Output {
    /// Begins a choice.
    pub fn new(options: OutputOptions) -> Self {
        let calls = options.tools.is_some() || options.harmony;
        let around = options.tools.and_then(ToolFormat::around);
        Self {
            harmony: options.harmony.then(|| Harmony::new(options.begun, options.functions.clone())),
            reasoning: options.reasoning.map(|tags| Splitter::new(tags, around)),
            wrapped: options.wrapped.then(Wrapped::new),
            tools: options.tools.map(|format| ToolReader::new(format, options.functions, options.shaped)),
            answer: Answer::new(options.stop_strings, calls, options.calls_only, options.call_id_seed),
        }
    }

    /// Says whether the answer is too short to be stopped by its stop strings.
    pub fn set_too_short(&mut self, too_short: bool) {
        self.answer.set_too_short(too_short);
    }

    /// Adds text; returns what can be told apart by now. After a stop everything is dropped.
    pub fn push(&mut self, text: &str) -> Piece {
        let mut reasoning = String::new();
        for letter in text.chars() {
            if self.answer.has_stopped() {
                break;
            }
            if let Some(harmony) = &mut self.harmony {
                harmony.push(letter, &mut reasoning, &mut self.answer);
                continue;
            }
            match &mut self.reasoning {
                Some(splitter) => {
                    let said = splitter.push(letter, &mut reasoning);
                    self.say(&said);
                }
                None => self.say(letter.encode_utf8(&mut [0; 4])),
            }
        }
        Piece { reasoning, ..self.answer.take() }
    }

    /// Ends the text; returns what was held back. A call that was cut off is closed, so that its arguments are JSON, and one
    /// of which too little came to be told of is left out.
    pub fn finish(&mut self, end: End) -> Piece {
        let mut reasoning = String::new();
        if let Some(mut harmony) = self.harmony.take() {
            harmony.finish(&mut reasoning, &mut self.answer);
        }
        if let Some(mut splitter) = self.reasoning.take() {
            let said = splitter.finish(end == End::Closing, &mut reasoning);
            self.say(&said);
        }
        if let Some(mut wrapped) = self.wrapped.take() {
            self.say(&wrapped.finish());
        }
        if let Some(mut tools) = self.tools.take() {
            tools.finish(end != End::Whole, &mut self.answer);
        }
        self.answer.finish();
        Piece { reasoning, ..self.answer.take() }
    }

    /// Whether the text is inside of the reasoning.
    pub fn is_reasoning(&self) -> bool {
        let harmony = self.harmony.as_ref().is_some_and(Harmony::is_reasoning);
        harmony || self.reasoning.as_ref().is_some_and(Splitter::is_inside)
    }

    /// Whether it is not known yet if what was said last is reasoning, or ends it.
    pub fn is_unsure(&self) -> bool {
        let harmony = self.harmony.as_ref().is_some_and(Harmony::is_unsure);
        harmony || self.reasoning.as_ref().is_some_and(Splitter::is_unsure)
    }

    /// How many tool calls have begun.
    pub fn calls(&self) -> u16 {
        self.answer.calls()
    }

    fn say(&mut self, said: &str) {
        for letter in said.chars() {
            match &mut self.wrapped {
                Some(wrapped) => {
                    let inner = wrapped.push(letter);
                    self.answer_with(&inner);
                }
                None => self.answer_with(letter.encode_utf8(&mut [0; 4])),
            }
        }
    }

    fn answer_with(&mut self, text: &str) {
        for letter in text.chars() {
            match &mut self.tools {
                Some(tools) => tools.push(letter, &mut self.answer),
                None => self.answer.text(letter),
            }
        }
    }
}
