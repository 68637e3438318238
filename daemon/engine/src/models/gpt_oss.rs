//! `gpt_oss`: gpt-oss 20B and 120B, as mlx-lm converts them.
//!
//! Every other layer slides; each head has a sink, a score that takes attention and gives nothing; everything has biases;
//! all MLPs are experts in MXFP4, their gates clipped. The layout of the first release, gate and up in alternate rows, is
//! not read.

use super::dense::{Family, PLAIN};
use super::experts::{Choice, SILU};
use super::{Activation, Description, Feed, Vector};
use crate::LoadError;
use crate::config::Config;
use crate::native::SWIGLU_LIMIT;

/// What the sigmoid's argument is multiplied by.
const SWIGLU_ALPHA: f64 = 1.702;

pub(super) fn describe(config: &Config) -> Result<Description, LoadError> {
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
