//! `granite` and `granitemoehybrid`: Granite 3, and of Granite 4 the dense models (350M, 1B, Micro).
//!
//! Llama with four factors: of embeddings, attention scores, what branches add, and, inverted, logits. Granite 4's layers of
//! Mamba and its experts are refused; in its released files gate and up are one matrix, in converted ones two.

use super::dense::{Family, PLAIN};
use super::{Description, Feed, Holds, Part};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let bias = config.flag("attention_bias")?;
    let family = Family { qkv_bias: bias, output_bias: bias, mlp_bias: config.flag("mlp_bias")?, ..PLAIN };
    let mut description = family.describe(config)?;
    let factor = |key: &str| Ok::<_, LoadError>(config.number_if_any(key)?.unwrap_or(1.0) as f32);
    description.embedding_scale = factor("embedding_multiplier")?;
    description.logit_scale = 1.0 / factor("logits_scaling")?;
    for layer in &mut description.layers {
        layer.mixer.inner.attention.scale = factor("attention_multiplier")?;
        layer.residual_scale = factor("residual_multiplier")?;
    }
    Ok(description)
}

/// Granite 4.
pub(super) fn describe_4(config: &Config, holds: Holds<'_>) -> Result<Description, LoadError> {
    // What transformers saves since version 5 has the second name.
    let attends = |name: &&str| ["attention", "full_attention"].contains(name);
    if let Some(other) = config.words_if_any("layer_types")?.into_iter().flatten().find(|name| !attends(name)) {
        return Err(LoadError::unsupported(format!("layer type {other}"), "Granite 4 of attention alone is"));
    }
    if config.whole_if_any("num_local_experts")?.unwrap_or(0) > 0 {
        return Err(LoadError::unsupported("num_local_experts in granitemoehybrid", "Granite 4 without experts is"));
    }
    let turned = match config.word_if_any("position_embedding_type")? {
        Some("rope") => true,
        // Released files say which. Where none is named, as in what transformers saves of its own defaults, nothing is
        // turned; mlx-lm would turn.
        None | Some("nope") => false,
        Some(other) => {
            let found = format!("position_embedding_type {other}");
            return Err(LoadError::unsupported(found, "rope and nope are"));
        }
    };
    let released = holds("model.layers.0.shared_mlp.input_linear.weight");
    let width = match config.count_if_any("shared_intermediate_size")? {
        Some(width) => width,
        None => config.count("intermediate_size")?,
    };
    let mut description = describe(&config.without(&["layer_types"]))?;
    for (index, layer) in description.layers.iter_mut().enumerate() {
        layer.mixer.inner.attention.rope = turned.then_some(0);
        if let (true, Feed::Gated(gated)) = (released, &mut layer.feed.inner) {
            let module = format!("model.layers.{index}.shared_mlp");
            gated.gate_up.parts = vec![Part::new(format!("{module}.input_linear"), 2 * width, false)];
            gated.down.parts[0].name = format!("{module}.output_linear");
            gated.down.inputs = width;
        }
    }
    Ok(description)
}
