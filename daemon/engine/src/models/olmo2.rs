//! `olmo2` and `olmo3`: OLMo 2 and 3.
//!
//! Nothing is normed before a branch, everything after it; queries and keys are normed over all their heads together. In
//! OLMo 3 three layers of four slide, and what stretches rope stretches the others alone.

use super::dense::{Family, PLAIN, QkNorm, ropes_by_type};
use super::{Description, Rope};
use crate::LoadError;
use crate::config::Config;

/// OLMo 2.
pub(super) fn describe_2(config: &Config) -> Result<Description, LoadError> {
    describe(config, PLAIN.window)
}

/// OLMo 3.
pub(super) fn describe_3(config: &Config) -> Result<Description, LoadError> {
    let mut description = describe(config, |config, layer| match (layer + 1) % 4 {
        0 => Ok(None),
        _ => config.count("sliding_window").map(Some),
    })?;
    let sliding = Rope::plain(description.ropes[0].base, description.ropes[0].dims);
    ropes_by_type(&mut description, config, sliding)?;
    Ok(description)
}

fn describe(
    config: &Config,
    window: fn(&Config, usize) -> Result<Option<usize>, LoadError>,
) -> Result<Description, LoadError> {
    let bias = config.flag("attention_bias")?;
    let family = Family { qkv_bias: bias, output_bias: bias, qk_norm: QkNorm::Whole, window, ..PLAIN };
    let mut description = family.describe(config)?;
    for layer in &mut description.layers {
        layer.mixer.before = None;
        layer.mixer.after = layer.feed.before.take();
        let after = layer.mixer.after.as_ref();
        layer.feed.after = after.map(|norm| norm.renamed("post_attention_layernorm", "post_feedforward_layernorm"));
    }
    Ok(description)
}
