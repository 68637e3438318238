//! `deci` and `nemotron-nas`: DeciLM 6B and 7B, and NVIDIA's models of their kind, found by search: 49B Super, 51B, 253B
//! Ultra.
//!
//! Llama whose layers differ: each has its own number of key and value heads. In NVIDIA's each has its own width of the MLP
//! too, and some leave one of the two out. Branches that were replaced by one matrix are refused.

use serde_json::json;

use super::dense::{Family, PLAIN};
use super::{Description, Feed, Layer};
use crate::LoadError;
use crate::config::Config;

/// Widths are rounded up to multiples of it.
const WIDTH_STEP: usize = 256;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
    // Each layer has its own; this stands in until it is read.
    let config = config.with_defaults(&json!({ "intermediate_size": WIDTH_STEP }));
    let bias = config.flag("attention_bias")?;
    let family = Family { qkv_bias: bias, output_bias: bias, mlp_bias: config.flag("mlp_bias")?, ..PLAIN };
    let mut description = family.describe(&config)?;
    let blocks = config.objects("block_configs")?;
    if blocks.len() != description.layers.len() {
        let (listed, layers) = (blocks.len(), description.layers.len());
        return Err(config.problem(format!("block_configs lists {listed} of {layers} layers")));
    }
    let hidden = description.hidden;
    for (block, layer) in blocks.iter().zip(&mut description.layers) {
        let part = |key: &str| {
            let part = block.object_if_any(key)?;
            part.ok_or_else(|| config.problem(format!("a layer of block_configs has no {key}")))
        };
        attention(&part("attention")?, &config, layer)?;
        feed(&part("ffn")?, &config, hidden, layer)?;
    }
    if description.caches().is_empty() {
        return Err(config.problem("block_configs leaves every attention out".to_string()));
    }
    Ok(description)
}

/// Deci's own models.
pub(super) fn describe_deci(config: &Config) -> Result<Description, LoadError> {
    let mut description = PLAIN.describe(config)?;
    let listed = config.counts("num_key_value_heads_per_layer")?;
    if listed.len() != description.layers.len() {
        let (listed, layers) = (listed.len(), description.layers.len());
        return Err(config.problem(format!("num_key_value_heads_per_layer lists {listed} of {layers} layers")));
    }
    for (kv_heads, layer) in listed.into_iter().zip(&mut description.layers) {
        share(kv_heads, config, layer)?;
    }
    Ok(description)
}

/// Gives a layer so many heads of keys and values.
fn share(kv_heads: usize, config: &Config, layer: &mut Layer) -> Result<(), LoadError> {
    let mixer = &mut layer.mixer.inner;
    let heads = mixer.attention.heads;
    if !heads.is_multiple_of(kv_heads) {
        return Err(config.problem(format!("{heads} attention heads cannot share {kv_heads} key and value heads")));
    }
    mixer.attention.kv_heads = kv_heads;
    let width = kv_heads * mixer.attention.head_dim;
    mixer.qkv.parts[1..].iter_mut().for_each(|part| part.outputs = width);
    Ok(())
}

fn attention(block: &Config, config: &Config, layer: &mut Layer) -> Result<(), LoadError> {
    layer.without_mixer = block.flag("no_op")?;
    if layer.without_mixer {
        return Ok(());
    }
    refuse(block, &["window_length", "num_sink_tokens", "sparsify", "mamba", "llama4"])?;
    if block.flag("unshifted_sink")? {
        return Err(LoadError::unsupported("unshifted_sink in block_configs", "plain attention is"));
    }
    let (heads, group) = (layer.mixer.inner.attention.heads, block.count("n_heads_in_group")?);
    if !heads.is_multiple_of(group) {
        return Err(config.problem(format!("{heads} attention heads do not divide into groups of {group}")));
    }
    share(heads / group, config, layer)
}

fn feed(block: &Config, config: &Config, hidden: usize, layer: &mut Layer) -> Result<(), LoadError> {
    layer.without_feed = block.flag("no_op")?;
    if layer.without_feed {
        return Ok(());
    }
    refuse(block, &["sparsify", "moe"])?;
    if block.flag_if_any("gated")? == Some(false) {
        return Err(LoadError::unsupported("an ffn without a gate in block_configs", "a gated one is"));
    }
    if let Some(name) = block.word_if_any("hidden_act")?.filter(|name| *name != "silu") {
        return Err(LoadError::unsupported(format!("activation {name} in block_configs"), "silu is"));
    }
    let factor = block.number_if_any("ffn_mult")?;
    let factor = factor.ok_or_else(|| config.problem("a layer of block_configs has no ffn_mult".to_string()))?;
    // As the reference rounds it.
    let factor = (factor * 1e6).round() / 1e6;
    let width = ((2.0 * factor * hidden as f64 / 3.0) as usize).checked_next_multiple_of(WIDTH_STEP);
    let width = width.ok_or_else(|| config.problem(format!("ffn_mult {factor} is too large")))?;
    if let Some(told) = block.count_if_any("intermediate_size")?.filter(|told| *told != width) {
        return Err(config.problem(format!("block_configs asks for an ffn of {told}, and by its ffn_mult for {width}")));
    }
    if let Feed::Gated(gated) = &mut layer.feed.inner {
        gated.gate_up.parts.iter_mut().for_each(|part| part.outputs = width);
        gated.down.inputs = width;
    }
    Ok(())
}

/// Refuses what a block may ask for and is not computed.
fn refuse(block: &Config, keys: &[&str]) -> Result<(), LoadError> {
    if block.flag("replace_with_linear")? {
        return Err(LoadError::unsupported("replace_with_linear", "attention, an MLP or nothing is"));
    }
    match keys.iter().find(|key| block.value(key).is_some()) {
        Some(key) => Err(LoadError::unsupported(format!("{key} in block_configs"), "plain attention or an MLP is")),
        None => Ok(()),
    }
}
