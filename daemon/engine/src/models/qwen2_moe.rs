//! `qwen2_moe`: Qwen 1.5 and 2 with experts, A2.7B and 57B-A14B.
//!
//! Qwen 2 whose layers, but for those of `mlp_only_layers` and between the steps, take some of many experts, and one MLP
//! beside them that a gate weighs.

use super::experts::{Choice, SILU, SharedChoice, is_dense};
use super::{Description, qwen2};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let mut description = qwen2::describe(config)?;
    let width = config.count("shared_expert_intermediate_size")?;
    let experts = Choice {
        width: config.count("moe_intermediate_size")?,
        normalised: config.flag("norm_topk_prob")?,
        shared: Some(SharedChoice { name: "shared_expert", width, gate: Some("shared_expert_gate") }),
        ..SILU
    };
    for (index, layer) in description.layers.iter_mut().enumerate() {
        if !is_dense(config, index)? {
            experts.place(config, index, description.hidden, layer)?;
        }
    }
    Ok(description)
}
