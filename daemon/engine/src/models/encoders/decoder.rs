//! Decoders that were trained to embed, such as Qwen3-Embedding: their own page describes them; a text's last token is
//! its vector, and tokens see only what came before.

use super::{Encoder, Layer, Norm, Order, Pooling, Sight, Source, Task, classifies};
use crate::LoadError;
use crate::models::{self, Description, Stack, Vector};
use crate::native::Activation;

pub(super) fn describe(source: &Source<'_>) -> Result<Encoder, LoadError> {
    if classifies(source.config)? {
        return Err(LoadError::unsupported("a decoder with a classifier", "a decoder that embeds is"));
    }
    if source.config.flag("use_bidirectional_attention")? {
        return Err(LoadError::unsupported("use_bidirectional_attention", "a decoder that sees only back is"));
    }
    let description = Description::read(source.config, false)?;
    let bare = (source.has)("embed_tokens.weight") && !(source.has)("model.embed_tokens.weight");
    let names = Names { bare };
    let layers = description.layers.iter().map(|layer| names.layer(layer, &description));
    Ok(Encoder {
        hidden: description.hidden,
        vocabulary: description.vocabulary,
        context: description.context,
        words: names.stack(&description.embedding),
        positions: None,
        segments: None,
        embedding_norm: None,
        order: Order::Before,
        attention: description.attention(),
        layers: layers.collect(),
        norm: Some(names.norm(&description.norm)),
        task: Task::Embed(source.pooling(Pooling::Last)),
        unused: vec!["lm_head.".to_string()],
        architecture: description.architecture,
    })
}

/// How tensors are named: saved alone, a decoder's body loses its prefix.
struct Names {
    bare: bool,
}

impl Names {
    fn name(&self, name: &str) -> String {
        let bare = name.strip_prefix("model.").filter(|_| self.bare);
        bare.unwrap_or(name).to_string()
    }

    fn stack(&self, stack: &Stack) -> Stack {
        let mut stack = stack.clone();
        stack.parts.iter_mut().for_each(|part| part.name = self.name(&part.name));
        stack
    }

    fn norm(&self, norm: &models::Norm) -> Norm {
        let weight = Vector { name: self.name(&norm.weight.name), length: norm.weight.length };
        Norm::rms(weight, norm.epsilon)
    }

    fn layer(&self, layer: &models::Layer, description: &Description) -> Layer {
        Layer {
            attention_norm: Some(self.norm(&layer.attention_norm)),
            qkv: self.stack(&layer.qkv),
            qk_norm: layer.qk_norm.as_ref().map(|(q, k)| (self.norm(q), self.norm(k))),
            rope: Some(description.rope.clone()),
            sight: Sight { window: layer.attention.window.map(|window| window as u32), ahead: 0 },
            output: self.stack(&layer.output),
            mlp_norm: self.norm(&layer.mlp_norm),
            inner: self.stack(&layer.gate_up),
            activation: Activation::Silu,
            down: self.stack(&layer.down),
        }
    }
}
