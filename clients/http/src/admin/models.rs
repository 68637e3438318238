//! `/api/models`: which there are and how each is; brought into memory, taken out, fetched from the hub. Slow work says
//! how far it is, a line of JSON at a time, where `stream` is true; hanging up ends a load or a pull that nobody else
//! waits for.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use protocol::client::Client;
use protocol::model::{LoadRequest, ModelCard, ModelState, PullRequest, Residence, Source};
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{List, Part};
use crate::app::Bridge;
use crate::body::{Members, PathId, path_id, query};
use crate::error::{self, HttpError};
use crate::ndjson::{bytes, respond};
use crate::openapi::{LINES, Operation, Routes, part};
use crate::request_id;

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let list = Operation::new("List the models, by name, and how each is")
        .query::<Part>()
        .gives_of::<List<Model>, Model>("InstalledModelList", "Every model that this key may use.");
    let show =
        Operation::new("Show a model").path("id", "Its name, which may hold slashes.").gives::<Model>("The model.");
    let load = Operation::new("Bring a model into memory")
        .more(
            "With `stream`, lines say how far it is; the last one has the model. Pinning and `keep_alive_s` are for \
             administrators.",
        )
        .takes("ModelLoadRequest", LOAD, [part::<LoadWish>()], json!({ "model": "impetus-nano", "keep_alive_s": 900 }))
        .gives::<Model>("The model, in memory.")
        .streams::<Line>(LINES);
    let unload = Operation::new("Take a model out of memory, once its running work is done")
        .takes("ModelUnloadRequest", UNLOAD, [part::<UnloadWish>()], json!({ "model": "impetus-nano" }))
        .gives::<Model>("The model.");
    let pull = Operation::new("Fetch a model from the hub")
        .more("It streams unless `stream` is false. Hanging up ends it; what was fetched is kept for the next time.")
        .takes("ModelPullRequest", PULL, [part::<PullWish>()], json!({ "model": "Qwen/Qwen3-0.6B" }))
        .gives::<Model>("The model, on disk.")
        .streams::<Line>(LINES);
    Routes::new("Models")
        .get("/api/models", self::list, list)
        .get("/api/models/{*id}", self::show, show)
        .post("/api/models/load", self::load, load)
        .post("/api/models/unload", self::unload, unload)
        .post("/api/models/pull", self::pull, pull)
}

/// The members of requests.
const LOAD: &[&[&str]] = &[&["model", "pin", "keep_alive_s", "stream"]];
const UNLOAD: &[&[&str]] = &[&["model"]];
const PULL: &[&[&str]] = &[&["model", "revision", "name", "stream"]];

/// One model.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = InstalledModel)]
pub struct Model {
    id: String,
    object: &'static str,
    created: i64,
    source: Origin,
    /// `ORG/NAME`, where it came from the hub.
    repo: Option<String>,
    /// The commit.
    revision: Option<String>,
    path: String,
    architecture: String,
    parameters: u64,
    weights: String,
    weights_bytes: u64,
    context_length: u32,
    /// How long its vectors are, if it makes any.
    dimensions: Option<u32>,
    capabilities: Vec<Ability>,
    state: Life,
    /// Whether it is never evicted.
    pinned: bool,
    /// Why its last load failed, if it did.
    error: Option<String>,
    /// How it is in memory, if it is there.
    loaded: Option<Loaded>,
}

/// Where a model came from.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ModelSource)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Shipped with Impetus.
    Bundled,
    /// A folder of this machine.
    Local,
    /// The hub.
    Hub,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ModelAbility)]
#[serde(rename_all = "lowercase")]
pub enum Ability {
    /// It continues text.
    Completion,
    /// It holds conversations.
    Chat,
    /// It calls tools.
    Tools,
    /// It reasons before it answers.
    Reasoning,
    /// It turns texts into vectors.
    Embedding,
    /// It scores documents for a query.
    Rerank,
}

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = ModelState)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// On disk.
    Available,
    /// On its way into memory.
    Loading,
    /// In memory.
    Loaded,
    /// On its way out.
    Unloading,
    /// Its last load failed.
    Failed,
}

/// A model in memory.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LoadedModel)]
pub struct Loaded {
    pid: u32,
    device: String,
    /// What its worker holds.
    memory_bytes: u64,
    /// What it counts with against the budget.
    accounted_bytes: u64,
    kv_bytes: u64,
    load_ms: u64,
    /// Until it leaves for lack of work; null keeps it.
    expires_in_ms: Option<u64>,
    running: u32,
    waiting: u32,
    blocks_used: u32,
    blocks_total: u32,
}

/// Which model to load, and how.
#[derive(Debug, Deserialize, ToSchema)]
pub struct LoadWish {
    model: String,
    /// Whether it is then never evicted.
    pin: Option<bool>,
    /// Seconds of idleness before it leaves.
    keep_alive_s: Option<u64>,
    /// Whether lines say how far it is.
    stream: Option<bool>,
}

/// Which model to unload.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UnloadWish {
    model: String,
}

/// Which model to fetch.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PullWish {
    /// `ORG/NAME`.
    model: String,
    /// A branch, tag or commit.
    revision: Option<String>,
    /// The name to give it.
    name: Option<String>,
    /// Whether lines say how far it is; they do unless it is false.
    stream: Option<bool>,
}

/// How far slow work has come; the last line has the status `success` and the model, or is an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelProgress)]
pub struct Line {
    status: &'static str,
    /// What it is done to.
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Model>,
}

/// Lists the models, by name.
async fn list(
    State(bridge): State<Arc<Bridge>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<List<Model>>, HttpError> {
    let part = query(part)?;
    let cards = bridge.daemon.client().await?.models().await?;
    Ok(Json(part.of(cards.into_iter().map(Model::from).collect(), |model| &model.id)?))
}

/// Shows one model.
async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Result<Json<Model>, HttpError> {
    Ok(Json(find(&bridge.daemon.client().await?, &path_id(id)?).await?))
}

/// Brings a model into memory.
async fn load(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    let wish: LoadWish = Members::read(&body, LOAD)?.part()?;
    let client = bridge.daemon.client().await?;
    let keep_alive_ms = wish.keep_alive_s.map(|seconds| seconds.saturating_mul(1_000));
    let request = LoadRequest { model: wish.model.clone(), pin: wish.pin, keep_alive_ms };
    let events = client.events(client.load(request).await?);
    Ok(follow(client, events, wish.model, wish.stream.unwrap_or(false)).await?)
}

/// Takes a model out of memory, once its running work is done.
async fn unload(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Model>, HttpError> {
    let wish: UnloadWish = Members::read(&body, UNLOAD)?.part()?;
    let client = bridge.daemon.client().await?;
    client.unload(&wish.model).await?;
    Ok(Json(find(&client, &wish.model).await?))
}

/// Fetches a model from the hub.
async fn pull(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    let wish: PullWish = Members::read(&body, PULL)?.part()?;
    let client = bridge.daemon.client().await?;
    let name = wish.name.clone().unwrap_or_else(|| wish.model.clone());
    let request = PullRequest { repo: wish.model, revision: wish.revision, name: wish.name };
    let named = |error: Error| match error.param.as_deref() {
        Some("repo") => error.param("model"),
        _ => error,
    };
    let events = client.events(client.pull(request).await.map_err(named)?);
    let events = events.map(move |event| event.map_err(named));
    Ok(follow(client, events, name, wish.stream.unwrap_or(true)).await?)
}

/// Answers with the model once the work is done, or with lines until then.
async fn follow<E>(client: Client, mut events: E, model: String, streams: bool) -> Result<Response, Error>
where
    E: Stream<Item = Result<Event, Error>> + Send + Unpin + 'static,
{
    if streams {
        return Ok(respond(lines(client, events, model, request_id::current())));
    }
    while let Some(event) = events.next().await {
        event?;
    }
    Ok(Json(find(&client, &model).await?).into_response())
}

fn lines<E>(
    client: Client,
    events: E,
    model: String,
    request_id: Option<String>,
) -> impl Stream<Item = Bytes> + Send + 'static
where
    E: Stream<Item = Result<Event, Error>> + Send + Unpin + 'static,
{
    let failed = move |error: &Error| bytes(&error::body(error, request_id.clone()));
    let rest = stream::unfold(Some((client, events, model, failed)), |state| async move {
        let (client, mut events, model, failed) = state?;
        let ended = || Error::internal("The daemon's events ended without saying how.");
        let (line, goes_on) = match events.next().await {
            Some(Ok(Event::Progress(progress))) => (bytes(&Line::from(progress)), true),
            Some(Ok(Event::Finished(_))) => match find(&client, &model).await {
                Ok(found) => (bytes(&Line::success(found)), false),
                Err(error) => (failed(&error), false),
            },
            // Neither a load nor a pull says anything else.
            Some(Ok(_)) => (Bytes::new(), true),
            Some(Err(error)) => (failed(&error), false),
            None => (failed(&ended()), false),
        };
        Some((line, goes_on.then_some((client, events, model, failed))))
    });
    rest.filter(|line| std::future::ready(!line.is_empty()))
}

async fn find(client: &Client, name: &str) -> Result<Model, Error> {
    let card = client.models().await?.into_iter().find(|card| card.name == name);
    card.map(Model::from).ok_or_else(|| {
        Error::new(ErrorKind::ModelNotFound, format!("there is no model {name:?}"))
            .hint("GET /api/models lists the models.")
            .param("model")
    })
}

impl Line {
    fn success(model: Model) -> Self {
        let subject = model.id.clone();
        Self { status: "success", subject, completed: None, total: None, unit: None, model: Some(model) }
    }
}

/// How a stage is called, in lines and in messages.
pub fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Queued => "queued",
        Stage::Downloading => "downloading",
        Stage::Verifying => "verifying",
        Stage::Loading => "loading",
        Stage::Prefilling => "prefilling",
        Stage::Importing => "importing",
    }
}

/// How a unit is called.
pub fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Files => "files",
        Unit::Tokens => "tokens",
        Unit::Steps => "steps",
    }
}

impl From<Progress> for Line {
    fn from(progress: Progress) -> Self {
        let known = progress.total.is_some();
        Self {
            status: stage(progress.stage),
            subject: progress.subject,
            completed: known.then_some(progress.done),
            total: progress.total,
            unit: known.then_some(unit(progress.unit)),
            model: None,
        }
    }
}

impl From<ModelCard> for Model {
    fn from(card: ModelCard) -> Self {
        let facts = card.facts;
        let can = facts.capabilities;
        let abilities = [
            (Ability::Completion, can.generates()),
            (Ability::Chat, can.chat),
            (Ability::Tools, can.tools),
            (Ability::Reasoning, can.reasoning),
            (Ability::Embedding, can.embed),
            (Ability::Rerank, can.rerank),
        ];
        let (source, repo, revision) = match card.source {
            Source::Bundled => (Origin::Bundled, None, None),
            Source::Local => (Origin::Local, None, None),
            Source::Hub { repo, revision } => (Origin::Hub, Some(repo), Some(revision)),
        };
        let (state, error, loaded) = match card.state {
            ModelState::Available => (Life::Available, None, None),
            ModelState::Loading => (Life::Loading, None, None),
            ModelState::Loaded(residence) => (Life::Loaded, None, Some(residence.into())),
            ModelState::Unloading => (Life::Unloading, None, None),
            ModelState::Failed(error) => (Life::Failed, Some(error.message), None),
        };
        Self {
            id: card.name,
            object: "model",
            created: card.created_unix_s,
            source,
            repo,
            revision,
            path: card.path,
            architecture: facts.architecture,
            parameters: facts.parameters,
            weights: facts.weights,
            weights_bytes: facts.weights_bytes,
            context_length: facts.context_length,
            dimensions: facts.dimensions,
            capabilities: abilities.into_iter().filter(|(_, can)| *can).map(|(ability, _)| ability).collect(),
            state,
            pinned: card.pinned,
            error,
            loaded,
        }
    }
}

impl From<Residence> for Loaded {
    fn from(residence: Residence) -> Self {
        Self {
            pid: residence.pid,
            device: residence.device,
            memory_bytes: residence.memory_bytes,
            accounted_bytes: residence.accounted_bytes,
            kv_bytes: residence.kv_bytes,
            load_ms: residence.load_ms,
            expires_in_ms: residence.expires_in_ms,
            running: residence.running,
            waiting: residence.waiting,
            blocks_used: residence.blocks_used,
            blocks_total: residence.blocks_total,
        }
    }
}
