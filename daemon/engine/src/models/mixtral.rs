//! `mixtral`: Mixtral 8x7B and 8x22B.
//!
//! Mistral whose layers take two of eight experts; the weights of the two add up to one.

use serde_json::json;

use super::experts::{Choice, SILU};
use super::{Description, mistral};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let mut description = mistral::describe(&config.with_defaults(&json!({ "rope_theta": 1e6 })))?;
    let experts = Choice {
        count: "num_local_experts",
        module: "block_sparse_moe",
        matrices: ["w1", "w3", "w2"],
        width: config.count("intermediate_size")?,
        ..SILU
    };
    for (index, layer) in description.layers.iter_mut().enumerate() {
        experts.place(config, index, description.hidden, layer)?;
    }
    Ok(description)
}
