//! `qwen3_moe`: Qwen 3 with experts, 30B-A3B and 235B-A22B, Coder among them.
//!
//! Qwen 3 whose layers, but for those of `mlp_only_layers` and between the steps, take some of many experts.

use super::experts::{Choice, SILU, is_dense};
use super::{Description, qwen3};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let mut description = qwen3::describe(config)?;
    // What transformers saves since version 5 has the other name.
    let renamed = config.value("num_experts").is_none() && config.value("num_local_experts").is_some();
    let experts = Choice {
        count: if renamed { "num_local_experts" } else { SILU.count },
        width: config.count("moe_intermediate_size")?,
        normalised: config.flag("norm_topk_prob")?,
        ..SILU
    };
    for (index, layer) in description.layers.iter_mut().enumerate() {
        if !is_dense(config, index)? {
            experts.place(config, index, description.hidden, layer)?;
        }
    }
    Ok(description)
}
