//! The words for models that read whole texts: vectors of texts, and scores of documents for a query.
//!
//! Both are long work: their results are events of a transcript, in whatever order they come, each with the index of its
//! input. A text that is longer than the model's context is refused unless the request says that it may be cut, and then
//! its result says that it was.

use serde::{Deserialize, Serialize};

use crate::generation::Priority;

/// The most texts of one request.
pub const INPUTS_MAX: usize = 2048;

/// Asks for the vectors of texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedRequest {
    /// The model's name; `None` takes the daemon's default embedder.
    pub model: Option<String>,
    /// The texts, 1 to 2,048; what a model wants put before them is the caller's.
    pub inputs: Vec<Input>,
    /// How many numbers a vector has: the first ones, at length 1 again; `None` takes all.
    pub dimensions: Option<u32>,
    /// What becomes of a text that is too long.
    #[serde(default)]
    pub overlong: Overlong,
    /// How many tokens make a text too long; `None`, and what is beyond it, leaves that to the model's context.
    #[serde(default)]
    pub tokens_max: Option<u32>,
    /// Who goes first when the machine is full.
    #[serde(default)]
    pub priority: Priority,
    /// After how many milliseconds, queueing and loading included, the work is given up; `None` takes the daemon's limit.
    pub deadline_ms: Option<u64>,
}

/// A text to be read whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Text; the tokens that the model wants around it are added.
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
}

/// Asks how well documents answer a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerankRequest {
    /// The model's name; `None` takes the first reranker by name.
    pub model: Option<String>,
    /// The query.
    pub query: String,
    /// The documents, 1 to 2,048.
    pub documents: Vec<String>,
    /// What becomes of a document that is too long beside the query.
    #[serde(default)]
    pub overlong: Overlong,
    /// Who goes first when the machine is full.
    #[serde(default)]
    pub priority: Priority,
    /// After how many milliseconds, queueing and loading included, the work is given up; `None` takes the daemon's limit.
    pub deadline_ms: Option<u64>,
}

/// What becomes of a text that does not fit the model's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlong {
    /// The request is refused with the figures.
    #[default]
    Refuse,
    /// Its end is left out, and its result says so.
    Cut,
}

/// The vector of one text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// Which input, from 0.
    pub index: u32,
    /// The tokens that were read.
    pub tokens: u32,
    /// Whether the text's end was left out.
    pub cut: bool,
    /// The vector, of length 1.
    pub vector: Vec<f32>,
}

/// The score of one document.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Which document, from 0.
    pub index: u32,
    /// The tokens that were read, the query's among them.
    pub tokens: u32,
    /// Whether the document's end was left out.
    pub cut: bool,
    /// How well it answers the query, 0 to 1.
    pub score: f32,
}
