//! What a model folder holds, told without loading a weight: the facts that the daemon plans memory and answers with.
//!
//! [`inspect`] runs every check that loading runs, those of the tokenizer and the generation settings too, so a bad
//! folder is refused when it is added and not when someone first waits for it. Only compiling the chat template is the
//! caller's, who does it in a process of its own.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::LoadError;
use crate::encoder;
use crate::folder::{Described, Folder};
use crate::matrix::Matrix;
use crate::models::encoders::{Encoder, Task};
use crate::models::{CacheShape, Feed, Stack};
use crate::native::{BLOCK_TOKENS, Isa, Keep, KvCache};
use crate::text::{GenerationDefaults, Template, Tokenizer};

/// Room for so many tokens is meant to come with room for one recurrent state, in models that have them.
pub const STATE_TOKENS: u32 = 1024;

/// What a model folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `model_type` of `config.json`.
    pub architecture: String,
    /// How many parameters.
    pub parameters: u64,
    /// The most positions the model was configured for.
    pub context_length: u32,
    /// How many token ids the model scores.
    pub vocabulary: u32,
    /// How its weights are stored, as in `4-bit, group 64` or `bf16`.
    pub weights: String,
    /// Bytes of its weight files.
    pub weights_bytes: u64,
    /// Bytes of memory that its weights take as they are served.
    pub memory_bytes: u64,
    /// Bytes of weights that are read for one more token of one answer; 0 for encoders.
    pub step_bytes: u64,
    /// Bytes of cache per token of context, at the precision that serves: keys, values, and a share of a recurrent state;
    /// an encoder's activations and keys.
    pub kv_bytes_per_token: u64,
    /// Bytes of a sequence's recurrent state; 0 for models whose past is all keys and values.
    pub state_bytes: u64,
    /// How long the vectors of an embedder are; `None` for other models.
    pub dimensions: Option<u32>,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// What a model can do: an encoder embeds or reranks; a decoder generates, as its chat template shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It has a chat template.
    pub chat: bool,
    /// Its template shows tools to the model.
    pub tools: bool,
    /// Its template speaks of thinking before the answer.
    pub reasoning: bool,
    /// It turns a text into a vector.
    pub embed: bool,
    /// It scores how well a document answers a query.
    pub rerank: bool,
}

/// Tells what a folder holds, or why it cannot be loaded.
pub fn inspect(dir: &Path) -> Result<Facts, LoadError> {
    match Folder::open_encoder(dir)? {
        Some(folder) => {
            let facts = Facts::of_encoder(&folder)?;
            folder.description.check_words(&Tokenizer::open(dir)?)?;
            Ok(facts)
        }
        None => {
            let facts = Facts::of(&Folder::open(dir)?)?;
            GenerationDefaults::open(dir, &Tokenizer::open(dir)?, None)?;
            Ok(facts)
        }
    }
}

/// Tells the same in a moment: the tokenizer, which may take a third of a second to read, is left to whoever needs it.
pub fn facts(dir: &Path) -> Result<Facts, LoadError> {
    match Folder::open_encoder(dir)? {
        Some(folder) => Facts::of_encoder(&folder),
        None => Facts::of(&Folder::open(dir)?),
    }
}

impl Facts {
    /// The facts of an opened folder.
    pub(crate) fn of(folder: &Folder) -> Result<Self, LoadError> {
        let description = &folder.description;
        let of_cache =
            |cache: &CacheShape| KvCache::block_bytes(cache.layers.len(), cache.kv_heads, cache.head_dim, Keep::Bf16);
        let block_bytes: usize = description.caches().iter().map(of_cache).sum();
        Ok(Self {
            architecture: folder.architecture.clone(),
            parameters: description.parameters(),
            context_length: description.context as u32,
            vocabulary: description.vocabulary as u32,
            weights: weights(folder)?,
            weights_bytes: folder.checkpoint.bytes(),
            memory_bytes: memory_bytes(folder)?,
            step_bytes: step_bytes(folder)?,
            kv_bytes_per_token: (block_bytes / BLOCK_TOKENS + description.state_bytes().div_ceil(STATE_TOKENS as usize))
                as u64,
            state_bytes: description.state_bytes() as u64,
            dimensions: None,
            capabilities: capabilities(Template::open(&folder.path)?.as_ref()),
        })
    }

    /// The facts of an opened encoder's folder.
    pub(crate) fn of_encoder(folder: &Folder<Encoder>) -> Result<Self, LoadError> {
        let description = &folder.description;
        let embed = matches!(description.task, Task::Embed(..));
        Ok(Self {
            architecture: folder.architecture.clone(),
            parameters: description.parameters(),
            context_length: description.context as u32,
            vocabulary: description.vocabulary as u32,
            weights: weights(folder)?,
            weights_bytes: folder.checkpoint.bytes(),
            memory_bytes: memory_bytes(folder)?,
            step_bytes: 0,
            kv_bytes_per_token: encoder::token_bytes(description) as u64,
            state_bytes: 0,
            dimensions: embed.then_some(description.width() as u32),
            capabilities: Capabilities { embed, rerank: !embed, ..Capabilities::default() },
        })
    }
}

/// Bytes of a stack's matrices as the kernels read them.
fn served_bytes<D: Described>(folder: &Folder<D>, stack: &Stack) -> Result<u64, LoadError> {
    Ok(folder.matrices(stack)?.iter().map(Matrix::served_bytes).sum())
}

/// Bytes of all matrices as the kernels keep them. Vectors are too small to count.
fn memory_bytes<D: Described>(folder: &Folder<D>) -> Result<u64, LoadError> {
    // Asked once: there may be thousands of matrices, and the system answers slowly.
    let isa = Isa::detect();
    let of_stack = |stack| Ok(folder.matrices(stack)?.iter().map(|matrix| matrix.memory_bytes(isa)).sum::<u64>());
    folder.description.stacks().map(of_stack).sum()
}

/// Bytes of the matrices that a token is multiplied by. Of an embedding that scores nothing it takes one row; vectors are too
/// small to count.
fn step_bytes(folder: &Folder) -> Result<u64, LoadError> {
    let bytes_of = |stack: &Stack| served_bytes(folder, stack);
    let description = &folder.description;
    let mut bytes = bytes_of(description.head.as_ref().unwrap_or(&description.embedding))?;
    for layer in &description.layers {
        bytes += layer.stacks().map(bytes_of).sum::<Result<u64, _>>()?;
        if let Some(Feed::Experts(experts)) = layer.feed().map(|branch| &branch.inner) {
            // They are all of one shape.
            let one = bytes_of(&experts.each[0].gate_up)? + bytes_of(&experts.each[0].down)?;
            bytes = bytes.saturating_sub(one * (experts.each.len() - experts.chosen) as u64);
        }
    }
    Ok(bytes)
}

/// How the weights are stored: the format of most bytes, and whether there are others.
fn weights<D: Described>(folder: &Folder<D>) -> Result<String, LoadError> {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for stack in folder.description.stacks() {
        for matrix in folder.matrices(stack)? {
            *bytes.entry(matrix.format()).or_default() += matrix.bytes();
        }
    }
    let most = bytes.iter().max_by_key(|(_, bytes)| **bytes).map(|(format, _)| format.clone()).unwrap_or_default();
    Ok(if bytes.len() > 1 { format!("{most}, mixed") } else { most })
}

/// What the chat template shows.
fn capabilities(template: Option<&Template>) -> Capabilities {
    let Some(template) = template else { return Capabilities::default() };
    let thoughts = ["<think>", "enable_thinking", "reasoning_content", "[THINK]"];
    Capabilities {
        chat: true,
        tools: template.tool_source().contains("tools"),
        reasoning: template.is_harmony()
            || template.reads("thinking")
            || thoughts.iter().any(|word| template.mentions(word)),
        ..Capabilities::default()
    }
}
