//! `/v1/embeddings`: texts become vectors.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::encode::{EmbedRequest, Input, Overlong};
use protocol::generation::Usage;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::labels::Labels;
use super::request::{Urgency, in_our_words};
use crate::app::Bridge;
use crate::base64;
use crate::begin::left_ms;
use crate::body::Members;
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{Operation, part};
use crate::whole::{DEADLINE_MS, dimensions, said_cut};

/// `truncate` is what other servers call the permission to leave a text's end out.
const MEMBERS: &[&str] = &["model", "input", "encoding_format", "dimensions", "user", "truncate", "priority"];

#[derive(Debug, Deserialize, ToSchema)]
struct Body {
    model: Option<String>,
    input: Inputs,
    encoding_format: Option<Format>,
    dimensions: Option<u32>,
    truncate: Option<bool>,
    priority: Option<Urgency>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EmbeddingInput)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of token ids, or an array of such arrays"
)]
enum Inputs {
    Text(String),
    Tokens(Vec<u32>),
    Many(Vec<One>),
}

/// A text, or the tokens of one.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = EmbeddingText)]
#[serde(untagged)]
enum One {
    Text(String),
    Tokens(Vec<u32>),
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[schema(as = EncodingFormat)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A list of numbers.
    #[default]
    Float,
    /// Their bytes, the least first.
    Base64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Embeddings {
    /// As vLLM gives one.
    id: String,
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Counts,
}

#[derive(Debug, Serialize, ToSchema)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

/// A vector, as the client wants it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Vector)]
#[serde(untagged)]
enum Numbers {
    Float(Vec<f32>),
    Base64(String),
}

/// Token counts of requests that generate nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PromptUsage)]
pub struct Counts {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self { prompt_tokens: usage.prompt_tokens, total_tokens: usage.prompt_tokens }
    }
}

impl From<Inputs> for Vec<Input> {
    fn from(inputs: Inputs) -> Self {
        match inputs {
            Inputs::Text(text) => vec![Input::Text(text)],
            Inputs::Tokens(tokens) => vec![Input::Tokens(tokens)],
            Inputs::Many(all) => all
                .into_iter()
                .map(|one| match one {
                    One::Text(text) => Input::Text(text),
                    One::Tokens(tokens) => Input::Tokens(tokens),
                })
                .collect(),
        }
    }
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Turn texts into vectors")
        .more("Vectors have length 1, shortened ones too. Without `truncate` a text that does not fit is refused.")
        .takes(
            "EmbeddingRequest",
            &[MEMBERS],
            [part::<Body>(), part::<Labels>()],
            json!({
                "model": "impetus-nano-embed", "input": ["a text", "another one"]
            }),
        )
        .gives::<Embeddings>("One vector a text.")
}

/// Turns texts into vectors.
pub async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    answer(&bridge, body).await.map_err(|error| in_our_words(error).into())
}

/// Reads what a body asks for, and how it wants its vectors.
pub fn read(body: &Bytes) -> Result<(EmbedRequest, Format), Error> {
    let members = Members::read(body, &[MEMBERS])?;
    Labels::check(&members)?;
    let own: Body = members.part()?;
    let format = own.encoding_format.unwrap_or_default();
    let request = EmbedRequest {
        model: own.model,
        inputs: own.input.into(),
        dimensions: dimensions(own.dimensions)?,
        overlong: if own.truncate.unwrap_or(false) { Overlong::Cut } else { Overlong::Refuse },
        tokens_max: None,
        priority: own.priority.unwrap_or_default().into(),
        deadline_ms: left_ms().or(Some(DEADLINE_MS)),
    };
    Ok((request, format))
}

/// Answers the request of `body`.
pub async fn answer(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let (request, format) = read(&body)?;
    // Nothing of it is held while a model answers.
    drop(body);
    let answer = bridge.daemon.client().await?.embeddings(request).await?;
    let embedding = |(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: match format {
            Format::Float => Numbers::Float(vector),
            Format::Base64 => {
                let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
                Numbers::Base64(base64::encode(&bytes))
            }
        },
    };
    let answered = Embeddings {
        id: new_id("embd-"),
        object: "list",
        data: answer.vectors.into_iter().enumerate().map(embedding).collect(),
        model: answer.model,
        usage: answer.finished.usage.into(),
    };
    Ok(said_cut(Json(answered).into_response(), &answer.cut))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(input: Value) -> Result<Vec<Input>, Error> {
        let body = Bytes::from(json!({ "input": input }).to_string());
        let body: Body = Members::read(&body, &[MEMBERS])?.part()?;
        Ok(body.input.into())
    }

    #[test]
    fn input_has_many_forms() {
        let text = |text: &str| Input::Text(text.to_owned());
        assert_eq!(read(json!("a")).unwrap(), [text("a")]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), [text("a"), text("b")]);
        assert_eq!(read(json!([1, 2])).unwrap(), [Input::Tokens(vec![1, 2])]);
        assert_eq!(read(json!([[1], [2, 3]])).unwrap(), [Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]);
        assert_eq!(read(json!(["a", [2, 3]])).unwrap(), [text("a"), Input::Tokens(vec![2, 3])]);
        for wrong in [json!(5), json!({"a": 1}), json!(["a", 1]), json!([-1])] {
            let error = read(wrong).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("input"), "{}", error.message);
        }
    }
}
