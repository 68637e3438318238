//! The Ollama dialect: chat and generation as lines of JSON, and the models beside them.
//!
//! `chat`, `generate` and `embed` are the endpoints that answer, `models` and `pull` those that keep models; `request` holds what
//! requests share, `lines` shapes and streams answers, `error` is how refusals look. Nothing
//! outside this folder knows these shapes.
//!
//! What clients may rely on: a name may end in `:latest`; `num_predict` beyond the context is cut to what the context
//! leaves; `keep_alive` holds for the model until a request says otherwise, and is only read where the key is no
//! administrator's, since models are everybody's; what an option asks of the machine is a label, and any other that would
//! have no effect is refused by name.

use axum::routing::any;

use crate::openapi::Routes;

pub mod chat;
mod context;
pub mod embed;
pub mod error;
pub mod generate;
pub mod lines;
pub mod models;
pub mod pull;
pub mod request;

/// Returns the routes of this dialect.
pub fn routes() -> Routes {
    let routes = Routes::new("Ollama")
        .post("/api/chat", chat::chat, chat::operation())
        .post("/api/generate", generate::generate, generate::operation())
        .merge(embed::routes())
        .merge(models::routes())
        .post("/api/pull", pull::pull, pull::operation());
    let absent = ["/api/create", "/api/copy", "/api/push", "/api/blobs/{digest}"];
    absent.into_iter().fold(routes, |routes, path| routes.unlisted(path, any(models::absent)))
}
