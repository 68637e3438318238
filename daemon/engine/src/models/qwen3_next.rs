//! `qwen3_next`, `qwen3_5` and `qwen3_5_moe`: Qwen3-Next and Qwen 3.5, text only.
//!
//! Three layers of four are gated delta nets, which keep a state in place of keys; the others are attention whose heads
//! are gated, normed, and turned in part. Released files hold norms less one and have other names than converted ones;
//! which they are shows in the names. Pictures, and what guesses several tokens ahead, are not read.

use serde_json::{Value, json};

use super::dense::{Family, LAYERS_MAX, PLAIN, QkNorm};
use super::experts::{Choice, SILU, SharedChoice, is_dense};
use super::{Attention, Delta, Description, Form, Holds, Layer, Norm, Part, Stack, TIED, Vector, is_tied};
use crate::LoadError;
use crate::config::Config;
use crate::native::DeltaShape;

/// Qwen3-Next.
pub(super) fn describe(config: &Config, holds: Holds<'_>) -> Result<Description, LoadError> {
    let config = config.with_defaults(&json!({ "linear_conv_kernel_dim": 4, "partial_rotary_factor": 0.25 }));
    let converted = holds("model.layers.0.mlp.switch_mlp.down_proj.weight");
    // Folders made of GGUF files have apart what others have together.
    let apart = |layer| holds(&format!("model.layers.{layer}.linear_attn.in_proj_qkv.weight"));
    let grouped = !(0..config.count("num_hidden_layers")?.min(LAYERS_MAX)).any(apart);
    hybrid(&config, &Names { prefix: "model", converted, grouped })
}

/// Qwen 3.5, dense and with experts.
pub(super) fn describe_3_5(config: &Config, holds: Holds<'_>) -> Result<Description, LoadError> {
    let text = config.object_if_any("text_config")?;
    let architecture = config.word("model_type")?;
    let defaults = json!({
        "model_type": architecture, "linear_conv_kernel_dim": 4, "norm_topk_prob": true, "partial_rotary_factor": 0.25,
    });
    let text = text.as_ref().unwrap_or(config).with_defaults(&defaults);
    let at = |prefix: &'static str| holds(&format!("{prefix}.embed_tokens.weight")).then_some(prefix);
    let converted = at("language_model.model");
    let prefix = converted.or_else(|| at("model")).unwrap_or("model.language_model");
    let names = Names { prefix, converted: converted.is_some(), grouped: false };
    let mut description = hybrid(&text, &names)?;
    description.architecture = architecture.to_string();
    // Others have their head in the usual place, if they have one.
    let head = "language_model.lm_head";
    if converted.is_some() && !is_tied(config.flag_if_any(TIED)?, text.flag_if_any(TIED)?, head, holds) {
        description.head = Some(Stack::single(head, description.vocabulary, description.hidden));
    }
    Ok(description)
}

/// How a checkpoint names and stores things.
struct Names {
    prefix: &'static str,
    /// Whether a converter has added one to the norms and turned the convolutions.
    converted: bool,
    /// Whether what belongs to a head of the delta nets is projected together.
    grouped: bool,
}

fn hybrid(config: &Config, names: &Names) -> Result<Description, LoadError> {
    if let Some(other) = config.word_if_any("output_gate_type")?.filter(|name| !["swish", "silu"].contains(name)) {
        return Err(LoadError::unsupported(format!("output_gate_type {other}"), "swish is"));
    }
    let family = Family {
        prefix: names.prefix,
        qkv_bias: config.flag("attention_bias")?,
        qk_norm: QkNorm::Heads,
        rope_in_part: true,
        recurrent: true,
        ..PLAIN
    };
    let config = config.with_defaults(&json!({ "intermediate_size": 1 }));
    let mut description = family.describe(&config)?;
    let (hidden, epsilon) = (description.hidden, description.norm.epsilon);
    let gated = config.flag_if_any("attn_output_gate")? != Some(false);
    for (index, layer) in description.layers.iter_mut().enumerate() {
        layer.norms_mut().for_each(|norm| norm.less_one = !names.converted);
        if is_recurrent(&config, index)? {
            let module = format!("{}.layers.{index}.linear_attn", names.prefix);
            recur(&config, names, &module, (hidden, epsilon), layer)?;
        } else if gated {
            layer.mixer.inner.qkv.parts[0].outputs *= 2;
            layer.mixer.inner.form = Form::Gated;
        }
        experts(&config, names, index, hidden, layer)?;
    }
    description.norm.less_one = !names.converted;
    if description.caches().is_empty() {
        return Err(config.problem("no layer attends".to_string()));
    }
    description.unread = ["mtp.", "visual.", "vision_tower.", "model.visual."].map(String::from).to_vec();
    Ok(description)
}

/// Whether a layer is a delta net.
fn is_recurrent(config: &Config, layer: usize) -> Result<bool, LoadError> {
    match config.words_if_any("layer_types")? {
        Some(types) => Ok(types.get(layer) == Some(&"linear_attention")),
        None => Ok(!(layer + 1).is_multiple_of(config.count_if_any("full_attention_interval")?.unwrap_or(4))),
    }
}

/// Puts a delta net in place of a layer's attention.
fn recur(
    config: &Config,
    names: &Names,
    module: &str,
    (hidden, epsilon): (usize, f32),
    layer: &mut Layer,
) -> Result<(), LoadError> {
    let shape = DeltaShape {
        key_heads: config.count("linear_num_key_heads")?,
        value_heads: config.count("linear_num_value_heads")?,
        key_dim: config.count("linear_key_head_dim")?,
        value_dim: config.count("linear_value_head_dim")?,
        kernel: config.count("linear_conv_kernel_dim")?,
        grouped: names.grouped,
    };
    if !shape.value_heads.is_multiple_of(shape.key_heads) {
        let (keys, values) = (shape.key_heads, shape.value_heads);
        return Err(config.problem(format!("{values} value heads cannot share {keys} key heads")));
    }
    let (keys, values) = (shape.key_heads * shape.key_dim, shape.value_heads * shape.value_dim);
    let part = |name: &str, outputs| Part::new(format!("{module}.{name}"), outputs, false);
    let parts = if names.grouped {
        vec![part("in_proj_qkvz", 2 * keys + 2 * values), part("in_proj_ba", 2 * shape.value_heads)]
    } else {
        let heads = shape.value_heads;
        let split = [("qkv", 2 * keys + values), ("z", values), ("b", heads), ("a", heads)];
        split.map(|(name, outputs)| part(&format!("in_proj_{name}"), outputs)).to_vec()
    };
    let (channels, kernel) = (2 * keys + values, shape.kernel);
    if channels.checked_mul(kernel).is_none() {
        return Err(config.problem(format!("{channels} channels cannot see {kernel} tokens each")));
    }
    let name = format!("{module}.conv1d.weight");
    let dims = if names.converted { vec![channels, kernel, 1] } else { vec![channels, 1, kernel] };
    let vector = |name: &str| Vector::new(format!("{module}.{name}"), shape.value_heads);
    let mixer = &mut layer.mixer.inner;
    mixer.qkv = Stack { parts, inputs: hidden };
    mixer.qk_norm = None;
    mixer.attention = Attention { window: None, rope: None, ..mixer.attention };
    mixer.form = Form::Delta(Delta {
        shape,
        conv: Vector { name, dims },
        decay: vector("A_log"),
        decay_bias: vector("dt_bias"),
        norm: Norm::rms(&format!("{module}.norm"), shape.value_dim, epsilon),
    });
    mixer.output = Stack::single(format!("{module}.out_proj"), hidden, values);
    Ok(())
}

/// Puts experts into a layer that has them.
fn experts(config: &Config, names: &Names, index: usize, hidden: usize, layer: &mut Layer) -> Result<(), LoadError> {
    if config.value("num_experts").and_then(Value::as_u64).unwrap_or(0) == 0 || is_dense(config, index)? {
        return Ok(());
    }
    let width = config.count("shared_expert_intermediate_size")?;
    let choice = Choice {
        prefix: names.prefix,
        width: config.count("moe_intermediate_size")?,
        normalised: config.flag("norm_topk_prob")?,
        shared: Some(SharedChoice { name: "shared_expert", width, gate: Some("shared_expert_gate") }),
        ..SILU
    };
    choice.place(config, index, hidden, layer)
}
