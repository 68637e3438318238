//! The words for what a model's tokenizer and template make of text, without computing anything.
//!
//! `tokenize` says how long a prompt is before it is sent; `detokenize` is its way back. Both need the model in memory,
//! which is where its tokenizer is.

use serde::{Deserialize, Serialize};

use crate::generation::Prompt;

/// Asks for a prompt's tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    /// The model's name; `None` takes the daemon's default model.
    pub model: Option<String>,
    /// What is to become tokens; a conversation is rendered as it would be for an answer.
    pub prompt: Prompt,
    /// What becomes of special tokens in a text prompt; a generation reads it as `Begin`.
    #[serde(default)]
    pub special: Special,
    /// Whether each token's bytes are wanted too.
    #[serde(default)]
    pub pieces: bool,
}

/// What becomes of special tokens where text becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Special {
    /// Text that spells one is ordinary text.
    Plain,
    /// Text that spells one becomes it.
    #[default]
    Parse,
    /// As `Parse`, and those that the tokenizer puts before a raw prompt are added.
    Begin,
}

/// A prompt's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The model whose tokens these are.
    pub model: String,
    /// The conversation as its template writes it; `None` for other prompts.
    pub rendered: Option<String>,
    /// The token ids.
    pub tokens: Vec<u32>,
    /// The bytes of each token, if they were asked for; one token may be half a character.
    pub pieces: Vec<Vec<u8>>,
}

/// Asks for the text that tokens spell, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeRequest {
    /// The model's name; `None` takes the daemon's default model.
    pub model: Option<String>,
    /// The token ids.
    pub tokens: Vec<u32>,
}
