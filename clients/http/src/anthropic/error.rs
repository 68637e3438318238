//! Refusals and failures in Anthropic's shape: `{"type": "error", "error": {type, message}, "request_id"}`.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use protocol::{Error, ErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{self, status, tell};
use crate::request_id;

/// An error on its way to an Anthropic client.
#[derive(Debug)]
pub struct AnthropicError(pub Error);

impl From<Error> for AnthropicError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The body of every error; streams send it as an event once headers are out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicErrorBody)]
pub struct ErrorBody {
    r#type: &'static str,
    error: Fault,
    request_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicError)]
struct Fault {
    r#type: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// What a client's library goes by where it can ask in another way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnthropicErrorDetails)]
struct Details {
    error_code: &'static str,
    unsupported: [&'static str; 1],
}

/// The conversation that Anthropic's servers keep, and what its libraries call the refusal of one: they send it whole then.
const THREAD: &str = "thread";
const NO_THREADS: &str = "thread_unsupported_request";

/// Anthropic's status for "more work than can be taken on".
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// How one kind looks: its status, which is everybody's but for an overload, and Anthropic's type.
fn face(kind: ErrorKind) -> (StatusCode, &'static str) {
    let word = match kind {
        ErrorKind::Busy | ErrorKind::Cancelled | ErrorKind::Closing => return (overloaded(), "overloaded_error"),
        ErrorKind::Invalid | ErrorKind::ContextLengthExceeded | ErrorKind::Unsupported | ErrorKind::Conflict => {
            "invalid_request_error"
        }
        ErrorKind::AuthRequired => "authentication_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::ModelNotFound | ErrorKind::NotFound => "not_found_error",
        ErrorKind::DeadlineExceeded => "timeout_error",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::NoMemory
        | ErrorKind::Unreachable
        | ErrorKind::Incompatible
        | ErrorKind::ModelNotLoaded
        | ErrorKind::Internal => "api_error",
    };
    (status(kind), word)
}

/// Returns the body for an error of the request `request_id`.
pub fn body(error: &Error, request_id: Option<String>) -> ErrorBody {
    let threads = error.kind == ErrorKind::Unsupported && error.param.as_deref() == Some(THREAD);
    let details = threads.then_some(Details { error_code: NO_THREADS, unsupported: [THREAD] });
    let fault = Fault { r#type: face(error.kind).1, message: sentence(error), details };
    ErrorBody { r#type: "error", error: fault, request_id }
}

/// Says it in one string.
fn sentence(error: &Error) -> String {
    match error.kind {
        // Coding agents know by these words that they must compact the conversation.
        ErrorKind::ContextLengthExceeded => format!("prompt is too long: {}", error::sentence(error, None)),
        _ => error::sentence(error, error.param.as_deref().map(in_our_words)),
    }
}

/// Returns a field of the protocol under this dialect's name.
fn in_our_words(param: &str) -> &str {
    match param {
        "stop" => "stop_sequences",
        "constraint" => "output_config.format",
        param => param,
    }
}

/// Adds the request's id under the name that Anthropic's clients look for.
pub fn named(mut response: Response) -> Response {
    if let Some(id) = request_id::current().and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert("request-id", id);
    }
    response
}

impl IntoResponse for AnthropicError {
    fn into_response(self) -> Response {
        let (status, _) = face(self.0.kind);
        self.into_response_as(status)
    }
}

impl AnthropicError {
    /// Answers with a status that says more than the kind does, such as 413.
    pub fn into_response_as(self, status: StatusCode) -> Response {
        let mut body = body(&self.0, request_id::current());
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            body.error.r#type = "request_too_large";
        }
        let mut response = named((status, axum::Json(body)).into_response());
        tell(&self.0, status, response.headers_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_the_field_the_cause_and_the_way_out() {
        let error = Error::invalid("stop", "it has 17 entries").hint("give fewer");
        assert_eq!(sentence(&error), "stop_sequences: it has 17 entries. give fewer");
        let named = Error::invalid("temperature", "temperature is 3; it must be from 0 to 1");
        assert_eq!(sentence(&named), "temperature is 3; it must be from 0 to 1");
        let long = Error::new(ErrorKind::ContextLengthExceeded, "This model's maximum context length is 9 tokens");
        assert!(sentence(&long).starts_with("prompt is too long: This model's maximum context length is 9"));
    }

    #[test]
    fn a_refused_thread_and_nothing_else_is_named_in_the_words_of_the_libraries() {
        let details = |kind: ErrorKind, param: &str| {
            let shown = serde_json::to_value(body(&Error::new(kind, "no").param(param), None)).unwrap();
            shown["error"].get("details").cloned()
        };
        let threads = serde_json::json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]});
        assert_eq!(details(ErrorKind::Unsupported, "thread"), Some(threads));
        assert_eq!(details(ErrorKind::Unsupported, "telepathy"), None);
        assert_eq!(details(ErrorKind::Invalid, "thread"), None);
    }

    #[test]
    fn an_overload_has_a_status_of_its_own() {
        assert_eq!(AnthropicError(Error::new(ErrorKind::Busy, "full")).into_response().status().as_u16(), 529);
    }
}
