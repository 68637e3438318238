//! `/v1/models` and `/v1/models/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use protocol::model::ModelCard;
use protocol::{Error, ErrorKind};
use serde::Serialize;

use crate::app::Bridge;
use crate::error::HttpError;

/// A list of models.
#[derive(Debug, Serialize)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// One model.
#[derive(Debug, Serialize)]
pub struct Model {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
    context_length: u32,
}

impl From<ModelCard> for Model {
    fn from(card: ModelCard) -> Self {
        Self {
            id: card.name,
            object: "model",
            created: card.created_unix_s,
            owned_by: "impetus",
            context_length: card.facts.context_length,
        }
    }
}

/// Lists every model, loaded or loadable.
pub async fn list(State(bridge): State<Arc<Bridge>>) -> Result<Json<Models>, HttpError> {
    let cards = bridge.daemon.client().await?.models().await?;
    Ok(Json(Models { object: "list", data: cards.into_iter().map(Model::from).collect() }))
}

/// Shows one model; names may hold slashes.
pub async fn show(
    State(bridge): State<Arc<Bridge>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, HttpError> {
    let Path(id) = id.map_err(|_| Error::invalid("model", "The model's name in the path is not UTF-8."))?;
    let cards = bridge.daemon.client().await?.models().await?;
    match cards.into_iter().find(|card| card.name == id) {
        Some(card) => Ok(Json(card.into())),
        None => Err(Error::new(ErrorKind::ModelNotFound, format!("The model '{id}' does not exist."))
            .hint("GET /v1/models lists the models.")
            .param("model")
            .into()),
    }
}
