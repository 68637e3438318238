//! `llama`: Llama 2, 3, 3.1, 3.2 and the many models that reuse the architecture.
//!
//! Biases are optional and off in Meta's models. Llama 3.1 and later stretch low rope frequencies (`rope_type: llama3`).

use super::Description;
use super::dense::{Family, PLAIN};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let bias = config.flag("attention_bias")?;
    Family { qkv_bias: bias, output_bias: bias, mlp_bias: config.flag("mlp_bias")?, ..PLAIN }.describe(config)
}
