//! `glm` and `glm4`: GLM-4 of 2024, 9B, and of 2025, 9B and 32B, dense.
//!
//! Gate and up are one matrix; half of each head is turned, neighbour by neighbour. The newer ones norm after both branches
//! too.

use serde_json::json;

use super::Description;
use super::dense::{Family, PLAIN};
use crate::LoadError;
use crate::config::Config;

/// Those of 2024.
pub(super) fn describe_older(config: &Config) -> Result<Description, LoadError> {
    let config = config.with_defaults(&json!({ "partial_rotary_factor": 0.5 }));
    let family = Family {
        qkv_bias: config.flag("attention_bias")?,
        fused_gate_up: true,
        rope_neighbours: true,
        rope_in_part: true,
        ..PLAIN
    };
    family.describe(&config)
}

/// Those of 2025.
pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let mut description = describe_older(config)?;
    for layer in &mut description.layers {
        let like = |name| layer.feed.before.as_ref().map(|norm| norm.renamed("post_attention_layernorm", name));
        (layer.mixer.after, layer.feed.after) = (like("post_self_attn_layernorm"), like("post_mlp_layernorm"));
    }
    Ok(description)
}
