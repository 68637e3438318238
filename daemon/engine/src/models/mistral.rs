//! `mistral` and `ministral`: Mistral 7B, Nemo and Small, Ministral 8B.
//!
//! Llama without biases; where `sliding_window` is set, every layer slides (Mistral 7B v0.1), or those of `layer_types`.

use super::Description;
use super::dense::{Family, PLAIN};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    Family { window: |config, _| config.count_if_any("sliding_window"), ..PLAIN }.describe(config)
}
