//! `/score`, as vLLM shapes it: how well two texts go together, pair by pair. A reranker judges each pair; of a model that
//! turns texts into vectors, the score is the cosine of the two. It puts nothing in order, which is
//! `rerank`'s. `app` takes its routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, stream};
use protocol::Error;
use protocol::client::Client;
use protocol::encode::{EmbedRequest, Input, Overlong, RerankRequest};
use protocol::generation::{Priority, Usage};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::app::Bridge;
use crate::body::Members;
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openai::embeddings::Counts;
use crate::openapi::{Operation, Routes, part};
use crate::time::now_s;
use crate::whole::{DEADLINE_MS, said_cut};

/// The most pairs of one request.
const PAIRS_MAX: usize = 2048;

/// How many queries are judged at once.
const AT_ONCE: usize = 8;

const MEMBERS: &[&str] = &[
    "model",
    "queries",
    "documents",
    "truncate",
    // Other names of the two.
    "items",
    "text_1",
    "text_2",
    "data_1",
    "data_2",
];

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ScoreBody)]
struct Body {
    model: Option<String>,
    #[serde(alias = "text_1", alias = "data_1")]
    queries: Texts,
    #[serde(alias = "text_2", alias = "data_2", alias = "items")]
    documents: Texts,
    truncate: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ScoreTexts)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Scores)]
struct Scored {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    data: Vec<Score>,
    usage: Counts,
}

#[derive(Debug, Serialize, ToSchema)]
struct Score {
    index: usize,
    object: &'static str,
    score: f32,
}

/// Returns the routes of this module, relative to wherever they are to be found.
pub fn routes() -> Routes {
    let score = Operation::new("Score pairs of texts")
        .more(
            "One query is paired with every document, or as many queries each with the document at its place. \
             Of an embedder, scores are cosines.",
        )
        .takes("ScoreRequest", &[MEMBERS], [part::<Body>()], json!({
            "model": "impetus-nano-embed", "queries": "What is a cat?", "documents": ["A pet that purrs.", "A tool."]
        }))
        .gives::<Scored>("A score a pair, in their order.");
    Routes::new("Score").post("/score", create, score)
}

/// What a body asks for.
#[derive(Debug, PartialEq)]
pub struct Asked {
    model: Option<String>,
    queries: Vec<String>,
    /// As many, but where there is one query, which goes with all.
    documents: Vec<String>,
    overlong: Overlong,
}

/// Reads what a body asks for.
pub fn read(body: &Bytes) -> Result<Asked, Error> {
    let own: Body = Members::read(body, &[MEMBERS])?.part()?;
    let (queries, documents): (Vec<String>, Vec<String>) = (own.queries.into(), own.documents.into());
    let fault = |name: &str, message: String| Err(Error::invalid(name, message));
    match (queries.len(), documents.len()) {
        (0, _) => fault("queries", "'queries' is an empty list.".to_owned()),
        (_, 0) => fault("documents", "'documents' is an empty list.".to_owned()),
        (of, to) if of > 1 && of != to => {
            fault("documents", format!("{of} queries go with as many documents, and there are {to}."))
        }
        (_, to) if to > PAIRS_MAX => fault("documents", format!("One request has at most {PAIRS_MAX} pairs.")),
        _ => {
            let overlong = if own.truncate.unwrap_or(false) { Overlong::Cut } else { Overlong::Refuse };
            Ok(Asked { model: own.model, queries, documents, overlong })
        }
    }
}

/// Scores pairs of texts.
async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    let asked = read(&body)?;
    // Nothing of it is held while a model answers.
    drop(body);
    let client = bridge.daemon.client().await?;
    let embeds = match &asked.model {
        None => false,
        Some(name) => client.models().await?.iter().any(|card| card.name == *name && card.facts.capabilities.embed),
    };
    let Judged { model, scores, usage, cut } =
        if embeds { cosines(&client, asked).await? } else { judged(&client, asked).await? };
    let score = |(index, score)| Score { index, object: "score", score };
    let scored = Scored {
        id: new_id("score-"),
        object: "list",
        created: now_s(),
        model,
        data: scores.into_iter().enumerate().map(score).collect(),
        usage: usage.into(),
    };
    Ok(said_cut(Json(scored).into_response(), &cut))
}

/// What became of the pairs.
struct Judged {
    model: String,
    scores: Vec<f32>,
    usage: Usage,
    /// The pairs of which a text was read without its end.
    cut: Vec<u32>,
}

/// Has a reranker judge the pairs, all documents of one query together.
async fn judged(client: &Client, asked: Asked) -> Result<Judged, Error> {
    let Asked { model, queries, documents, overlong } = asked;
    let pairs = documents.len();
    let last = queries.len() - 1;
    let mut of: BTreeMap<&str, (Vec<usize>, Vec<String>)> = BTreeMap::new();
    for (at, document) in documents.into_iter().enumerate() {
        let (places, texts) = of.entry(&queries[at.min(last)]).or_default();
        places.push(at);
        texts.push(document);
    }
    let judge = |(query, (places, documents)): (&str, (Vec<usize>, Vec<String>))| {
        let request = RerankRequest {
            model: model.clone(),
            query: query.to_owned(),
            documents,
            overlong,
            priority: Priority::Normal,
            deadline_ms: Some(DEADLINE_MS),
        };
        async move { Ok::<_, Error>((places, client.scores(request).await?)) }
    };
    let answers: Vec<_> = stream::iter(of.into_iter().map(judge)).buffered(AT_ONCE).try_collect().await?;
    let mut all = Judged { model: String::new(), scores: vec![0.0; pairs], usage: Usage::default(), cut: Vec::new() };
    for (places, answer) in answers {
        all.model = answer.model;
        all.usage.prompt_tokens += answer.finished.usage.prompt_tokens;
        all.cut.extend(answer.cut.iter().filter_map(|at| u32::try_from(*places.get(*at as usize)?).ok()));
        for (place, score) in places.into_iter().zip(answer.scores) {
            all.scores[place] = score;
        }
    }
    all.cut.sort_unstable();
    Ok(all)
}

/// Takes the cosines of the vectors of each pair, which have length 1.
async fn cosines(client: &Client, asked: Asked) -> Result<Judged, Error> {
    let Asked { model, queries, documents, overlong } = asked;
    let (of, pairs) = (queries.len(), documents.len());
    let request = EmbedRequest {
        model,
        inputs: queries.into_iter().chain(documents).map(Input::Text).collect(),
        dimensions: None,
        overlong,
        tokens_max: None,
        priority: Priority::Normal,
        deadline_ms: Some(DEADLINE_MS),
    };
    let answer = client.embeddings(request).await.map_err(|error| match error.param.as_deref() {
        Some("inputs") => error.param("documents"),
        _ => error,
    })?;
    let (left, right) = answer.vectors.split_at(of);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    let scores = right.iter().enumerate().map(|(at, vector)| dot(&left[at.min(of - 1)], vector)).collect();
    let cut = |at: usize| answer.cut.contains(&(at.min(of - 1) as u32)) || answer.cut.contains(&((of + at) as u32));
    let cut = (0..pairs).filter(|at| cut(*at)).map(|at| at as u32).collect();
    Ok(Judged { model: answer.model, scores, usage: answer.finished.usage, cut })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn asked(body: Value) -> Result<Asked, Error> {
        read(&Bytes::from(body.to_string()))
    }

    #[test]
    fn texts_have_many_names_and_one_query_goes_with_all() {
        for (of, to) in [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")] {
            let read = asked(json!({of: "a", to: ["b", "c"]})).unwrap();
            assert_eq!((read.queries, read.documents), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
            assert!(asked(json!({of: ["a", "b"], to: ["c", "d"]})).is_ok());
        }
    }

    #[test]
    fn lists_that_do_not_go_together_are_refused() {
        let refused = |body: Value| asked(body).unwrap_err().param.unwrap_or_default();
        assert_eq!(refused(json!({"queries": ["a", "b"], "documents": ["c"]})), "documents");
        assert_eq!(refused(json!({"queries": [], "documents": ["c"]})), "queries");
        assert_eq!(refused(json!({"queries": "a", "documents": []})), "documents");
        assert_eq!(refused(json!({"queries": "a", "documents": vec!["b"; PAIRS_MAX + 1]})), "documents");
        assert_eq!(refused(json!({"queries": "a"})), "documents");
    }
}
