//! The OpenAI dialect: its requests become `GenerateRequest`s, its responses are made from events.
//!
//! `request`, `labels` and `response` hold the words; `chat`, `completions`, `responses`, `embeddings`, `files`, `batches`,
//! `sessions`, `models` and `tokens` are the endpoints; `chunks` streams an answer, `prompts` joins several and `list` pages what
//! is kept. Nothing outside this folder knows these shapes.
//!
//! What clients may rely on: a limit of tokens beyond the context is cut to what the context leaves, because coding agents
//! ask for 32,000 and more of any model; a prompt is never cut.

use crate::openapi::{Operation, Routes};
use crate::{rerank, score};

pub mod batches;
pub mod chat;
pub mod chunks;
pub mod completions;
mod effort;
pub mod embeddings;
pub mod files;
pub mod labels;
mod list;
pub mod models;
pub mod prompts;
pub mod request;
pub mod response;
pub mod responses;
pub mod sessions;
mod shape;
pub mod tokens;

/// Returns the routes of this dialect, relative to `/v1`.
pub fn routes() -> Routes {
    answering()
        .merge(models::routes())
        .merge(responses::routes())
        .merge(chat::stored::routes())
        .merge(files::routes())
        .merge(batches::routes())
        .merge(tokens::routes())
        .merge(rerank::routes())
        .merge(score::routes())
}

/// Returns the routes that clients ask whose base URL ends before `/v1`, as it may with llama-server and mlx-lm.
pub fn at_root() -> Routes {
    answering().get("/models", models::list, Operation::new("")).post(
        "/responses",
        responses::create,
        Operation::new(""),
    )
}

fn answering() -> Routes {
    Routes::new("OpenAI")
        .post("/chat/completions", chat::complete, chat::operation())
        .post("/completions", completions::complete, completions::operation())
        .post("/embeddings", embeddings::create, embeddings::operation())
}
