//! `/v1/rerank`, as Jina and Cohere shape it: documents in the order of how well they answer a query. Cohere's newer
//! clients ask at `/v2/rerank`, and some of other servers at `/rerank`; they mean the same. Those of text-embeddings-inference
//! send `texts`, and get a bare list.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::encode::{Overlong, RerankRequest};
use protocol::generation::Priority;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::Bridge;
use crate::body::{Members, accept_only};
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openai::embeddings::Counts;
use crate::openapi::{Operation, Routes, part};
use crate::whole::{DEADLINE_MS, said_cut};

const MEMBERS: &[&str] =
    &["model", "query", "documents", "top_n", "return_documents", "truncate", "texts", "return_text", "raw_scores"];

#[derive(Debug, Deserialize, ToSchema)]
struct Body {
    model: Option<String>,
    query: String,
    documents: Option<Vec<Document>>,
    /// What text-embeddings-inference calls the documents; the answer is in its shape then.
    texts: Option<Vec<String>>,
    return_text: Option<bool>,
    /// Only false: scores are from 0 to 1.
    raw_scores: Option<Value>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
    truncate: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = RerankDocument)]
#[serde(untagged, deny_unknown_fields, expecting = "expected a string, or an object with 'text' alone")]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Debug, Serialize, ToSchema)]
struct Ranking {
    id: String,
    object: &'static str,
    model: String,
    results: Vec<Ranked>,
    usage: Counts,
}

#[derive(Debug, Serialize, ToSchema)]
struct Ranked {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Shown>,
}

/// A document's place, as text-embeddings-inference shapes it.
#[derive(Debug, Serialize)]
struct Placed {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl From<Ranked> for Placed {
    fn from(Ranked { index, relevance_score: score, document }: Ranked) -> Self {
        Self { index, score, text: document.map(|shown| shown.text) }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RankedDocument)]
struct Shown {
    text: String,
}

impl Document {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

/// Returns the routes of this module, relative to wherever they are to be found.
pub fn routes() -> Routes {
    let rerank = Operation::new("Order documents by how well they answer a query")
        .more("Needs a cross-encoder; none is bundled. The answer to `texts` is a bare list of `index` and `score`.")
        .takes("RerankRequest", &[MEMBERS], [part::<Body>()], json!({
            "model": "BAAI/bge-reranker-base", "query": "What is a cat?", "documents": ["A pet that purrs.", "A tool."]
        }))
        .gives::<Ranking>("The documents, best first.");
    Routes::new("Rerank").post("/rerank", create, rerank)
}

/// What a body asks for.
pub struct Asked {
    request: RerankRequest,
    top_n: Option<usize>,
    /// The documents, if they are to be shown.
    shown: Vec<String>,
    /// Whether the answer is a bare list.
    listed: bool,
}

/// Reads what a body asks for.
pub fn read(body: &Bytes) -> Result<Asked, Error> {
    let own: Body = Members::read(body, &[MEMBERS])?.part()?;
    if own.top_n == Some(0) {
        return Err(Error::invalid("top_n", "'top_n' is 0; it must be at least 1."));
    }
    accept_only("raw_scores", own.raw_scores.as_ref(), &[json!(false)])?;
    let listed = own.texts.is_some();
    let documents: Vec<String> = match (own.documents, own.texts) {
        (Some(documents), None) => documents.into_iter().map(Document::text).collect(),
        (None, Some(texts)) => texts,
        _ => return Err(Error::invalid("documents", "Send the texts as 'documents', or as 'texts'.")),
    };
    let shown = if own.return_documents.or(own.return_text).unwrap_or(false) { documents.clone() } else { Vec::new() };
    let request = RerankRequest {
        model: own.model,
        query: own.query,
        documents,
        overlong: if own.truncate.unwrap_or(false) { Overlong::Cut } else { Overlong::Refuse },
        priority: Priority::Normal,
        deadline_ms: Some(DEADLINE_MS),
    };
    Ok(Asked { request, top_n: own.top_n, shown, listed })
}

/// Orders documents by how well they answer a query.
async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    let Asked { request, top_n, shown, listed } = read(&body)?;
    // Nothing of it is held while a model answers.
    drop(body);
    let answer = bridge.daemon.client().await?.scores(request).await?;
    let results = ranked(&answer.scores, top_n, &shown);
    if listed {
        let results: Vec<Placed> = results.into_iter().map(Placed::from).collect();
        return Ok(said_cut(Json(results).into_response(), &answer.cut));
    }
    let ranking = Ranking {
        id: new_id("rerank-"),
        object: "list",
        model: answer.model,
        results,
        usage: answer.finished.usage.into(),
    };
    Ok(said_cut(Json(ranking).into_response(), &answer.cut))
}

/// The best first; among equals, in the order of the request.
fn ranked(scores: &[f32], top_n: Option<usize>, documents: &[String]) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let one = |index: usize| Ranked {
        index,
        relevance_score: scores[index],
        document: documents.get(index).map(|text| Shown { text: text.clone() }),
    };
    order.into_iter().take(top_n.unwrap_or(usize::MAX)).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_equals_keep_their_order() {
        let indices = |top_n| ranked(&[0.1, 0.9, 0.1, 0.5], top_n, &[]).iter().map(|it| it.index).collect::<Vec<_>>();
        assert_eq!(indices(None), [1, 3, 0, 2]);
        assert_eq!(indices(Some(2)), [1, 3]);
        assert_eq!(indices(Some(9)), [1, 3, 0, 2]);
    }

    #[test]
    fn documents_come_back_only_when_asked_for() {
        let documents = ["a".to_owned(), "b".to_owned()];
        let with = serde_json::to_value(ranked(&[0.25, 0.5], None, &documents)).unwrap();
        assert_eq!(with[0], serde_json::json!({"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}));
        let without = serde_json::to_value(ranked(&[0.25, 0.5], None, &[])).unwrap();
        assert_eq!(without[0], serde_json::json!({"index": 1, "relevance_score": 0.5}));
    }
}
