//! `gemma2`, `gemma3_text` and `gemma3`: Gemma 2 and 3, text only.
//!
//! Norms before and after both branches, their factors stored less one; embeddings grow by the root of their width; GELU.
//! Gemma 2 caps scores and slides every other layer. Gemma 3 norms heads instead, and five layers of six slide, with a
//! rope of their own. The pictures of `gemma3` are not read, and its text part is described by `text_config`; newer files put
//! its name before that of the whole.

use serde_json::json;

use super::dense::{Family, PLAIN, QkNorm, ropes_by_type};
use super::{Activation, Description, Holds, Rope};
use crate::LoadError;
use crate::config::Config;

/// Gemma 2.
pub(super) fn describe_2(config: &Config) -> Result<Description, LoadError> {
    let config = config.with_defaults(&json!({ "tie_word_embeddings": true, "query_pre_attn_scalar": 256 }));
    let window =
        |config: &Config, layer: usize| Ok(config.count_if_any("sliding_window")?.filter(|_| layer.is_multiple_of(2)));
    let mut description = Family { activation: Activation::GeluTanh, window, ..PLAIN }.describe(&config)?;
    let cap = |key: &str, usual: f32| -> Result<Option<f32>, LoadError> {
        let told = config.number_if_any(key)?.map(|cap| cap as f32);
        Ok(told.or((!config.says(key)).then_some(usual)))
    };
    let softcap = cap("attn_logit_softcapping", 50.0)?;
    description.layers.iter_mut().for_each(|layer| layer.mixer.inner.attention.softcap = softcap);
    description.logit_softcap = cap("final_logit_softcapping", 30.0)?;
    finish(description, &config)
}

/// Gemma 3.
pub(super) fn describe_3(config: &Config, holds: Holds<'_>) -> Result<Description, LoadError> {
    let pictures = config.word("model_type")? == "gemma3";
    let newer = holds("model.language_model.embed_tokens.weight") && !holds("language_model.model.embed_tokens.weight");
    let text = if pictures { config.object_if_any("text_config")? } else { None };
    let config = text.as_ref().unwrap_or(config).with_defaults(&json!({
        "model_type": "gemma3_text", "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "vocab_size": 262208, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "rope_local_base_freq": 1e4, "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
        "tie_word_embeddings": true,
    }));
    let family = Family {
        prefix: match (pictures, newer) {
            (false, _) => "model",
            (true, false) => "language_model.model",
            (true, true) => "model.language_model",
        },
        activation: Activation::GeluTanh,
        qk_norm: QkNorm::Heads,
        window: |config, layer| match (layer + 1) % config.count("sliding_window_pattern")? {
            0 => Ok(None),
            _ => config.count("sliding_window").map(Some),
        },
        ..PLAIN
    };
    let mut description = family.describe(&config)?;
    let head_dim = description.layers[0].mixer.inner.attention.head_dim;
    let base = config.number_if_any("rope_local_base_freq")?.unwrap_or(10_000.0);
    ropes_by_type(&mut description, &config, Rope::plain(base, head_dim))?;
    if pictures {
        description.architecture = "gemma3".to_string();
        let unread = ["vision_tower", "multi_modal_projector", "model.vision_tower", "model.multi_modal_projector"];
        description.unread = unread.map(String::from).to_vec();
    }
    // The reference caps no scores of this version, whatever attn_logit_softcapping says.
    description.logit_softcap = config.number_if_any("final_logit_softcapping")?.map(|cap| cap as f32);
    finish(description, &config)
}

/// What both have.
fn finish(mut description: Description, config: &Config) -> Result<Description, LoadError> {
    let scalar = config.number_if_any("query_pre_attn_scalar")?.unwrap_or(256.0);
    let scale = scalar.powf(-0.5) as f32;
    for layer in &mut description.layers {
        layer.mixer.inner.attention.scale = scale;
        // What other families call the norm before the MLP comes after attention here.
        layer.mixer.after = layer.feed.before.take();
        let like = |name| layer.mixer.after.as_ref().map(|norm| norm.renamed("post_attention_layernorm", name));
        (layer.feed.before, layer.feed.after) = (like("pre_feedforward_layernorm"), like("post_feedforward_layernorm"));
        layer.norms_mut().for_each(|norm| norm.less_one = true);
    }
    description.norm.less_one = true;
    // As the references round it: they compute in bf16.
    description.embedding_scale = half::bf16::from_f32((description.hidden as f32).sqrt()).to_f32();
    Ok(description)
}
