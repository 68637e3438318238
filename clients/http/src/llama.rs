//! What llama-server's own clients ask besides OpenAI's dialect: `/completion`, `/infill` and `/props`, at the root.
//!
//! `completion` is the endpoint, `prompt` the forms a prompt may have there, `answer` what comes back; `infill` fills a gap
//! between two texts and `props` tells of a model. How tokens are drawn, when answers end and what they are held to is read as
//! in OpenAI's dialect. Nothing outside this folder knows these shapes.

pub mod answer;
pub mod completion;
pub mod infill;
pub mod prompt;
pub mod props;

use crate::openapi::Routes;

/// Returns the routes of this dialect.
pub fn routes() -> Routes {
    Routes::new("Llama")
        .post("/completion", completion::complete, completion::operation())
        .post("/infill", infill::fill, infill::operation())
        .get("/props", props::show, props::operation())
}
