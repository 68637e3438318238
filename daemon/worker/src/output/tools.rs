//! Which way a model writes tool calls, and the reader for it.
//!
//! The chat template tells: it shows the model the markers it was trained on. A format that is not listed is left as
//! text. The output room's second stage.

use super::answer::Answer;
use super::hermes::Hermes;
use super::llama3::Llama3;
use super::mistral::Mistral;

/// A way to write tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen 2.5, Qwen 3.
    Hermes,
    /// `{"name": …, "parameters": …}` in place of an answer, or after `<|python_tag|>`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`, or `[TOOL_CALLS]name[ARGS]{…}`: Mistral.
    Mistral,
}

impl ToolFormat {
    /// The format that a chat template was written for, if it is a known one.
    pub fn detect(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        // Between the same tags, some models write XML instead of JSON.
        if has("<function=") || has("<arg_key>") {
            None
        } else if has("<tool_call>") {
            Some(Self::Hermes)
        } else if has("[TOOL_CALLS]") {
            Some(Self::Mistral)
        } else if has("<|python_tag|>") || has("Environment: ipython") {
            Some(Self::Llama3)
        } else {
            None
        }
    }

    /// The special tokens that must be written out for calls to be seen.
    pub fn shown(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>", "</tool_call>"],
            Self::Llama3 => &["<|python_tag|>"],
            Self::Mistral => &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
        }
    }
}

/// Reads the calls of one choice.
pub enum ToolReader {
    Hermes(Hermes),
    Llama3(Llama3),
    Mistral(Mistral),
}

impl ToolReader {
    /// Begins an answer.
    pub fn new(format: ToolFormat) -> Self {
        match format {
            ToolFormat::Hermes => Self::Hermes(Hermes::new()),
            ToolFormat::Llama3 => Self::Llama3(Llama3::new()),
            ToolFormat::Mistral => Self::Mistral(Mistral::new()),
        }
    }

    /// Adds a character; text and calls go into `answer`.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match self {
            Self::Hermes(reader) => reader.push(letter, answer),
            Self::Llama3(reader) => reader.push(letter, answer),
            Self::Mistral(reader) => reader.push(letter, answer),
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self, answer: &mut Answer) {
        match self {
            Self::Hermes(reader) => reader.finish(answer),
            Self::Llama3(reader) => reader.finish(answer),
            Self::Mistral(reader) => reader.finish(answer),
        }
    }
}
