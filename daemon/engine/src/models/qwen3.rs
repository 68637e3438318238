//! `qwen3`: Qwen 3, dense, and `impetus-nano`.
//!
//! Every head of queries and keys is normed before rope; biases are an option that the released models leave off.

use super::Description;
use super::dense::{Family, PLAIN, QkNorm};
use super::qwen2::upper_window;
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let bias = config.flag("attention_bias")?;
    let qk_norm = QkNorm::Heads;
    Family { qkv_bias: bias, output_bias: bias, qk_norm, rope_base: None, window: upper_window, ..PLAIN }
        .describe(config)
}
