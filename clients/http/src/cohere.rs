//! `/v2/embed`, as Cohere's clients know it: texts become vectors, in as many forms as are asked for. It puts nothing before
//! a text, whatever the vectors are for. `app` takes its routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::encode::{EmbedRequest, Input, Overlong};
use protocol::generation::Priority;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::app::Bridge;
use crate::base64;
use crate::body::Members;
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{Operation, Routes, part};
use crate::whole::{DEADLINE_MS, dimensions, said_cut};

const MEMBERS: &[&str] =
    &["model", "texts", "input_type", "embedding_types", "output_dimension", "truncate", "max_tokens", "priority"];

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CohereEmbedBody)]
struct Body {
    model: Option<String>,
    texts: Vec<String>,
    /// What the vectors are for. What a model wants before a text is the caller's to write, so it changes none.
    input_type: Option<String>,
    embedding_types: Option<BTreeSet<Form>>,
    output_dimension: Option<u32>,
    truncate: Option<Truncate>,
    /// How many tokens make a text too long.
    max_tokens: Option<u32>,
    /// Cohere's clients send 0.
    priority: Option<u16>,
}

/// A form of a vector.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(as = CohereEmbeddingType)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A list of numbers.
    Float,
    /// Their bytes.
    Base64,
    /// A bit a number, whether it is above 0; eight to a signed byte.
    Binary,
    /// The same in bytes without a sign.
    Ubinary,
}

/// What becomes of a text that is too long; it is refused unless its end may be left out.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = CohereTruncate)]
#[serde(rename_all = "UPPERCASE")]
enum Truncate {
    None,
    End,
}

/// What `input_type` may be.
const PURPOSES: &[&str] = &["search_document", "search_query", "classification", "clustering"];

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereEmbeddings)]
struct Answered {
    id: String,
    embeddings: Forms,
    texts: Vec<String>,
    meta: Meta,
    response_type: &'static str,
}

#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = CohereForms)]
struct Forms {
    #[serde(skip_serializing_if = "Option::is_none")]
    float: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubinary: Option<Vec<Vec<u8>>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereMeta)]
struct Meta {
    api_version: ApiVersion,
    billed_units: Units,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereApiVersion)]
struct ApiVersion {
    version: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereUnits)]
struct Units {
    input_tokens: u32,
    image_tokens: u32,
}

/// Returns the routes of this module, relative to `/v2`.
pub fn routes() -> Routes {
    let embed = Operation::new("Turn texts into vectors, in Cohere's words")
        .more("A text that does not fit is refused unless `truncate` is END, whatever its default is elsewhere.")
        .takes(
            "CohereEmbedRequest",
            &[MEMBERS],
            [part::<Body>()],
            json!({
                "model": "impetus-nano-embed", "texts": ["a text"], "embedding_types": ["float"]
            }),
        )
        .gives::<Answered>("One vector a text, in each form that was asked for.");
    Routes::new("Cohere").post("/embed", create, embed)
}

/// Reads what a body asks for: the request, its texts, and the forms of their vectors.
pub fn read(body: &Bytes) -> Result<(EmbedRequest, Vec<String>, BTreeSet<Form>), Error> {
    let own: Body = Members::read(body, &[MEMBERS])?.part()?;
    if let Some(purpose) = own.input_type.as_deref().filter(|purpose| !PURPOSES.contains(purpose)) {
        let message = format!("Unsupported input_type '{purpose}': it is one of {}.", PURPOSES.join(", "));
        return Err(Error::invalid("input_type", message));
    }
    if own.priority.is_some_and(|priority| priority > 0) {
        return Err(Error::unsupported("priority", "'priority' can only be 0 here."));
    }
    let request = EmbedRequest {
        model: own.model,
        inputs: own.texts.iter().cloned().map(Input::Text).collect(),
        dimensions: dimensions(own.output_dimension).map_err(|error| error.param("output_dimension"))?,
        overlong: if matches!(own.truncate, Some(Truncate::End)) { Overlong::Cut } else { Overlong::Refuse },
        tokens_max: own.max_tokens,
        priority: Priority::Normal,
        deadline_ms: Some(DEADLINE_MS),
    };
    let forms = own.embedding_types.filter(|forms| !forms.is_empty()).unwrap_or_else(|| [Form::Float].into());
    Ok((request, own.texts, forms))
}

/// Turns texts into vectors.
async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    let (request, texts, forms) = read(&body)?;
    // Nothing of it is held while a model answers.
    drop(body);
    let answer = bridge.daemon.client().await?.embeddings(request).await.map_err(named)?;
    let answered = Answered {
        id: new_id("embd-"),
        embeddings: Forms::of(answer.vectors, &forms),
        texts,
        meta: Meta {
            api_version: ApiVersion { version: "2" },
            billed_units: Units { input_tokens: answer.finished.usage.prompt_tokens, image_tokens: 0 },
        },
        response_type: "embeddings_by_type",
    };
    Ok(said_cut(Json(answered).into_response(), &answer.cut))
}

/// Returns the daemon's refusal with the field at fault under this dialect's name.
fn named(error: Error) -> Error {
    match error.param.as_deref() {
        Some("inputs") => error.param("texts"),
        Some("dimensions") => error.param("output_dimension"),
        _ => error,
    }
}

impl Forms {
    fn of(vectors: Vec<Vec<f32>>, forms: &BTreeSet<Form>) -> Self {
        let wanted = |form| forms.contains(&form);
        let bytes = |vector: &Vec<f32>| vector.iter().copied().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
        // The middle of what a byte holds is taken from each, so that it has a sign.
        let signed = |byte: u8| (byte ^ 0x80).cast_signed();
        Self {
            base64: wanted(Form::Base64).then(|| vectors.iter().map(|vector| base64::encode(&bytes(vector))).collect()),
            binary: wanted(Form::Binary)
                .then(|| vectors.iter().map(|vector| bits(vector).into_iter().map(signed).collect()).collect()),
            ubinary: wanted(Form::Ubinary).then(|| vectors.iter().map(|vector| bits(vector)).collect()),
            float: wanted(Form::Float).then_some(vectors),
        }
    }
}

/// Whether each number is above 0, eight to a byte, the first in its highest bit.
fn bits(vector: &[f32]) -> Vec<u8> {
    let byte =
        |eight: &[f32]| eight.iter().enumerate().fold(0, |byte, (at, n)| byte | (u8::from(*n > 0.0) << (7 - at)));
    vector.chunks(8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_vector_comes_in_every_form_that_is_asked_for() {
        let vector = vec![0.5, -0.5, 0.5, 0.0, 0.1, 0.1, 0.1, 0.1, 0.5];
        let all = Forms::of(vec![vector.clone()], &[Form::Float, Form::Base64, Form::Binary, Form::Ubinary].into());
        assert_eq!(all.ubinary.unwrap(), [[0b1010_1111, 0b1000_0000]]);
        assert_eq!(all.binary.unwrap(), [[0b1010_1111_u8 as i16 - 128, 0].map(|byte| byte as i8)]);
        assert!(all.base64.unwrap()[0].starts_with("AAAAP") && all.float.unwrap() == [vector]);
        let one = serde_json::to_value(Forms::of(vec![vec![1.0]], &[Form::Float].into())).unwrap();
        assert_eq!(one, json!({"float": [[1.0]]}));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let read = |more: Value| {
            let mut body = json!({"texts": ["a"]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(&Bytes::from(body.to_string()))
        };
        let (request, texts, forms) = read(json!({"input_type": "search_query", "truncate": "END"})).unwrap();
        assert_eq!((request.overlong, texts, forms), (Overlong::Cut, vec!["a".to_owned()], [Form::Float].into()));
        assert_eq!(read(json!({})).unwrap().0.overlong, Overlong::Refuse);
        for (name, value) in [
            ("input_type", json!("poem")),
            ("truncate", json!("START")),
            ("priority", json!(1)),
            ("output_dimension", json!(0)),
            ("images", json!(["data:"])),
        ] {
            assert_eq!(read(json!({ name: value })).unwrap_err().param.as_deref(), Some(name));
        }
        assert!(read(json!({"embedding_types": ["int4"]})).is_err());
    }
}
