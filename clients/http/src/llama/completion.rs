//! `/completion`: raw prompts in llama-server's own words, whole or streamed. No template is put around them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::client::Client;
use protocol::generation::{GenerateRequest, Prompt, Started};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answer::{Manner, Piece, Pieces, Whole};
use super::prompt::{self, Given};
use crate::answer::gather;
use crate::app::Bridge;
use crate::body::{Members, accept_only};
use crate::error::HttpError;
use crate::frames::frames;
use crate::openai::labels::Labels;
use crate::openai::prompts;
use crate::openai::request::{SHARED, Shared, in_our_words, naming_shape};
use crate::openapi::{EVENTS, Operation, part};
use crate::sampling::alternatives;
use crate::{error, request_id, sse};

/// The members of a request.
pub const KNOWN: &[&[&str]] = &[SHARED, OWN, &["prompt"]];

/// The members that this dialect adds to OpenAI's.
pub const OWN: &[&str] = &[
    "n_probs",
    "return_tokens",
    "response_fields",
    "post_sampling_probs",
    "n_keep",
    "n_indent",
    "min_keep",
    "t_max_predict_ms",
    "dynatemp_range",
    "dynatemp_exponent",
];

/// How long an answer may take, in milliseconds.
const DEADLINE_MS: u64 = 10 * 60_000;

/// The most answers to all prompts together.
const CHOICES_MAX: usize = 128;

/// The members that this dialect adds to OpenAI's.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LlamaOwn)]
pub struct Own {
    /// With how many alternatives each token comes, if not 0.
    #[serde(default, deserialize_with = "alternatives")]
    #[schema(maximum = 20)]
    n_probs: Option<u8>,
    /// Whether a whole answer comes with its tokens.
    return_tokens: Option<bool>,
    /// Which members a whole answer has; one inside another is named by both, with a slash between.
    response_fields: Option<Vec<String>>,
    /// Only false: probabilities are those before any filter.
    post_sampling_probs: Option<Value>,
    /// No prompt is cut, so nothing of it need be kept.
    #[serde(rename = "n_keep")]
    _keep: Option<i64>,
    /// Only 0, as the next four.
    n_indent: Option<Value>,
    min_keep: Option<Value>,
    t_max_predict_ms: Option<Value>,
    dynatemp_range: Option<Value>,
    /// It has an effect where the range is not 0.
    #[serde(rename = "dynatemp_exponent")]
    _exponent: Option<f32>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LlamaPrompt)]
struct Asked {
    /// A text, token ids and texts in a list, an object with a text as `prompt_string`, or a list of these.
    prompt: Value,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Continue a text, in llama-server's words")
        .more("A list of prompts is answered with a list. A stream ends with a piece whose `stop` is true.")
        .takes(
            "LlamaCompletionRequest",
            KNOWN,
            [part::<Shared>(), part::<Own>(), part::<Asked>(), part::<Labels>()],
            json!({ "prompt": "Impetus is", "n_predict": 16, "temperature": 0 }),
        )
        .gives::<Whole>("The answer, whole, or in pieces where `stream` is true.")
        .streams::<Piece>(EVENTS)
}

/// Continues a prompt, whole or streamed.
pub async fn complete(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    answer(&bridge, body).await.map_err(|error| in_our_words(error).into())
}

/// Reads what a body asks for: the settings, the prompts, and whether they came as a list.
pub fn read(body: &Bytes) -> Result<(Shared, Own, Vec<Given>, bool), Error> {
    let members = Members::read(body, KNOWN)?;
    Labels::check(&members)?;
    let (given, listed) = prompt::read(&members.part::<Asked>()?.prompt)?;
    Ok((members.part()?, members.part()?, given, listed))
}

async fn answer(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let (shared, own, given, listed) = read(&body)?;
    // Nothing of it is held while a model answers.
    drop(body);
    let request = request(&shared, &own, given.len())?;
    let client = bridge.daemon.client().await?;
    let texts = given.iter().map(|given| given.text().to_owned()).collect();
    let mut prompts = Vec::with_capacity(given.len());
    for given in given {
        prompts.push(Given::prompt(given, &client, shared.model.as_deref()).await?);
    }
    respond(client, Asking { shared, own, texts, listed }, request, prompts).await
}

/// What a request says of how it is answered.
pub struct Asking {
    /// What it shares with OpenAI's.
    pub shared: Shared,
    /// What only this dialect has.
    pub own: Own,
    /// The prompts as they were sent.
    pub texts: Vec<String>,
    /// Whether they came as a list.
    pub listed: bool,
}

/// Returns the request for one of so many prompts.
pub fn request(shared: &Shared, own: &Own, prompts: usize) -> Result<GenerateRequest, Error> {
    for (name, value) in [
        ("n_indent", &own.n_indent),
        ("min_keep", &own.min_keep),
        ("t_max_predict_ms", &own.t_max_predict_ms),
        ("dynatemp_range", &own.dynatemp_range),
    ] {
        accept_only(name, value.as_ref(), &[json!(0), json!(0.0)])?;
    }
    accept_only("post_sampling_probs", own.post_sampling_probs.as_ref(), &[json!(false)])?;
    if prompts.saturating_mul(usize::from(shared.choices())) > CHOICES_MAX {
        return Err(Error::invalid("prompt", format!("One request has at most {CHOICES_MAX} answers.")));
    }
    Ok(GenerateRequest {
        sampling: shared.sampling()?,
        stop: shared.stop(None)?,
        // Its tokens are told by their ids, which come with how likely they were.
        logprobs: Some(own.n_probs.unwrap_or(0)),
        choices: shared.choices(),
        priority: shared.priority()?,
        constraint: shared.constraint()?,
        deadline_ms: Some(DEADLINE_MS),
        ..GenerateRequest::new(shared.model.clone(), Prompt::Tokens(Vec::new()))
    })
}

/// Answers prompts as `asking` wants it.
pub async fn respond(
    client: Client,
    asking: Asking,
    request: GenerateRequest,
    prompts: Vec<Prompt>,
) -> Result<Response, Error> {
    let Asking { shared, own, texts, listed } = asking;
    let streaming = shared.streaming()?.is_some();
    let manner = Manner {
        prompts: texts,
        choices: request.choices,
        likely: own.n_probs.is_some_and(|count| count > 0),
        tokens: own.return_tokens.unwrap_or(false),
        fields: own.response_fields.filter(|_| !streaming).unwrap_or_default(),
        settings: Manner::settings(&request),
    };
    let choices = u16::try_from(prompts.len()).unwrap_or(u16::MAX).saturating_mul(request.choices);
    let listed = listed || request.choices > 1;
    let requests = prompts.into_iter().map(|prompt| GenerateRequest { prompt, ..request.clone() }).collect();
    let shape = shared.shape_name();
    // On the heap: it is long, and lives in the futures of all who wait for it.
    let begin =
        Box::pin(async move { prompts::generate(&client, requests).await.map_err(|error| naming_shape(error, shape)) });
    if streaming {
        let late = request_id::current();
        let begin = async move {
            let (started, events) = begin.await?;
            let pieces = Pieces::new(manner, started, choices);
            Ok(frames(Bytes::new(), events, pieces))
        };
        return sse::begun(sse::heartbeat(), begin, |error| sse::data(&error::body(&in_our_words(error), late))).await;
    }
    let (started, events): (Started, _) = begin.await?;
    let mut whole = manner.whole(&started, gather(events, choices).await?, false);
    Ok(match whole.pop() {
        Some(only) if !listed && whole.is_empty() => Json(only).into_response(),
        last => {
            whole.extend(last);
            Json(whole).into_response()
        }
    })
}
