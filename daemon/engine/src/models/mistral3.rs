//! `ministral3` and `mistral3`: Ministral 3, Mistral Small 3.1 and later, Devstral Small 2, text only.
//!
//! Mistral, whose queries grow with their position in the newer models, so that far sight stays sharp. `mistral3` holds a
//! Mistral or a Ministral 3 in `text_config`, beside pictures that are not read.

use serde_json::json;

use super::dense::{Family, PLAIN};
use super::{Description, Holds, Sharpening, Stack, TIED, is_tied};
use crate::LoadError;
use crate::config::Config;

/// Ministral 3 alone.
pub(super) fn describe_text(config: &Config) -> Result<Description, LoadError> {
    text(config, "model")
}

/// Either of them beside pictures.
pub(super) fn describe(config: &Config, holds: Holds<'_>) -> Result<Description, LoadError> {
    let Some(text_config) = config.object_if_any("text_config")? else {
        return Err(config.problem("text_config is missing".to_string()));
    };
    let text_config = text_config.with_defaults(&json!({ "tie_word_embeddings": false }));
    match text_config.word_if_any("model_type")? {
        None | Some("mistral" | "ministral3" | "llama") => {}
        Some(other) => {
            let known = "mistral and ministral3 are";
            return Err(LoadError::unsupported(format!("text of model_type {other} in mistral3"), known));
        }
    }
    // Newer files have the other order.
    let newer = holds("model.language_model.embed_tokens.weight") && !holds("language_model.model.embed_tokens.weight");
    let mut description = text(&text_config, if newer { "model.language_model" } else { "language_model.model" })?;
    description.architecture = config.word("model_type")?.to_string();
    let head = if newer { "lm_head" } else { "language_model.lm_head" };
    if !is_tied(config.flag_if_any(TIED)?, text_config.flag_if_any(TIED)?, head, holds) {
        description.head = Some(Stack::single(head, description.vocabulary, description.hidden));
    }
    let pictures = ["vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."];
    description.unread = pictures.map(String::from).to_vec();
    Ok(description)
}

fn text(config: &Config, prefix: &'static str) -> Result<Description, LoadError> {
    let config = config.with_defaults(&json!({ "model_type": "mistral" }));
    let family = Family { prefix, window: |config, _| config.count_if_any("sliding_window"), ..PLAIN };
    let mut description = family.describe(&config)?;
    let older = config.object_if_any("rope_scaling")?;
    let Some(table) = older.map_or_else(|| config.object_if_any("rope_parameters"), |table| Ok(Some(table)))? else {
        return Ok(description);
    };
    let Some(weight) = table.real_if_any("llama_4_scaling_beta")? else { return Ok(description) };
    let every = table.number_if_any("original_max_position_embeddings")?;
    let every = every
        .ok_or_else(|| config.problem("llama_4_scaling_beta without original_max_position_embeddings".to_string()))?;
    for layer in &mut description.layers {
        layer.mixer.inner.attention.sharpening =
            Some(Sharpening { weight: weight as f32, every: (every as u32).max(1) });
    }
    Ok(description)
}
