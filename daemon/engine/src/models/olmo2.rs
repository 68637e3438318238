//! `olmo2`: OLMo 2.
//!
//! Nothing is normed before a branch, everything after it; queries and keys are normed over all their heads together.

use super::Description;
use super::dense::{Family, PLAIN, QkNorm};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let bias = config.flag("attention_bias")?;
    let family = Family { qkv_bias: bias, output_bias: bias, qk_norm: QkNorm::Whole, ..PLAIN };
    let mut description = family.describe(config)?;
    for layer in &mut description.layers {
        layer.mixer.before = None;
        layer.mixer.after = layer.feed.before.take();
        let after = layer.mixer.after.as_ref();
        layer.feed.after = after.map(|norm| norm.renamed("post_attention_layernorm", "post_feedforward_layernorm"));
    }
    Ok(description)
}
