//! `smollm3`: SmolLM 3.
//!
//! Llama in which some layers turn nothing: those that `no_rope_layers` marks with 0, or else every fourth. Where
//! `use_sliding_window` is set and no types of layers are listed, these slide too.

use super::Description;
use super::dense::{Family, PLAIN};
use crate::LoadError;
use crate::config::Config;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    let bias = config.flag("attention_bias")?;
    let mlp_bias = config.flag("mlp_bias")?;
    let family = Family { qkv_bias: bias, output_bias: bias, mlp_bias, rope_base: None, ..PLAIN };
    let mut description = family.describe(config)?;
    let interval = config.count_if_any("no_rope_layer_interval")?.unwrap_or(4);
    let listed = config.value("no_rope_layers");
    let slide = config.flag("use_sliding_window")? && config.value("layer_types").is_none();
    let window = if slide { config.count_if_any("sliding_window")? } else { None };
    for (index, layer) in description.layers.iter_mut().enumerate() {
        let turns = match listed {
            None => !(index + 1).is_multiple_of(interval),
            Some(marks) => match marks.get(index).and_then(|mark| mark.as_u64()) {
                Some(mark) => mark != 0,
                None => return Err(config.problem(format!("no_rope_layers has no number for layer {index}"))),
            },
        };
        let attention = &mut layer.mixer.inner.attention;
        attention.rope = turns.then_some(0);
        attention.window = attention.window.or(window.filter(|_| !turns));
    }
    Ok(description)
}
