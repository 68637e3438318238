//! `/infill`: what belongs between two texts, as editors ask llama-server for it. Which tokens mark the gap is `crate::infill`'s.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use protocol::Error;
use protocol::generation::Prompt;
use protocol::text::Special;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::answer::{Piece, Whole};
use super::completion::{self, Asking, Own, request, respond};
use super::prompt::read_as;
use crate::app::Bridge;
use crate::body::Members;
use crate::error::HttpError;
use crate::infill::Infill;
use crate::openai::labels::Labels;
use crate::openai::request::{SHARED, Shared, in_our_words};
use crate::openapi::{EVENTS, Operation, part};

const KNOWN: &[&[&str]] =
    &[SHARED, completion::OWN, &["input_prefix", "input_suffix", "input_extra", "prompt"], PATIENCE];

/// How much of it there may be, and how long: hints of editors, of which the answer does not depend.
const PATIENCE: &[&str] = &["t_max_prompt_ms"];

/// The texts around a gap.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LlamaGap)]
pub struct Gap {
    input_prefix: Option<String>,
    input_suffix: Option<String>,
    /// Other files, which come before all else.
    input_extra: Option<Vec<Extra>>,
    /// How what is to be written begins.
    prompt: Option<String>,
}

/// A file.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LlamaFile)]
struct Extra {
    filename: Option<String>,
    text: String,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Fill a gap between two texts")
        .more("For models with tokens that mark a gap.")
        .takes(
            "LlamaInfillRequest",
            KNOWN,
            [part::<Shared>(), part::<Own>(), part::<Gap>(), part::<Labels>()],
            json!({ "input_prefix": "fn add(a: u8, b: u8) -> u8 {\n", "input_suffix": "\n}", "n_predict": 16 }),
        )
        .gives::<Whole>("What belongs there, whole, or in pieces where `stream` is true.")
        .streams::<Piece>(EVENTS)
}

/// Fills a gap, whole or streamed.
pub async fn fill(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    answer(&bridge, body).await.map_err(|error| in_our_words(error).into())
}

/// Reads what a body asks for: the settings, and the texts around the gap.
pub fn read(body: &Bytes) -> Result<(Shared, Own, Gap), Error> {
    let members = Members::read(body, KNOWN)?;
    Labels::check(&members)?;
    Ok((members.part()?, members.part()?, members.part()?))
}

async fn answer(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let (shared, own, gap) = read(&body)?;
    // Nothing of it is held while a model answers.
    drop(body);
    let request = request(&shared, &own, 1)?;
    let client = bridge.daemon.client().await?;
    let model = shared.model.clone();
    let (before, after, begun) = gap.texts();
    let text = before.clone();
    let mut prompt = Infill::of(&client, model.clone()).await?.prompt(before, after).await?;
    if let (Prompt::Tokens(tokens), false) = (&mut prompt, begun.is_empty()) {
        tokens.extend(read_as(&client, model.as_deref(), begun, Special::Plain).await?);
    }
    respond(client, Asking { shared, own, texts: vec![text], listed: false }, request, vec![prompt]).await
}

impl Gap {
    /// Returns what stands before the gap, what after it, and how what belongs there begins.
    fn texts(self) -> (String, String, String) {
        let mut before = String::new();
        for Extra { filename, text } in self.input_extra.into_iter().flatten() {
            if let Some(name) = filename {
                before.push_str(&format!("--- {name}\n"));
            }
            before.push_str(&text);
            before.push('\n');
        }
        before.push_str(&self.input_prefix.unwrap_or_default());
        (before, self.input_suffix.unwrap_or_default(), self.prompt.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_come_first_under_their_names() {
        let gap = json!({"input_prefix": "a", "input_suffix": "b", "prompt": "c",
                         "input_extra": [{"filename": "x.h", "text": "1"}, {"text": "2"}]});
        let gap: Gap = serde_json::from_value(gap).unwrap();
        assert_eq!(gap.texts(), ("--- x.h\n1\n2\na".into(), "b".into(), "c".into()));
        assert!(serde_json::from_value::<Gap>(json!({"input_extra": [{"filename": "x.h"}]})).is_err());
    }
}
