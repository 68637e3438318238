//! `mistral`: Mistral 7B, Nemo and Small.
//!
//! Llama without biases; where `sliding_window` is set, every layer slides (Mistral 7B v0.1).

use super::Description;
use super::dense::Family;
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let family = Family {
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        rope_base: Some(10_000.0),
        window: |config, _| config.count_if_any("sliding_window"),
    };
    family.describe(config)
}
