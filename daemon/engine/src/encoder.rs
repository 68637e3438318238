//! An encoder in memory: whole texts go in together, and each comes back as one vector, or a pair of texts as one score.
//!
//! Unlike [`crate::Model`] it keeps nothing between calls: a text is read whole, its tokens see each other, and its keys
//! live for one layer. Texts of a call lie one after another without padding, and the numbers of one are the same, bit for
//! bit, whatever is beside it. The worker's one thread owns it and decides how many tokens go into a call.

mod head;
mod network;
mod pool;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::folder::Folder;
use crate::models::encoders::{self, Settings};
use crate::native::{BLOCK_TOKENS, Keep, KvCache, Precision};
use crate::projection::Machine;
use crate::{Facts, ForwardError, LoadError};

use network::{Activations, Network, Step};
pub use pool::{probability, shorten};

/// A text, or a pair of texts as one.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Its tokens, with those that the model puts around a text.
    pub tokens: &'a [u32],
    /// To which text of a pair each token belongs, 0 or 1; empty where all are of the first.
    pub segments: &'a [u8],
}

/// A loaded encoder.
pub struct Encoder {
    facts: Facts,
    network: Network,
    machine: Machine,
    /// Keys and values of the layer that is being computed.
    cache: KvCache,
    heads: (usize, usize),
    precision: Precision,
    activations: Activations,
}

impl Encoder {
    /// Loads a folder with so many threads. `progress` hears how many bytes of weights are done, of how many.
    pub fn open(
        dir: &Path,
        threads: usize,
        precision: Precision,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let Some(folder) = Folder::open_encoder(dir)? else {
            let supported = "a model that embeds or reranks is";
            return Err(LoadError::unsupported("a model that generates text", supported));
        };
        let machine = Machine::new(threads);
        let total = folder.matrix_bytes()?;
        let mut done = 0;
        progress(0, total);
        let network = Network::load(&folder, precision, &machine, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })?;
        let attention = folder.description.attention;
        let heads = (attention.kv_heads, attention.head_dim);
        Ok(Self {
            facts: Facts::of_encoder(&folder)?,
            network,
            machine,
            cache: KvCache::new(1, 1, heads.0, heads.1, precision.into())?,
            heads,
            precision,
            activations: Activations::default(),
        })
    }

    /// What the folder holds.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What computes, in words.
    pub fn device(&self) -> String {
        self.machine.pool.describe()
    }

    /// How many numbers a text becomes: the length of its vector, or 1 for a score.
    pub fn width(&self) -> usize {
        self.network.width()
    }

    /// Computes texts; `out` becomes `[texts, width]`: vectors as they are pooled, or scores as the last matrix gives them.
    /// A long text takes minutes, so `between` is called twice in each layer: whoever waits can be told that it goes on.
    pub fn encode(
        &mut self,
        texts: &[Text<'_>],
        between: &mut dyn FnMut(),
        out: &mut Vec<f32>,
    ) -> Result<(), ForwardError> {
        texts.iter().enumerate().try_for_each(|(row, text)| self.check(row, text))?;
        out.clear();
        if texts.is_empty() {
            return Ok(());
        }
        let step = Step::new(texts);
        if step.blocks() > self.cache.blocks() {
            let (kv_heads, head_dim) = self.heads;
            let grown = KvCache::new(1, step.blocks(), kv_heads, head_dim, self.precision.into());
            self.cache = grown.map_err(|_| ForwardError::TooManyTokens { tokens: step.tokens.len() })?;
        }
        self.network.forward(&step, &mut self.machine, &mut self.cache, &mut self.activations, between, out);
        Ok(())
    }

    fn check(&self, row: usize, text: &Text<'_>) -> Result<(), ForwardError> {
        let (context, vocabulary) = (self.facts.context_length, self.facts.vocabulary);
        let positions = text.tokens.len() as u64;
        if text.tokens.is_empty() {
            return Err(ForwardError::EmptyRow { row });
        }
        if let Some(&token) = text.tokens.iter().find(|token| **token >= vocabulary) {
            return Err(ForwardError::UnknownToken { row, token, vocabulary });
        }
        if positions > u64::from(context) {
            return Err(ForwardError::PastContext { row, positions, context });
        }
        let (segments, tokens) = (text.segments.len(), text.tokens.len());
        if segments != 0 && segments != tokens {
            return Err(ForwardError::Segments { row, segments, tokens });
        }
        Ok(())
    }
}

/// How a folder's model wants its texts put.
pub struct Manner {
    /// Whether it judges pairs, and must be asked a question about them.
    pub judges: bool,
    prompt: String,
    lower: bool,
}

impl Manner {
    /// Reads the folder's files.
    pub fn of(dir: &Path) -> Result<Self, LoadError> {
        let judges = Folder::open_encoder(dir)?.is_some_and(|folder| folder.description.judges());
        let Settings { prompt, lower, .. } = Settings::open(dir)?;
        Ok(Self { judges, prompt, lower })
    }

    /// A text that is to become a vector, as the model reads it.
    pub fn put(&self, text: &str) -> String {
        let text = format!("{}{text}", self.prompt);
        if self.lower { text.to_lowercase() } else { text }
    }
}

/// Bytes of memory that one token of a call takes: its place in the stream, its queries, keys and values.
pub(crate) fn token_bytes(description: &encoders::Encoder) -> usize {
    let encoders::Encoder { hidden, attention, layers, .. } = description;
    let qkv = layers.iter().map(|layer| layer.qkv.outputs()).max().unwrap_or(0);
    let floats = hidden + qkv + attention.heads * attention.head_dim;
    let block = KvCache::block_bytes(1, attention.kv_heads, attention.head_dim, Keep::Bf16);
    floats * size_of::<f32>() + block / BLOCK_TOKENS
}
