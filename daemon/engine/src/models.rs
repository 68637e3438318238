//! What a decoder is, as data: which matrices and norms each layer has, their names and shapes, and how it attends.
//!
//! A page per architecture turns `config.json` into a [`Description`]; the loader, the decoder, `inspect` and the writer of
//! random models all walk the same description. Nothing here touches a weight. A feature that no page handles is refused
//! by name.

mod cohere;
mod deepseek;
mod dense;
pub(crate) mod encoders;
mod experts;
mod gemma;
mod glm4;
mod glm4_moe;
mod gpt_oss;
mod granite;
mod layer;
mod llama;
mod mistral;
mod mistral3;
mod mixtral;
mod nemotron_nas;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod qwen3_next;
mod rope;
mod smollm3;

pub(crate) use layer::{
    Activation, Attention, Branch, Delta, Experts, Feed, Form, Gated, Groups, Latent, LatentHeads, Layer, Mixer, Norm,
    NormKind, Part, Routing, Shared, Sharpening, Stack, Vector,
};
pub(crate) use rope::Rope;

use crate::LoadError;
use crate::config::Config;
use crate::native::DeltaShape;

/// What a page makes of a configuration.
type Described = Result<Description, LoadError>;
/// Whether the weights hold a tensor.
type Holds<'a> = &'a dyn Fn(&str) -> bool;

/// A page: how one `model_type` is described.
#[derive(Clone, Copy)]
enum Page {
    /// By its configuration.
    Plain(fn(&Config) -> Described),
    /// By which tensors there are, too.
    Named(fn(&Config, Holds<'_>) -> Described),
}

use Page::{Named, Plain};

/// The key that says whether the embedding scores tokens too.
const TIED: &str = "tie_word_embeddings";

/// Whether the embedding scores tokens too: as the file says, of the whole and of its text. Where it says nothing, or one
/// thing of the whole and another of the text, as transformers saves Mistral 3, the weights show it: they hold a head, or
/// none.
fn is_tied(outer: Option<bool>, inner: Option<bool>, head: &str, holds: Holds<'_>) -> bool {
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer == inner => outer,
        (Some(tied), None) | (None, Some(tied)) => tied,
        _ => !holds(&format!("{head}.weight")),
    }
}

/// The architectures that load, by `model_type`.
const PAGES: [(&str, Page); 35] = [
    ("cohere", Plain(cohere::describe)),
    ("cohere2", Plain(cohere::describe)),
    ("deci", Plain(nemotron_nas::describe_deci)),
    ("deepseek_v2", Plain(deepseek::describe_2)),
    ("deepseek_v3", Plain(deepseek::describe_3)),
    ("gemma2", Plain(gemma::describe_2)),
    ("gemma3", Named(gemma::describe_3)),
    ("gemma3_text", Named(gemma::describe_3)),
    ("glm", Plain(glm4::describe_older)),
    ("glm4", Plain(glm4::describe)),
    ("glm4_moe", Plain(glm4_moe::describe)),
    ("glm4_moe_lite", Plain(deepseek::describe_glm)),
    ("gpt_oss", Named(gpt_oss::describe)),
    ("granite", Plain(granite::describe)),
    ("granitemoehybrid", Named(granite::describe_4)),
    ("llama", Plain(llama::describe)),
    ("ministral", Plain(mistral::describe)),
    ("ministral3", Plain(mistral3::describe_text)),
    ("mistral", Plain(mistral::describe)),
    ("mistral3", Named(mistral3::describe)),
    ("mixtral", Plain(mixtral::describe)),
    ("nemotron-nas", Plain(nemotron_nas::describe)),
    ("olmo2", Plain(olmo2::describe_2)),
    ("olmo3", Plain(olmo2::describe_3)),
    ("phi3", Plain(phi3::describe)),
    ("qwen2", Plain(qwen2::describe)),
    ("qwen2_moe", Plain(qwen2_moe::describe)),
    ("qwen3", Plain(qwen3::describe)),
    ("qwen3_moe", Plain(qwen3_moe::describe)),
    ("qwen3_5", Named(qwen3_next::describe_3_5)),
    ("qwen3_5_moe", Named(qwen3_next::describe_3_5)),
    ("qwen3_5_moe_text", Named(qwen3_next::describe_3_5)),
    ("qwen3_5_text", Named(qwen3_next::describe_3_5)),
    ("qwen3_next", Named(qwen3_next::describe)),
    ("smollm3", Plain(smollm3::describe)),
];

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
    /// The ways in which positions turn queries and keys; layers name them by index.
    pub ropes: Vec<Rope>,
    /// One row per token id.
    pub embedding: Stack,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// The norm after the last layer.
    pub norm: Norm,
    /// The matrix that scores tokens; without one the embedding does.
    pub head: Option<Stack>,
    /// What scores are multiplied by.
    pub logit_scale: f32,
    /// Scores become softcap * tanh(score / softcap).
    pub logit_softcap: Option<f32>,
    /// Modules of the checkpoint that text needs none of.
    pub unread: Vec<String>,
}

/// Layers whose keys and values have one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The layers, by index.
    pub layers: Vec<usize>,
}

impl Description {
    /// Describes the decoder of a `config.json`. `holds` says whether the weights hold a tensor: an output matrix, which
    /// decides where the file does not say whether the embedding is shared, or experts in one tensor.
    pub fn read(config: &Config, holds: &dyn Fn(&str) -> bool) -> Result<Self, LoadError> {
        let name = config.word("model_type")?;
        let Some((_, page)) = PAGES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = PAGES.iter().map(|(known, _)| *known).collect();
            return Err(LoadError::unsupported(format!("model_type {name}"), format!("{} are", known.join(", "))));
        };
        let mut description = match page {
            Plain(page) => page(config)?,
            Named(page) => page(config, holds)?,
        };
        let text = config.object_if_any("text_config")?;
        let inner = text.map(|text| text.flag_if_any(TIED)).transpose()?.flatten();
        if description.head.is_none() && !is_tied(config.flag_if_any(TIED)?, inner, "lm_head", holds) {
            description.head = Some(Stack::single("lm_head", description.vocabulary, description.hidden));
        }
        for layer in &mut description.layers {
            if let Feed::Experts(experts) = &mut layer.feed.inner
                && holds(&format!("{}.down_proj.weight", experts.joined))
            {
                experts.join();
            }
            if let Form::Latent(latent) = &mut layer.mixer.inner.form {
                latent.find_heads(holds);
            }
        }
        Ok(description)
    }

    /// Every stack of matrices, in the order of the computation.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let layers = self.layers.iter().flat_map(Layer::stacks);
        std::iter::once(&self.embedding).chain(layers).chain(&self.head)
    }

    /// Every norm, in the order of the computation.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        self.layers.iter().flat_map(Layer::norms).chain(std::iter::once(&self.norm))
    }

    /// The sinks of every layer that has some.
    pub fn sinks(&self) -> impl Iterator<Item = &Vector> {
        self.layers.iter().filter_map(|layer| layer.mixer()?.inner.sinks.as_ref())
    }

    /// Every vector that is no norm's.
    pub fn other_vectors(&self) -> impl Iterator<Item = &Vector> {
        let biases = self.layers.iter().filter_map(|layer| match &layer.feed()?.inner {
            Feed::Gated(_) => None,
            Feed::Experts(experts) => experts.routing.bias.as_ref(),
        });
        let deltas = self.deltas().flat_map(|delta| [&delta.conv, &delta.decay, &delta.decay_bias]);
        self.sinks().chain(biases).chain(deltas)
    }

    /// The layers that keep a state.
    fn deltas(&self) -> impl Iterator<Item = &Delta> {
        self.layers.iter().filter_map(|layer| match &layer.mixer()?.inner.form {
            Form::Delta(delta) => Some(delta),
            _ => None,
        })
    }

    /// The form of the layers that keep a state, which they share, and how many there are.
    pub fn recurrent(&self) -> Option<(DeltaShape, usize)> {
        self.deltas().next().map(|delta| (delta.shape, self.deltas().count()))
    }

    /// Bytes of a sequence's state.
    pub fn state_bytes(&self) -> usize {
        self.recurrent().map_or(0, |(shape, layers)| shape.state_bytes() * layers)
    }

    /// The shapes of keys and values, and the layers that store each, in order.
    pub fn caches(&self) -> Vec<CacheShape> {
        let mut caches: Vec<CacheShape> = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let Some(mixer) = layer.mixer() else { continue };
            if let Form::Delta(_) = mixer.inner.form {
                continue;
            }
            let Attention { kv_heads, head_dim, .. } = mixer.inner.attention;
            match caches.iter_mut().find(|cache| (cache.kv_heads, cache.head_dim) == (kv_heads, head_dim)) {
                Some(cache) => cache.layers.push(index),
                None => caches.push(CacheShape { kv_heads, head_dim, layers: vec![index] }),
            }
        }
        caches
    }
}

#[cfg(test)]
mod tests;
