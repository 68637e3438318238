//! `/api/embed`, and `/api/embeddings`, its older form for one text.
//!
//! Vectors have length 1 in both. A text that is too long is refused unless `truncate` is true: what Ollama does without
//! being asked, Impetus does only when it is; `num_ctx` makes more texts too long. A lone empty text asks for no vector, as it
//! does there, and one of a list for that of what the model puts around every text.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::client::{Client, Embeddings};
use protocol::encode::{EmbedRequest, Input, Overlong};
use protocol::generation::{Priority, Prompt};
use protocol::text::{Special, TokenizeRequest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::error::OllamaError;
use super::request::{Shared, card, keep};
use crate::app::Bridge;
use crate::body::Members;
use crate::openapi::{Operation, Routes, part};
use crate::whole::{DEADLINE_MS, said_cut};

const SHARED: &[&str] = &["model", "options", "keep_alive"];
const OWN: &[&str] = &["input", "truncate", "dimensions"];
const OLDER: &[&str] = &["prompt"];

/// The members of a request, and of one in the older form.
const KNOWN: &[&[&str]] = &[SHARED, OWN];
const KNOWN_BEFORE: &[&[&str]] = &[SHARED, OLDER];

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let embed = Operation::new("Turn texts into vectors")
        .more("Vectors have length 1. Without `truncate` a text that does not fit is refused.")
        .takes(
            "OllamaEmbedRequest",
            KNOWN,
            [part::<Shared>(), part::<Own>()],
            json!({
                "model": "impetus-nano-embed", "input": ["a text", "another one"]
            }),
        )
        .gives::<Answer>("One vector a text.");
    let older = Operation::new("Turn one text into a vector, in the older form")
        .takes(
            "OllamaEmbeddingRequest",
            KNOWN_BEFORE,
            [part::<Shared>(), part::<Older>()],
            json!({
                "model": "impetus-nano-embed", "prompt": "a text"
            }),
        )
        .gives::<Single>("The vector.");
    Routes::new("Ollama").post("/api/embed", self::embed, embed).post("/api/embeddings", embeddings, older)
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaEmbedding)]
struct Single {
    /// Empty where the text is.
    embedding: Vec<f32>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Own {
    input: Texts,
    truncate: Option<bool>,
    dimensions: Option<u32>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct Older {
    prompt: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaTexts)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaEmbeddings)]
struct Answer {
    model: String,
    embeddings: Vec<Vec<f32>>,
    total_duration: u128,
    load_duration: u128,
    prompt_eval_count: u32,
}

/// Turns texts into vectors.
async fn embed(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, OllamaError> {
    let arrived = Instant::now();
    let members = Members::read(&body, KNOWN)?;
    let (own, shared): (Own, Shared) = (members.part()?, members.part()?);
    // Nothing of it is held while a model answers.
    drop((members, body));
    let texts = match own.input {
        Texts::One(text) => alone(text),
        Texts::Many(texts) => texts,
    };
    let overlong = if own.truncate.unwrap_or(false) { Overlong::Cut } else { Overlong::Refuse };
    let answer = vectors(&bridge, shared, texts, own.dimensions, overlong).await?;
    let timing = answer.finished.timing;
    let computing = u128::from(timing.queue_us + timing.prefill_us) * 1000;
    let total_duration = arrived.elapsed().as_nanos();
    let answered = Answer {
        model: answer.model,
        embeddings: answer.vectors,
        total_duration,
        load_duration: total_duration.saturating_sub(computing),
        prompt_eval_count: answer.finished.usage.prompt_tokens,
    };
    Ok(said_cut(Json(answered).into_response(), &answer.cut))
}

/// Turns one text into a vector.
async fn embeddings(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Single>, OllamaError> {
    let members = Members::read(&body, KNOWN_BEFORE)?;
    let (older, shared): (Older, Shared) = (members.part()?, members.part()?);
    drop((members, body));
    let mut answer = vectors(&bridge, shared, alone(older.prompt), None, Overlong::Refuse).await?;
    Ok(Json(Single { embedding: answer.vectors.pop().unwrap_or_default() }))
}

/// Returns a text that was not sent in a list, if it is one.
fn alone(text: String) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec![text] }
}

async fn vectors(
    bridge: &Bridge,
    mut shared: Shared,
    texts: Vec<String>,
    dimensions: Option<u32>,
    overlong: Overlong,
) -> Result<Embeddings, Error> {
    let (stay, tokens_max) = (shared.keep_alive()?, shared.context());
    let client = bridge.daemon.client().await?;
    let card = card(&client, &shared.model).await?;
    shared.only_labels()?;
    if texts.is_empty() {
        // As Ollama answers it.
        return Ok(Embeddings { model: card.name, ..Embeddings::default() });
    }
    let request = EmbedRequest {
        model: Some(card.name.clone()),
        inputs: inputs(&client, &card.name, texts).await?,
        dimensions: crate::whole::dimensions(dimensions)?,
        overlong,
        tokens_max,
        priority: Priority::Normal,
        deadline_ms: Some(DEADLINE_MS),
    };
    let answer = client.embeddings(request).await?;
    keep(&client, &card.name, stay).await?;
    Ok(answer)
}

/// Returns the texts, and for empty ones the tokens that stand around every text.
async fn inputs(client: &Client, model: &str, texts: Vec<String>) -> Result<Vec<Input>, Error> {
    let around = if texts.iter().any(String::is_empty) { nothing(client, model).await? } else { Vec::new() };
    let input = |text: String| if text.is_empty() { Input::Tokens(around.clone()) } else { Input::Text(text) };
    Ok(texts.into_iter().map(input).collect())
}

/// Returns the tokens that a text without any of its own becomes.
async fn nothing(client: &Client, model: &str) -> Result<Vec<u32>, Error> {
    let (model, prompt) = (Some(model.to_owned()), Prompt::Text(String::new()));
    Ok(client.tokenize(TokenizeRequest { model, prompt, special: Special::Begin, pieces: false }).await?.tokens)
}
