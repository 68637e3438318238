//! `glm4_moe`: GLM-4.5 and 4.6, Air among them.
//!
//! Queries, keys and values may have biases, and heads norms; half of each head is turned, half by half. After the first
//! layers a token takes some of many experts, as in DeepSeek V3. What guesses several tokens ahead is not read.

use serde_json::json;

use super::Description;
use super::dense::{Family, PLAIN, QkNorm};
use super::experts::place_grouped;
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let config = config.with_defaults(&json!({ "partial_rotary_factor": 0.5, "norm_topk_prob": true }));
    let family = Family {
        qkv_bias: config.flag("attention_bias")?,
        qk_norm: if config.flag("use_qk_norm")? { QkNorm::Heads } else { QkNorm::None },
        rope_in_part: true,
        ..PLAIN
    };
    let mut description = family.describe(&config)?;
    let hidden = description.hidden;
    place_grouped(&config, &mut description.layers, hidden, true)?;
    description.unread = vec![format!("model.layers.{}.", description.layers.len())];
    Ok(description)
}
