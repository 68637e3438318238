//! `/v1/models`, `/v1/models/{id}` and `/v1/models/{id}/capabilities`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use protocol::model::ModelCard;
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::Bridge;
use crate::body::query;
use crate::dialect::Dialect;
use crate::error::HttpError;
use crate::openapi::{Operation, Routes};
use crate::time::date;

/// The most models of one page.
const PAGE_MAX: u16 = 1_000;

/// Returns the routes of this module, relative to `/v1`.
pub fn routes() -> Routes {
    let name = "The model's name; where it has a slash, that may stand as it is.";
    let show = Operation::new("Show a model").path("id", name).gives::<Model>("The model.");
    let can = Operation::new("Tell what a model can do").path("id", name).gives::<Abilities>("What it can do.");
    let list = Operation::new("List the models")
        .more("All of them, unless a `limit` is named; Anthropic's clients go on with `after_id`, or back with `before_id`.")
        .query::<Page>()
        .gives::<Models>("Models, loaded or loadable.");
    Routes::new("OpenAI")
        .get("/models", self::list, list)
        .get("/models/{*id}", self::show, show)
        .within("/models/{id}/capabilities", can)
        .unlisted("/moderations", any(no_moderations))
        .unlisted("/rag", any(no_retrieval))
        .unlisted("/rag/{*rest}", any(no_retrieval))
}

/// A list of models.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelList)]
pub struct Models {
    object: &'static str,
    data: Vec<Model>,
    // Anthropic's clients ask at the same path, and read these of a list and of a model.
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
    context_length: u32,
    r#type: &'static str,
    display_name: String,
    created_at: String,
    lifecycle: &'static str,
    max_input_tokens: u32,
    // And clients of vLLM these.
    max_model_len: u32,
    root: String,
}

impl From<ModelCard> for Model {
    fn from(card: ModelCard) -> Self {
        Self {
            display_name: card.name.clone(),
            root: card.name.clone(),
            id: card.name,
            object: "model",
            created: card.created_unix_s,
            owned_by: "impetus",
            context_length: card.facts.context_length,
            r#type: "model",
            created_at: date(Duration::from_secs(card.created_unix_s.unsigned_abs())),
            lifecycle: "active",
            max_input_tokens: card.facts.context_length,
            max_model_len: card.facts.context_length,
        }
    }
}

/// Which models to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Page {
    limit: Option<u16>,
    after_id: Option<String>,
    before_id: Option<String>,
    /// What clients say of themselves with every request of theirs, here and below; it changes no answer.
    #[serde(rename = "beta")]
    #[param(ignore)]
    _beta: Option<String>,
    #[serde(rename = "client_version")]
    #[param(ignore)]
    _client_version: Option<String>,
    #[serde(rename = "api-version")]
    #[param(ignore)]
    _api_version: Option<String>,
}

impl Page {
    /// Keeps the models of the page; says whether there are more where it leads.
    fn cut(self, cards: &mut Vec<ModelCard>) -> Result<bool, Error> {
        let most = usize::from(self.limit.unwrap_or(u16::MAX));
        if most == 0 || self.limit.is_some_and(|limit| limit > PAGE_MAX) {
            return Err(Error::invalid("limit", format!("'limit' is {most}; it is from 1 to {PAGE_MAX}.")));
        }
        if self.after_id.is_some() && self.before_id.is_some() {
            return Err(Error::invalid("before_id", "'after_id' and 'before_id' name two pages; send one of them."));
        }
        let place = |name: &str, id: &str| {
            let at = cards.iter().position(|card| card.name == id);
            at.ok_or_else(|| Error::invalid(name, format!("There is no model '{id}' in this list.")))
        };
        let after = self.after_id.map(|id| place("after_id", &id)).transpose()?;
        let before = self.before_id.map(|id| place("before_id", &id)).transpose()?;
        if let Some(before) = before {
            cards.truncate(before);
            let more = cards.len() > most;
            cards.drain(..cards.len().saturating_sub(most));
            return Ok(more);
        }
        cards.drain(..after.map_or(0, |at| at + 1));
        let more = cards.len() > most;
        cards.truncate(most);
        Ok(more)
    }
}

/// Lists the models, loaded or loadable.
pub async fn list(
    State(bridge): State<Arc<Bridge>>,
    dialect: Dialect,
    page: Result<Query<Page>, QueryRejection>,
) -> Response {
    dialect.answer(listed(&bridge, page).await)
}

async fn listed(bridge: &Bridge, page: Result<Query<Page>, QueryRejection>) -> Result<Response, Error> {
    let page = query(page)?;
    let mut cards = bridge.daemon.client().await?.models().await?;
    let has_more = page.cut(&mut cards)?;
    let end = |card: Option<&ModelCard>| card.map(|card| card.name.clone());
    let (first_id, last_id) = (end(cards.first()), end(cards.last()));
    let data = cards.into_iter().map(Model::from).collect();
    Ok(Json(Models { object: "list", data, first_id, last_id, has_more }).into_response())
}

/// What a model can do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelCapabilities)]
pub struct Abilities {
    id: String,
    object: &'static str,
    architecture: String,
    parameters: u64,
    weights: String,
    context_length: u32,
    vocabulary: u32,
    chat: bool,
    tools: bool,
    reasoning: bool,
    vision: bool,
}

impl From<ModelCard> for Abilities {
    fn from(card: ModelCard) -> Self {
        let facts = card.facts;
        Self {
            id: card.name,
            object: "model.capabilities",
            architecture: facts.architecture,
            parameters: facts.parameters,
            weights: facts.weights,
            context_length: facts.context_length,
            vocabulary: facts.vocabulary,
            chat: facts.capabilities.chat,
            tools: facts.capabilities.tools,
            reasoning: facts.capabilities.reasoning,
            vision: false,
        }
    }
}

/// Shows one model, or what it can do; names may hold slashes, so the path is told apart here.
async fn show(
    State(bridge): State<Arc<Bridge>>,
    dialect: Dialect,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    dialect.answer(shown(&bridge, id).await)
}

async fn shown(bridge: &Bridge, id: Result<Path<String>, PathRejection>) -> Result<Response, Error> {
    let Path(id) = id.map_err(|_| Error::invalid("model", "The model's name in the path is not UTF-8."))?;
    let cards = bridge.daemon.client().await?.models().await?;
    let find = |name: &str| cards.iter().find(|card| card.name == name).cloned();
    if let Some(card) = find(&id) {
        return Ok(Json(Model::from(card)).into_response());
    }
    let name = id.strip_suffix("/capabilities").unwrap_or(&id);
    match find(name) {
        Some(card) => Ok(Json(Abilities::from(card)).into_response()),
        None => Err(Error::new(ErrorKind::ModelNotFound, format!("there is no model {name:?}"))
            .hint("GET /v1/models lists the models.")
            .param("model")),
    }
}

/// Says that nothing here searches documents yet.
async fn no_retrieval() -> HttpError {
    Error::new(ErrorKind::NotFound, "Retrieval is not offered: no documents are indexed or searched here.")
        .hint("Search them yourself with /v1/embeddings and /v1/rerank, and send what you find as messages.")
        .into()
}

/// Says that nothing here judges texts.
async fn no_moderations() -> HttpError {
    Error::new(ErrorKind::NotFound, "Moderations are not offered: no model here judges texts.")
        .hint("Nothing you send leaves this machine.")
        .into()
}
