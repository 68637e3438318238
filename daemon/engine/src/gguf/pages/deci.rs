//! The page of DeciLM and NVIDIA's Nemotron models of its kind, whose layers differ: a file lists heads and widths layer by
//! layer, `config.json` lists blocks.

use serde_json::{Map, Value, json};

use super::Source;
use crate::LoadError;

/// Widths of MLPs are rounded up to multiples of it where `config.json` becomes a model.
const WIDTH_STEP: usize = 256;

/// A layer without attention, or without an MLP.
fn nothing() -> Value {
    json!({ "no_op": true })
}

pub(super) fn deci(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let fields = &source.head.fields;
    let listed = |name: &str| fields.wholes(&source.key(name), source.layers);
    let (heads, kv) = (listed("attention.head_count")?, listed("attention.head_count_kv")?);
    let (widths, hidden) = (listed("feed_forward_length")?, source.count("embedding_length")?);
    let all = heads.iter().copied().max().unwrap_or(0);
    let mut blocks = Vec::new();
    for (layer, ((heads, kv), width)) in heads.into_iter().zip(kv).zip(widths).enumerate() {
        let attention = match (heads, kv) {
            (0, 0) => nothing(),
            (_, 0) => {
                let feature = format!("layer {layer}, where a matrix replaces attention,");
                return Err(LoadError::unsupported(feature, "attention, an MLP or nothing is"));
            }
            (heads, kv) if heads == all && heads.is_multiple_of(kv) => json!({ "n_heads_in_group": heads / kv }),
            (heads, kv) => {
                return Err(fields.problem(format!("layer {layer} has {heads} heads that share {kv} of {all}")));
            }
        };
        if !width.is_multiple_of(WIDTH_STEP) {
            let feature = format!("layer {layer}, whose MLP is {width} wide,");
            return Err(LoadError::unsupported(feature, format!("multiples of {WIDTH_STEP} are")));
        }
        let feed = if width == 0 { nothing() } else { json!({ "ffn_mult": factor(width, hidden) }) };
        blocks.push(json!({ "attention": attention, "ffn": feed }));
    }
    let any = |ending: &str| source.head.tensors.keys().any(|name| name.ends_with(ending));
    let more = json!({
        "block_configs": blocks, "num_attention_heads": all, "attention_bias": any(".attn_q.bias"),
        "mlp_bias": any(".ffn_gate.bias"),
    });
    source.typed("nemotron-nas", more)
}

/// What a width is said by: two thirds of it, times the model's, are rounded up. The middle of a step is safe from rounding.
fn factor(width: usize, hidden: usize) -> f64 {
    1.5 * (width - WIDTH_STEP / 2) as f64 / hidden as f64
}

impl Source<'_> {
    /// What DeciLM says as others do.
    pub(super) fn deci(&self) -> Result<Map<String, Value>, LoadError> {
        let mut config = self.size()?;
        let hidden = self.count("embedding_length")?;
        let heads = self.head.fields.wholes(&self.key("attention.head_count"), self.layers)?;
        let heads = heads.into_iter().max().filter(|heads| *heads > 0);
        let heads = heads.ok_or_else(|| self.head.fields.problem("none of its layers attends"))?;
        self.heads(self.count_if_any("attention.key_length")?.unwrap_or(hidden / heads), &mut config)?;
        Ok(config)
    }
}
