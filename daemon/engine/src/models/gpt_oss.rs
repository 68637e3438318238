//! `gpt_oss`: gpt-oss 20B and 120B, as mlx-lm converts them.
//!
//! Every other layer slides; each head has a sink, a score that takes attention and gives nothing; everything has biases;
//! all MLPs are experts in MXFP4, their gates clipped. The layout of the first release, gate and up in alternate rows, is
//! refused, in MXFP4 as OpenAI ships it and in bf16 as transformers saves it.

use super::dense::{Family, PLAIN};
use super::experts::{Choice, SILU};
use super::{Activation, Description, Feed, Holds, Vector};
use crate::LoadError;
use crate::config::Config;
use crate::native::SWIGLU_LIMIT;

/// What the sigmoid's argument is multiplied by.
const SWIGLU_ALPHA: f64 = 1.702;

pub(super) fn describe(config: &Config, holds: Holds<'_>) -> Result<Description, LoadError> {
    refuse_first_layout(config, holds)?;
    if config.number_if_any("swiglu_limit")?.is_some_and(|limit| limit != f64::from(SWIGLU_LIMIT)) {
        return Err(LoadError::unsupported("swiglu_limit", format!("a limit of {SWIGLU_LIMIT} is")));
    }
    if config.number_if_any("swiglu_alpha")?.is_some_and(|alpha| alpha != SWIGLU_ALPHA) {
        return Err(LoadError::unsupported("swiglu_alpha", format!("{SWIGLU_ALPHA} is")));
    }
    let family = Family {
        qkv_bias: true,
        output_bias: true,
        rope_base: Some(150_000.0),
        window: |config, layer| {
            if layer.is_multiple_of(2) { config.count("sliding_window").map(Some) } else { Ok(None) }
        },
        ..PLAIN
    };
    let mut description = family.describe(config)?;
    let choice = Choice {
        count: "num_local_experts",
        width: config.count("intermediate_size")?,
        activation: Activation::ClippedSwiglu,
        bias: true,
        router: "router",
        joined: "experts",
        ..SILU
    };
    for (index, layer) in description.layers.iter_mut().enumerate() {
        choice.place(config, index, description.hidden, layer)?;
        if let Feed::Experts(experts) = &mut layer.feed.inner {
            experts.join();
        }
        let name = format!("model.layers.{index}.self_attn.sinks");
        layer.mixer.inner.sinks = Some(Vector::new(name, layer.mixer.inner.attention.heads));
    }
    Ok(description)
}

/// Refuses gate and up in alternate rows: by how the file says that they are quantized, before weights are there, or by
/// their names.
fn refuse_first_layout(config: &Config, holds: Holds<'_>) -> Result<(), LoadError> {
    let table = config.object_if_any("quantization_config")?.filter(|_| config.value("quantization").is_none());
    let method = table.as_ref().map(|table| table.word_if_any("quant_method")).transpose()?.flatten();
    let expert = |name: &str| holds(&format!("model.layers.0.mlp.experts.{name}"));
    let found = if method == Some("mxfp4") {
        "quant_method mxfp4"
    } else if !expert("gate_proj.weight") && (expert("gate_up_proj") || expert("gate_up_proj_blocks")) {
        "mlp.experts.gate_up_proj"
    } else {
        return Ok(());
    };
    let advice =
        "mlx-lm's is: pull a conversion, such as mlx-community/gpt-oss-20b-MXFP4-Q8, or make one with mlx_lm.convert";
    Err(LoadError::unsupported(format!("the layout in which gpt-oss was first released ({found})"), advice))
}
