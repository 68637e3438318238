//! The models: `/api/tags`, `/api/show`, `/api/ps`, `/api/delete`; and `/api/version`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use protocol::generation::Sampling;
use protocol::model::{ModelCard, ModelState, ModelTexts, RemoveRequest, Source};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::error::OllamaError;
use super::request::{Named, card, only_empty};
use crate::app::Bridge;
use crate::body::{Members, no_query, not_honoured};
use crate::openapi::{Operation, Routes, part};
use crate::time::{FOR_EVER, date, from_now};

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let named = json!({ "model": "impetus-nano" });
    let tags = Operation::new("List the models")
        .gives_of::<Models<Model>, Model>("OllamaModelList", "Every model, loaded or loadable.");
    let ps = Operation::new("List the models in memory")
        .gives_of::<Models<Loaded>, Loaded>("OllamaLoadedList", "What is in memory.");
    let show = Operation::new("Show a model")
        .takes("OllamaShowRequest", SHOW, [part::<Named>(), part::<ShowMore>()], named)
        .gives::<Shown>("The model.");
    let delete = Operation::new("Forget a model, and delete what was downloaded for it")
        .takes("OllamaDeleteRequest", DELETE, [part::<Named>()], json!({ "model": "Qwen/Qwen3-0.6B" }))
        .gives_nothing("It is gone.");
    let version = Operation::new("Tell which version of Ollama's API this is")
        .more("Clients of Ollama judge by it what they may ask. The version of Impetus is in `/api/health/status`.")
        .gives::<Version>("The version.");
    Routes::new("Ollama")
        .get("/api/tags", self::tags, tags)
        .get("/api/ps", self::ps, ps)
        .post("/api/show", self::show, show)
        .delete("/api/delete", self::delete, delete)
        .get("/api/version", self::version, version)
}

/// The members of a request for one model, and of one to forget it.
const SHOW: &[&[&str]] = &[&["model", "name", "verbose", "system", "template", "options"]];
const DELETE: &[&[&str]] = &[&["model", "name"]];

/// The version of Ollama whose API this is: clients refuse one that is too old for what they ask, and this is the first
/// that has all of the endpoints here.
const VERSION: &str = "0.14.0";

/// Which version of Ollama's API this is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaVersion)]
struct Version {
    version: &'static str,
}

/// How much of a digest people are shown.
const DIGEST_SHOWN: usize = 12;

/// A list of models.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaModels)]
pub struct Models<T> {
    models: Vec<T>,
}

/// One model on disk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaModel)]
pub struct Model {
    name: String,
    model: String,
    modified_at: String,
    size: u64,
    /// What changes when the model does.
    digest: String,
    details: Details,
}

/// One model in memory.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaLoaded)]
pub struct Loaded {
    name: String,
    model: String,
    size: u64,
    /// Always 0: models lie in the machine's memory.
    size_vram: u64,
    /// What changes when the model does.
    digest: String,
    details: Details,
    expires_at: String,
    context_length: u32,
}

/// What a model is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaDetails)]
pub struct Details {
    parent_model: &'static str,
    format: &'static str,
    family: String,
    families: [String; 1],
    parameter_size: String,
    quantization_level: String,
}

/// Everything of one model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaShown)]
pub struct Shown {
    modified_at: String,
    /// The same in the form that Ollama makes models of.
    modelfile: String,
    /// The defaults of the options, where the model has its own, a line each.
    parameters: String,
    /// The chat template, in the language of its folder, which is Jinja.
    template: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    details: Details,
    model_info: Map<String, Value>,
    capabilities: Vec<&'static str>,
}

/// What Ollama's own client sends besides, always.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaShowMore)]
struct ShowMore {
    /// More words about the same facts would be the same words here.
    #[expect(dead_code, reason = "only what it is is judged")]
    verbose: Option<bool>,
    system: Option<String>,
    template: Option<String>,
    options: Option<Map<String, Value>>,
}

impl ShowMore {
    fn check(&self) -> Result<(), Error> {
        only_empty("system", self.system.as_deref())?;
        only_empty("template", self.template.as_deref())?;
        match self.options.iter().flatten().next() {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("The option '{name}' has no effect here.");
                Err(not_honoured(format!("options.{name}"), message))
            }
        }
    }
}

/// Lists every model, loaded or loadable.
async fn tags(State(bridge): State<Arc<Bridge>>, uri: Uri) -> Result<Json<Models<Model>>, OllamaError> {
    no_query(&uri)?;
    let cards = bridge.daemon.client().await?.models().await?;
    Ok(Json(Models { models: cards.into_iter().map(Model::from).collect() }))
}

/// Lists the models in memory.
async fn ps(State(bridge): State<Arc<Bridge>>, uri: Uri) -> Result<Json<Models<Loaded>>, OllamaError> {
    no_query(&uri)?;
    let cards = bridge.daemon.client().await?.models().await?;
    Ok(Json(Models { models: cards.into_iter().filter_map(loaded).collect() }))
}

/// Shows one model.
async fn show(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Shown>, OllamaError> {
    let members = Members::read(&body, SHOW)?;
    members.part::<ShowMore>()?.check()?;
    let model = members.part::<Named>()?.model()?;
    let client = bridge.daemon.client().await?;
    let card = card(&client, &model).await?;
    let texts = client.texts(&card.name).await?;
    Ok(Json(shown(card, texts)))
}

/// Forgets one model, and deletes what was downloaded for it.
async fn delete(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<StatusCode, OllamaError> {
    let named = Members::read(&body, DELETE)?.part::<Named>()?.model()?;
    let client = bridge.daemon.client().await?;
    let model = card(&client, &named).await?.name;
    client.remove(RemoveRequest { model, delete_files: true }).await?;
    Ok(StatusCode::OK)
}

/// Says which version of Ollama's API this is.
async fn version(uri: Uri) -> Result<Json<Version>, OllamaError> {
    no_query(&uri)?;
    Ok(Json(Version { version: VERSION }))
}

/// Refuses what Ollama has and Impetus has not.
pub async fn absent(uri: Uri) -> OllamaError {
    let path = uri.path();
    let error = Error::new(ErrorKind::Unsupported, format!("{path} is not supported here"));
    OllamaError(error.hint("models are fetched with /api/pull, or added with impetusctl"))
}

impl From<ModelCard> for Model {
    fn from(card: ModelCard) -> Self {
        Self {
            modified_at: modified(&card),
            size: card.facts.weights_bytes,
            digest: digest(&card),
            details: details(&card),
            model: card.name.clone(),
            name: card.name,
        }
    }
}

/// Returns the commit that a model was fetched at, or a word for what its folder holds and since when. Ollama's own client
/// shows the first twelve characters of every model's, so there must be that many.
fn digest(card: &ModelCard) -> String {
    if let Source::Hub { revision, .. } = &card.source
        && revision.len() >= DIGEST_SHOWN
    {
        return revision.clone();
    }
    let mut hasher = DefaultHasher::new();
    (&card.name, card.created_unix_s, format!("{:?}", card.facts)).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn loaded(card: ModelCard) -> Option<Loaded> {
    let ModelState::Loaded(residence) = &card.state else { return None };
    let left = residence.expires_in_ms.map_or(FOR_EVER, Duration::from_millis);
    Some(Loaded {
        size: residence.memory_bytes,
        size_vram: 0,
        digest: digest(&card),
        details: details(&card),
        expires_at: from_now(left.min(FOR_EVER)),
        context_length: card.facts.context_length,
        model: card.name.clone(),
        name: card.name,
    })
}

fn shown(card: ModelCard, texts: ModelTexts) -> Shown {
    let facts = &card.facts;
    let mut info = Map::new();
    info.insert("general.architecture".to_owned(), json!(facts.architecture));
    // What editors show of a model.
    info.insert("general.basename".to_owned(), json!(card.name.rsplit('/').next().unwrap_or_default()));
    info.insert("general.parameter_count".to_owned(), json!(facts.parameters));
    info.insert(format!("{}.context_length", facts.architecture), json!(facts.context_length));
    info.insert(format!("{}.vocab_size", facts.architecture), json!(facts.vocabulary));
    if let Some(dimensions) = facts.dimensions {
        info.insert(format!("{}.embedding_length", facts.architecture), json!(dimensions));
    }
    let can = facts.capabilities;
    let capabilities = [
        ("completion", can.generates()),
        ("tools", can.tools),
        ("thinking", can.reasoning),
        ("embedding", can.embed),
        ("rerank", can.rerank),
    ];
    let ModelTexts { template, license, sampling } = texts;
    let parameters = parameters(&sampling);
    Shown {
        modified_at: modified(&card),
        modelfile: modelfile(&card.name, template.as_deref(), &parameters, license.as_deref()),
        parameters: parameters.iter().map(|(name, value)| format!("{name:<30} {value}")).collect::<Vec<_>>().join("\n"),
        template: template.unwrap_or_default(),
        license,
        details: details(&card),
        model_info: info,
        capabilities: capabilities.into_iter().filter(|(_, can)| *can).map(|(name, _)| name).collect(),
    }
}

/// Returns how answers are drawn, in Ollama's words.
fn parameters(sampling: &Sampling) -> Vec<(&'static str, String)> {
    let number = |number: Option<f32>| number.map(|number| number.to_string());
    let all = [
        ("min_p", number(sampling.min_p)),
        ("repeat_penalty", number(sampling.repetition_penalty)),
        ("temperature", number(sampling.temperature)),
        ("top_k", sampling.top_k.map(|count| count.to_string())),
        ("top_p", number(sampling.top_p)),
        ("typical_p", number(sampling.typical_p)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn modelfile(name: &str, template: Option<&str>, parameters: &[(&str, String)], license: Option<&str>) -> String {
    let mut lines = vec![format!("FROM {name}")];
    lines.extend(template.map(|template| format!("TEMPLATE \"\"\"{template}\"\"\"")));
    lines.extend(parameters.iter().map(|(name, value)| format!("PARAMETER {name} {value}")));
    lines.extend(license.map(|license| format!("LICENSE \"\"\"{license}\"\"\"")));
    lines.join("\n") + "\n"
}

fn details(card: &ModelCard) -> Details {
    let facts = &card.facts;
    Details {
        parent_model: "",
        format: "safetensors",
        family: facts.architecture.clone(),
        families: [facts.architecture.clone()],
        parameter_size: size(facts.parameters),
        quantization_level: facts.weights.clone(),
    }
}

fn modified(card: &ModelCard) -> String {
    date(Duration::from_secs(u64::try_from(card.created_unix_s).unwrap_or_default()))
}

/// Returns a count of parameters as people say it.
fn size(parameters: u64) -> String {
    let count = parameters as f64;
    match parameters {
        0..1_000_000 => format!("{:.1}K", count / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", count / 1e6),
        _ => format!("{:.1}B", count / 1e9),
    }
}
