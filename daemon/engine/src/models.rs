//! What a decoder is, as data: which matrices and norms each layer has, their names and shapes, and how it attends.
//!
//! A page per architecture turns `config.json` into a [`Description`]; the loader, the decoder, `inspect` and the writer of
//! random models all walk the same description. Nothing here touches a weight. A feature that no page handles is refused
//! by name.

mod dense;
pub(crate) mod encoders;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod rope;

pub(crate) use rope::Rope;

use crate::LoadError;
use crate::config::Config;

/// The architectures that load, by `model_type`.
pub(crate) const SUPPORTED: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// A whole decoder.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// `model_type`.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Token ids that the model scores.
    pub vocabulary: usize,
    /// Positions that the model was configured for.
    pub context: usize,
    /// How positions turn queries and keys.
    pub rope: Rope,
    /// One row per token id.
    pub embedding: Stack,
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// The norm after the last layer.
    pub norm: Norm,
    /// The matrix that scores tokens; without one the embedding does.
    pub head: Option<Stack>,
}

/// One layer: `x += output(attend(norm(x)))`, then `x += down(silu(gate) × up)` of the other norm.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The norm before attention.
    pub attention_norm: Norm,
    /// Queries, keys and values, stacked in this order.
    pub qkv: Stack,
    /// Norms over each head of the queries and of the keys.
    pub qk_norm: Option<(Norm, Norm)>,
    /// Who attends to what.
    pub attention: Attention,
    /// The projection back to the residual stream.
    pub output: Stack,
    /// The norm before the MLP.
    pub mlp_norm: Norm,
    /// Gate and up, stacked in this order.
    pub gate_up: Stack,
    /// The projection back to the residual stream.
    pub down: Stack,
}

/// The shape of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many positions a token sees, itself included; `None` is all.
    pub window: Option<usize>,
}

/// Matrices that read the same input; their outputs follow one another.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    /// The matrices.
    pub parts: Vec<Part>,
    /// Width of the input.
    pub inputs: usize,
}

/// One matrix of a stack, as a module of the checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The module's name; its tensors are `NAME.weight` and, where they exist, `.scales`, `.biases` and `.bias`.
    pub name: String,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// A root-mean-square norm.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// A factor for each number.
    pub weight: Vector,
    /// What is added to the mean square.
    pub epsilon: f32,
}

/// A vector of weights.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    /// The tensor's name.
    pub name: String,
    /// Its length.
    pub length: usize,
}

impl Stack {
    /// A stack of one matrix without a bias.
    pub fn single(name: impl Into<String>, outputs: usize, inputs: usize) -> Self {
        Self { parts: vec![Part { name: name.into(), outputs, bias: false }], inputs }
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.parts.iter().map(|part| part.outputs).sum()
    }
}

impl Description {
    /// Describes the decoder of a `config.json`. `has_head` says whether the weights hold an output matrix, which decides
    /// where the file does not say whether the embedding is shared.
    pub fn read(config: &Config, has_head: bool) -> Result<Self, LoadError> {
        let mut description = match config.word("model_type")? {
            "llama" => llama::describe(config),
            "mistral" => mistral::describe(config),
            "qwen2" => qwen2::describe(config),
            "qwen3" => qwen3::describe(config),
            other => {
                let supported = format!("{} are", SUPPORTED.join(", "));
                return Err(LoadError::unsupported(format!("model_type {other}"), supported));
            }
        }?;
        if !config.flag_if_any("tie_word_embeddings")?.unwrap_or(!has_head) {
            description.head = Some(Stack::single("lm_head", description.vocabulary, description.hidden));
        }
        Ok(description)
    }

    /// Every stack of matrices, in the order of the computation.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let layers = self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]);
        std::iter::once(&self.embedding).chain(layers).chain(&self.head)
    }

    /// Every norm, in the order of the computation.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let layers = self.layers.iter().flat_map(|layer| {
            let heads = layer.qk_norm.iter().flat_map(|(q, k)| [q, k]);
            std::iter::once(&layer.attention_norm).chain(heads).chain(std::iter::once(&layer.mlp_norm))
        });
        layers.chain(std::iter::once(&self.norm))
    }

    /// The attention that every layer has, but for its window.
    pub fn attention(&self) -> Attention {
        self.layers[0].attention
    }
}

#[cfg(test)]
mod tests;
