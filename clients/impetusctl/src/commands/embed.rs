//! `impetusctl embed`: turns texts into vectors.

use protocol::encode::{EmbedRequest, Input, Overlong};
use protocol::generation::Priority;
use protocol::{Error, Result};
use serde::Serialize;

use crate::cli::Embed;
use crate::daemon::Daemon;
use crate::output::{Output, line, note};

/// What programs get.
#[derive(Debug, Serialize)]
struct Document {
    model: String,
    embeddings: Vec<Vec<f32>>,
    /// Texts that were read without their end, by index.
    truncated: Vec<u32>,
    prompt_tokens: u32,
}

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, embed: Embed) -> Result<()> {
    let request = EmbedRequest {
        model: embed.model,
        inputs: embed.texts.into_iter().map(Input::Text).collect(),
        dimensions: embed.dimensions,
        overlong: if embed.truncate { Overlong::Cut } else { Overlong::Refuse },
        tokens_max: None,
        priority: Priority::Normal,
        deadline_ms: None,
    };
    let answer = daemon.start().await?.embeddings(request).await?;
    if output.json {
        return output.document(&Document {
            model: answer.model,
            embeddings: answer.vectors,
            truncated: answer.cut,
            prompt_tokens: answer.finished.usage.prompt_tokens,
        });
    }
    for index in &answer.cut {
        note(format_args!("text {index} is longer than the model's context; its end was left out"));
    }
    for vector in &answer.vectors {
        line(serde_json::to_string(vector).map_err(|error| Error::internal(error.to_string()))?)?;
    }
    Ok(())
}
