//! Refusals and failures in Ollama's shape: `{"error": "…"}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{sentence, status, tell};

/// An error on its way to an Ollama client.
#[derive(Debug)]
pub struct OllamaError(pub Error);

impl From<Error> for OllamaError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The body of every error; streams send it as their last line once headers are out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OllamaErrorBody)]
pub struct ErrorBody {
    error: String,
}

/// Returns the body for an error.
pub fn body(error: &Error) -> ErrorBody {
    ErrorBody { error: sentence(error, error.param.as_deref().map(in_our_words)) }
}

/// Returns a field of the protocol under this dialect's name.
fn in_our_words(param: &str) -> &str {
    match param {
        "temperature" => "options.temperature",
        "top_p" => "options.top_p",
        "min_p" => "options.min_p",
        "typical_p" => "options.typical_p",
        "mirostat_tau" => "options.mirostat_tau",
        "mirostat_eta" => "options.mirostat_eta",
        "presence_penalty" => "options.presence_penalty",
        "frequency_penalty" => "options.frequency_penalty",
        "repetition_penalty" => "options.repeat_penalty",
        "stop" => "options.stop",
        "max_tokens" => "options.num_predict",
        "thinking" => "think",
        "inputs" => "input",
        "constraint" => "format",
        "repo" => "model",
        param => param,
    }
}

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        let status = status(self.0.kind);
        self.into_response_as(status)
    }
}

impl OllamaError {
    /// Answers with a status that says more than the kind does, such as 413.
    pub fn into_response_as(self, status: StatusCode) -> Response {
        let mut response = (status, axum::Json(body(&self.0))).into_response();
        tell(&self.0, status, response.headers_mut());
        response
    }
}
