//! `granite`: Granite 3, dense.
//!
//! Llama with four factors: of embeddings, attention scores, what branches add, and, inverted, logits.

use super::Description;
use super::dense::{Family, PLAIN};
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
