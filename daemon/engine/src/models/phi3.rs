//! `phi3`: Phi-3, Phi-3.5 and Phi-4, mini and 14B.
//!
//! Queries, keys and values are one matrix, gate and up another; part of a head may stay unturned. The long models stretch
//! each wavelength by a listed factor (`longrope`). Those of the long context hold from the first token on, as in mlx-lm,
//! so that a token's numbers do not change when a conversation grows.

use super::Description;
use super::dense::{Family, PLAIN};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    Family {
        qkv_bias: config.flag("attention_bias")?,
        fused_qkv: true,
        fused_gate_up: true,
        rope_in_part: true,
        window: |config, _| config.count_if_any("sliding_window"),
        ..PLAIN
    }
    .describe(config)
}
