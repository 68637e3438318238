//! `deepseek_v2`, `deepseek_v3` and `glm4_moe_lite`: DeepSeek V2 (Lite, Coder), V3 and R1, and GLM-4.7 Flash.
//!
//! Attention keeps a short latent for each token, from which all heads make their keys and values; a part of each head is
//! turned, neighbour by neighbour, and its key is shared. YaRN sharpens the scores as well. After the first layers, a token
//! takes some of many experts, chosen by groups, and some that all take. What guesses several tokens ahead is not read.

use serde_json::json;

use super::dense::{Family, PLAIN};
use super::experts::place_grouped;
use super::{Attention, Description, Form, Latent, LatentHeads, Layer, Norm, Part, Rope, Stack};
use crate::LoadError;
use crate::config::Config;

/// What the norms between two projections add, where a family does not say.
const INNER_EPSILON: f32 = 1e-6;

/// DeepSeek V2.
pub(super) fn describe_2(config: &Config) -> Result<Description, LoadError> {
    if config.flag("norm_topk_prob")? {
        return Err(LoadError::unsupported("norm_topk_prob in deepseek_v2", "weights as the softmax gives them are"));
    }
    describe(config, false, INNER_EPSILON)
}

/// DeepSeek V3.
pub(super) fn describe_3(config: &Config) -> Result<Description, LoadError> {
    describe(&config.with_defaults(&json!({ "norm_topk_prob": true })), true, INNER_EPSILON)
}

/// GLM-4.7 Flash.
pub(super) fn describe_glm(config: &Config) -> Result<Description, LoadError> {
    let config =
        config.with_defaults(&json!({ "norm_topk_prob": true, "rms_norm_eps": 1e-5, "first_k_dense_replace": 1 }));
    let epsilon = config.number_if_any("rms_norm_eps")?.unwrap_or(1e-5) as f32;
    describe(&config, true, epsilon)
}

fn describe(config: &Config, sigmoid: bool, epsilon: f32) -> Result<Description, LoadError> {
    let scoring = if sigmoid { "sigmoid" } else { "softmax" };
    if let Some(other) = config.word_if_any("scoring_func")?.filter(|name| *name != scoring) {
        return Err(LoadError::unsupported(format!("scoring_func {other}"), format!("{scoring} is")));
    }
    if config.flag_if_any("rope_interleave")? == Some(false) {
        return Err(LoadError::unsupported("rope_interleave false", "rope that turns neighbours is"));
    }
    let turned = config.count("qk_rope_head_dim")?;
    let config = config.with_defaults(&json!({ "head_dim": turned }));
    let bias = config.flag("attention_bias")?;
    let mut description = Family { output_bias: bias, rope_neighbours: true, ..PLAIN }.describe(&config)?;
    let mut rope = Rope::read(&config, PLAIN.rope_base, turned)?;
    rope.neighbours = true;
    description.context = rope.context(config.count("max_position_embeddings")?);
    description.ropes = vec![rope];
    let hidden = description.hidden;
    for (index, layer) in description.layers.iter_mut().enumerate() {
        attend_in_latent(&config, &format!("model.layers.{index}.self_attn"), hidden, epsilon, layer)?;
    }
    place_grouped(&config, &mut description.layers, hidden, sigmoid)?;
    description.unread = vec![format!("model.layers.{}.", description.layers.len())];
    Ok(description)
}

/// Puts latent attention into a layer.
fn attend_in_latent(
    config: &Config,
    module: &str,
    hidden: usize,
    epsilon: f32,
    layer: &mut Layer,
) -> Result<(), LoadError> {
    let mixer = &mut layer.mixer.inner;
    let (heads, rank) = (mixer.attention.heads, config.count("kv_lora_rank")?);
    let widths = (config.count("qk_rope_head_dim")?, config.count("qk_nope_head_dim")?, config.count("v_head_dim")?);
    let (turned, plain, values) = widths;
    let bias = config.flag("attention_bias")?;
    let width = heads * (turned + plain);
    let latent = Part::new(format!("{module}.kv_a_proj_with_mqa"), rank + turned, bias);
    let (first, queries) = match config.count_if_any("q_lora_rank")? {
        None => (Part::new(format!("{module}.q_proj"), width, false), None),
        Some(rank) => {
            let norm = Norm::rms(&format!("{module}.q_a_layernorm"), rank, epsilon);
            let second = Stack::single(format!("{module}.q_b_proj"), width, rank);
            (Part::new(format!("{module}.q_a_proj"), rank, bias), Some((norm, second)))
        }
    };
    mixer.qkv = Stack { parts: vec![first, latent], inputs: hidden };
    mixer.output.inputs = heads * values;
    mixer.form = Form::Latent(Latent {
        queries,
        norm: Norm::rms(&format!("{module}.kv_a_layernorm"), rank, epsilon),
        rank,
        widths,
        heads: LatentHeads::Joined(Stack::single(format!("{module}.kv_b_proj"), heads * (plain + values), rank)),
    });
    let sharpness = sharpness(config)?;
    let scale = ((turned + plain) as f64).powf(-0.5) * sharpness * sharpness;
    mixer.attention = Attention { kv_heads: 1, head_dim: turned + rank, scale: scale as f32, ..mixer.attention };
    Ok(())
}

/// What YaRN multiplies queries and keys by on top of the angles.
fn sharpness(config: &Config) -> Result<f64, LoadError> {
    let table = config.object_if_any("rope_scaling")?;
    let Some(table) = table.map_or_else(|| config.object_if_any("rope_parameters"), |table| Ok(Some(table)))? else {
        return Ok(1.0);
    };
    let weight = table.real_if_any("mscale_all_dim")?.unwrap_or(0.0);
    let factor = table.number_if_any("factor")?.unwrap_or(1.0);
    Ok(if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 })
}

impl Latent {
    /// Takes the heads' matrices from the tensors that converters write, where they are there.
    pub(super) fn find_heads(&mut self, holds: &dyn Fn(&str) -> bool) {
        let LatentHeads::Joined(stack) = &self.heads else { return };
        let module = stack.parts[0].name.trim_end_matches("kv_b_proj").to_string();
        if !holds(&format!("{module}embed_q.weight")) {
            return;
        }
        let (rank, (_, plain, values)) = (self.rank, self.widths);
        let count = stack.outputs() / (plain + values);
        let head = |name: &str, index, outputs, inputs| {
            let part = Part { slice: Some((index, count)), ..Part::new(format!("{module}{name}"), outputs, false) };
            Stack { parts: vec![part], inputs }
        };
        let keys = (0..count).map(|index| head("embed_q", index, rank, plain)).collect();
        let values = (0..count).map(|index| head("unembed_out", index, values, rank)).collect();
        self.heads = LatentHeads::Apart(keys, values);
    }
}
