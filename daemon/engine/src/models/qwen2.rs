//! `qwen2`: Qwen 2 and 2.5.
//!
//! Queries, keys and values always have biases, attention's output never. Layers from `max_window_layers` on slide if
//! `use_sliding_window` says so; in the released models it does not.

use super::Description;
use super::dense::{Family, PLAIN};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    Family { qkv_bias: true, rope_base: None, window: upper_window, ..PLAIN }.describe(config)
}

/// What a layer sees where only the upper layers slide.
pub(super) fn upper_window(config: &Config, layer: usize) -> Result<Option<usize>, LoadError> {
    let full = config.value("max_window_layers").and_then(|count| count.as_u64()).unwrap_or(28);
    if config.flag("use_sliding_window")? && layer as u64 >= full {
        return config.count("sliding_window").map(Some);
    }
    Ok(None)
}
