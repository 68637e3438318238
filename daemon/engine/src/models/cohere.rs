//! `cohere` and `cohere2`: Command-R, Command-R+, Command-R7B and Command A.
//!
//! Both branches read one layer norm, side by side; logits are scaled; rope turns neighbours. In `cohere2` three layers of
//! four slide, and the others turn nothing. Command-R+ norms each head, with weights of its own.

use serde_json::{Value, json};

use super::dense::{Family, PLAIN, QkNorm};
use super::rope::CONTEXT_MAX;
use super::{Description, NormKind};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let slides = config.word("model_type")? == "cohere2";
    let config = config.with_defaults(&json!({
        "tie_word_embeddings": true, "logit_scale": 0.0625, "layer_norm_eps": 1e-5, "sliding_window_pattern": 4,
    }));
    if config.flag("layer_norm_bias")? {
        return Err(LoadError::unsupported("layer_norm_bias", "a layer norm without biases is"));
    }
    let normed = config.flag("use_qk_norm")?;
    if normed && slides {
        return Err(LoadError::unsupported("use_qk_norm of cohere2", "cohere2 without norms of its heads is"));
    }
    let bias = config.flag("attention_bias")?;
    let family = Family {
        qkv_bias: bias,
        output_bias: bias,
        qk_norm: if normed { QkNorm::OwnHeads } else { QkNorm::None },
        epsilon: "layer_norm_eps",
        rope_base: None,
        rope_neighbours: true,
        window: if slides { every_fourth } else { PLAIN.window },
        ..PLAIN
    };
    let mut description = family.describe(&config)?;
    for layer in &mut description.layers {
        layer.parallel = true;
        layer.feed.before = None;
        let attention = &mut layer.mixer.inner.attention;
        attention.rope = (!slides || attention.window.is_some()).then_some(0);
        layer.norms_mut().for_each(|norm| norm.kind = NormKind::Layer);
    }
    // The first files tell of a short context beside it.
    let reached = config.value("model_max_length").and_then(Value::as_u64).unwrap_or(0);
    description.context = description.context.max(reached.min(CONTEXT_MAX) as usize);
    description.norm.kind = NormKind::Layer;
    description.logit_scale = config.number_if_any("logit_scale")?.unwrap_or(1.0) as f32;
    Ok(description)
}

/// What a layer sees where all but every so many slide.
fn every_fourth(config: &Config, layer: usize) -> Result<Option<usize>, LoadError> {
    match (layer + 1) % config.count("sliding_window_pattern")? {
        0 => Ok(None),
        _ => config.count("sliding_window").map(Some),
    }
}
