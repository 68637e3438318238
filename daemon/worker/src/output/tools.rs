//! Which way a model writes tool calls, and the reader for it.
//!
//! The chat template tells: it shows the model the markers it was trained on. A format that is not listed is left as
//! text. The output room's second stage.

use super::answer::Answer;
use super::deepseek::{self, DeepSeek};
use super::functions::Functions;
use super::gemma::{self, Gemma};
use super::glm4::Glm4;
use super::hermes::Hermes;
use super::list::{self, List};
use super::llama3::Llama3;
use super::reasoning::Around;
use super::tagged::{self, Tagged};

/// A way to write tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen 2.5, Qwen 3.
    Hermes,
    /// `{"name": …, "parameters": …}` in place of an answer, or after `<|python_tag|>`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS]name[ARGS]{…}`: newer Mistral.
    Mistral,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`: older Mistral.
    MistralList,
    /// `<|tool_call|>[{"name": …, "arguments": …}]`: Granite 3, Phi-4-mini.
    Listed,
    /// `<|START_ACTION|>[{"tool_name": …, "parameters": …}]`: Command R7B, Command A.
    Command,
    /// `[{"tool_name": …, "parameters": …}]` in a code block after `Action:`: Command R.
    Action,
    /// `<TOOLCALL>[{"name": …, "arguments": …}]</TOOLCALL>`: Nemotron.
    Nemotron,
    /// The name in a line, and the arguments after it: GLM-4-0414.
    Glm4,
    /// `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`: DeepSeek V3.1.
    DeepSeek,
    /// The same with `function` before the name and a code block around the arguments: DeepSeek V3, R1.
    DeepSeekFenced,
    /// `<tool_call>name<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`: GLM 4.5.
    Glm,
    /// `<function=name><parameter=k>v</parameter></function>`: Qwen3-Coder.
    Coder,
    /// `<start_function_call>call:name{k:<escape>v<escape>}<end_function_call>`: FunctionGemma.
    FunctionGemma,
    /// `<|tool_call>call:name{k:<|"|>v<|"|>}<tool_call|>`: Gemma 4.
    Gemma4,
}

impl ToolFormat {
    /// The format that a chat template was written for, if it is a known one.
    pub fn detect(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        // Between the same tags, some models write XML instead of JSON.
        if has("<arg_key>") {
            Some(Self::Glm)
        } else if has("<function=") {
            Some(Self::Coder)
        } else if has("<|tool_call>") {
            Some(Self::Gemma4)
        } else if has("<start_function_call>") {
            Some(Self::FunctionGemma)
        } else if has(deepseek::SEPARATOR) {
            Some(if has("```json") { Self::DeepSeekFenced } else { Self::DeepSeek })
        } else if has("<|tool_call|>") || (has("<|tool|>") && has("<|/tool|>")) {
            Some(Self::Listed)
        } else if has("<|START_ACTION|>") {
            Some(Self::Command)
        } else if has("Action:") && has("tool_name") {
            Some(Self::Action)
        } else if has("<TOOLCALL>") {
            Some(Self::Nemotron)
        } else if has("<tool_call>") {
            Some(Self::Hermes)
        } else if has("[TOOL_CALLS]") {
            Some(if has("[ARGS]") { Self::Mistral } else { Self::MistralList })
        } else if has("<|python_tag|>") || has("Environment: ipython") {
            Some(Self::Llama3)
        } else if has("<|observation|>") && has("metadata") {
            Some(Self::Glm4)
        } else {
            None
        }
    }

    /// Whether its reader also takes away what stands around an answer without calls.
    pub fn marks_answers(self) -> bool {
        self == Self::Command
    }

    /// What stands around each call, where that is the same before and after thoughts.
    pub fn around(self) -> Option<Around> {
        let first = match self {
            Self::Hermes => "{",
            Self::Coder => "<",
            Self::Glm => "",
            _ => return None,
        };
        Some(Around { open: "<tool_call>", close: "</tool_call>", first })
    }

    /// The special tokens that must be written out for calls to be seen.
    pub fn shown(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::Coder => &["<tool_call>", "</tool_call>"],
            Self::Glm => &["<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
            Self::Command => list::COMMAND.open,
            Self::Listed => list::LISTED.open,
            Self::Action | Self::Nemotron | Self::Glm4 => &[],
            Self::DeepSeek | Self::DeepSeekFenced => {
                &[deepseek::BEGIN, deepseek::CALL, deepseek::SEPARATOR, deepseek::CALL_END, deepseek::END]
            }
            Self::FunctionGemma => &[gemma::FUNCTION.open, gemma::FUNCTION.close, gemma::FUNCTION.quote],
            Self::Gemma4 => &[gemma::FOUR.open, gemma::FOUR.close, gemma::FOUR.quote],
            Self::Llama3 => &["<|python_tag|>"],
            Self::Mistral | Self::MistralList => &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
        }
    }
}

/// Reads the calls of one choice.
pub enum ToolReader {
    Hermes(Hermes),
    Llama3(Llama3),
    List(List),
    Glm4(Glm4),
    DeepSeek(DeepSeek),
    Tagged(Tagged),
    Gemma(Gemma),
}

impl ToolReader {
    /// Begins an answer in which `functions` may be called; `shaped` says that only
    /// what is marked is one.
    pub fn new(format: ToolFormat, functions: Functions, shaped: bool) -> Self {
        match format {
            ToolFormat::Hermes => Self::Hermes(Hermes::new((!shaped).then_some(functions))),
            ToolFormat::Llama3 => Self::Llama3(Llama3::new(functions)),
            ToolFormat::Mistral | ToolFormat::MistralList => Self::List(List::new(list::MISTRAL)),
            ToolFormat::Listed => Self::List(List::new(list::LISTED)),
            ToolFormat::Command => Self::List(List::new(list::COMMAND)),
            ToolFormat::Action => Self::List(List::new(list::ACTION)),
            ToolFormat::Nemotron => Self::List(List::new(list::NEMOTRON)),
            ToolFormat::Glm4 => Self::Glm4(Glm4::new(functions)),
            ToolFormat::DeepSeek | ToolFormat::DeepSeekFenced => Self::DeepSeek(DeepSeek::new()),
            ToolFormat::Glm => Self::Tagged(Tagged::new(tagged::GLM, functions)),
            ToolFormat::Coder => Self::Tagged(Tagged::new(tagged::CODER, functions)),
            ToolFormat::FunctionGemma => Self::Gemma(Gemma::new(gemma::FUNCTION)),
            ToolFormat::Gemma4 => Self::Gemma(Gemma::new(gemma::FOUR)),
        }
    }

    /// Adds a character; text and calls go into `answer`.
    pub fn push(&mut self, letter: char, answer: &mut Answer) {
        match self {
            Self::Hermes(reader) => reader.push(letter, answer),
            Self::Llama3(reader) => reader.push(letter, answer),
            Self::List(reader) => reader.push(letter, answer),
            Self::Glm4(reader) => reader.push(letter, answer),
            Self::DeepSeek(reader) => reader.push(letter, answer),
            Self::Tagged(reader) => reader.push(letter, answer),
            Self::Gemma(reader) => reader.push(letter, answer),
        }
    }

    /// Ends the answer, or cuts it off.
    pub fn finish(&mut self, cut: bool, answer: &mut Answer) {
        match self {
            Self::Hermes(reader) => reader.finish(cut, answer),
            Self::Llama3(reader) => reader.finish(cut, answer),
            Self::List(reader) => reader.finish(cut, answer),
            Self::Glm4(reader) => reader.finish(cut, answer),
            Self::DeepSeek(reader) => reader.finish(cut, answer),
            Self::Tagged(reader) => reader.finish(cut, answer),
            Self::Gemma(reader) => reader.finish(cut, answer),
        }
    }
}
