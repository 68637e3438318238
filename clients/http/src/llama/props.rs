//! `/props`: what a model is, as llama-server's clients look it up before they ask anything. It changes
//! nothing, and tells of no request.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use protocol::generation::Sampling;
use protocol::model::ModelCard;
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::Bridge;
use crate::body::query;
use crate::error::HttpError;
use crate::openai::response::fingerprint;
use crate::openapi::Operation;

/// Which model is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Its name; the default model otherwise.
    model: Option<String>,
    /// No model is brought into memory to be looked at.
    #[serde(rename = "autoload")]
    #[param(ignore)]
    _autoload: Option<bool>,
}

/// What a model is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaProps)]
pub struct Props {
    default_generation_settings: Defaults,
    /// How many requests one key may have at once is not said here.
    total_slots: u32,
    model_alias: String,
    model_path: String,
    chat_template: String,
    modalities: Modalities,
    build_info: String,
    is_sleeping: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaDefaults)]
struct Defaults {
    n_ctx: u32,
    params: Drawn,
}

/// How the model's answers are drawn where a request does not say; what is not known is left out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaParams)]
struct Drawn {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f32>,
    /// -1: every answer has one of its own.
    seed: i64,
    n_predict: i64,
}

impl From<Sampling> for Drawn {
    fn from(sampling: Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repetition_penalty,
            seed: -1,
            n_predict: -1,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaModalities)]
struct Modalities {
    vision: bool,
    audio: bool,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Tell what a model is, as llama-server does").query::<Which>().gives::<Props>("What it is.")
}

/// Shows a model.
pub async fn show(
    State(bridge): State<Arc<Bridge>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Props>, HttpError> {
    let Which { model, .. } = query(which)?;
    let client = bridge.daemon.client().await?;
    // They are waited for when a daemon starts; its status is not.
    let cards = client.models().await?;
    let model = match model {
        None => client.status().await?.default_model,
        named => named,
    };
    let meant = |card: &ModelCard| model.as_ref().is_some_and(|name| card.name == *name);
    let card = cards.into_iter().find(meant).ok_or_else(|| {
        let name = model.as_deref().unwrap_or_default();
        Error::new(ErrorKind::ModelNotFound, format!("there is no model {name:?}")).param("model")
    })?;
    let texts = client.texts(&card.name).await?;
    Ok(Json(Props {
        default_generation_settings: Defaults { n_ctx: card.facts.context_length, params: texts.sampling.into() },
        total_slots: 1,
        model_path: card.name.clone(),
        model_alias: card.name,
        chat_template: texts.template.unwrap_or_default(),
        modalities: Modalities { vision: false, audio: false },
        build_info: fingerprint(&client),
        is_sleeping: false,
    }))
}
