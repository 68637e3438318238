//! Errors as HTTP clients see them: protocol kinds become statuses here, and bodies in OpenAI's shape. The other dialects shape
//! their own.
//!
//! The body carries OpenAI's `error` object (all four keys, always) and the members of RFC 9457 beside it, so clients
//! of either world find what they read.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::{Error, ErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{access, request_id};

/// An error on its way to an HTTP client.
#[derive(Debug)]
pub struct HttpError(pub Error);

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The one body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: OpenAiError,
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct OpenAiError {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: &'static str,
}

/// How one kind looks over HTTP: status, OpenAI type, code, title.
fn face(kind: ErrorKind) -> (StatusCode, &'static str, &'static str, &'static str) {
    use StatusCode as S;
    const REQUEST: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    match kind {
        ErrorKind::Invalid => (S::BAD_REQUEST, REQUEST, "INVALID_REQUEST", "Invalid request"),
        ErrorKind::ContextLengthExceeded => {
            (S::BAD_REQUEST, REQUEST, "context_length_exceeded", "Context length exceeded")
        }
        ErrorKind::Unsupported => (S::BAD_REQUEST, REQUEST, "unsupported_parameter", "Not supported"),
        ErrorKind::AuthRequired => (S::UNAUTHORIZED, "authentication_error", "AUTH_REQUIRED", "Key required"),
        ErrorKind::Forbidden => (S::FORBIDDEN, "permission_error", "forbidden", "Forbidden"),
        ErrorKind::ModelNotFound => (S::NOT_FOUND, REQUEST, "MODEL_NOT_FOUND", "Model not found"),
        ErrorKind::ModelNotLoaded => (S::SERVICE_UNAVAILABLE, SERVER, "MODEL_NOT_LOADED", "Model not loaded"),
        ErrorKind::NotFound => (S::NOT_FOUND, REQUEST, "not_found", "Not found"),
        ErrorKind::Conflict => (S::CONFLICT, REQUEST, "conflict", "Conflict"),
        ErrorKind::Busy => (S::SERVICE_UNAVAILABLE, SERVER, "busy", "Busy"),
        ErrorKind::NoMemory => (S::INSUFFICIENT_STORAGE, SERVER, "INSUFFICIENT_MEMORY", "Insufficient memory"),
        ErrorKind::DeadlineExceeded => (S::GATEWAY_TIMEOUT, SERVER, "deadline_exceeded", "Deadline exceeded"),
        ErrorKind::Cancelled => (S::SERVICE_UNAVAILABLE, SERVER, "cancelled", "Cancelled"),
        ErrorKind::Closing => (S::SERVICE_UNAVAILABLE, SERVER, "closing", "Shutting down"),
        ErrorKind::Unreachable => (S::BAD_GATEWAY, SERVER, "unreachable", "Unreachable"),
        ErrorKind::Incompatible => (S::BAD_GATEWAY, SERVER, "incompatible", "Incompatible versions"),
        ErrorKind::Internal => (S::INTERNAL_SERVER_ERROR, SERVER, failure(), "Internal error"),
        ErrorKind::RateLimited => (S::TOO_MANY_REQUESTS, "rate_limit_error", "RATE_LIMITED", "Rate limited"),
    }
}

/// The code of a defect: what it was that failed.
fn failure() -> &'static str {
    let embeds = |path: &str| path.ends_with("/embeddings") || path.ends_with("/embed");
    if request_id::path_is(embeds) {
        "EMBEDDING_ERROR"
    } else if request_id::current().is_none() || request_id::path_is(access::is_inference) {
        // Only streams write errors after their request was answered, and only answers are streamed.
        "INFERENCE_ERROR"
    } else {
        "INTERNAL_ERROR"
    }
}

/// Returns the status of a kind, for dialects whose bodies differ.
pub fn status(kind: ErrorKind) -> StatusCode {
    face(kind).0
}

/// Returns the code of a kind, for messages that have no body.
pub fn code(kind: ErrorKind) -> &'static str {
    face(kind).2
}

/// The field at fault, as its dialect calls it, what is wrong, and what to do: some shapes have one string for all of it.
pub fn sentence(error: &Error, param: Option<&str>) -> String {
    let sentence = match param.filter(|param| !error.message.contains(param)) {
        Some(param) => format!("{param}: {}", error.message),
        None => error.message.clone(),
    };
    match &error.hint {
        Some(hint) => format!("{}. {hint}", sentence.trim_end_matches('.')),
        None => sentence,
    }
}

/// Adds what an error says in headers, whatever the dialect of its body.
pub fn tell(error: &Error, status: StatusCode, headers: &mut HeaderMap) {
    if let Some(after_ms) = error.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after_ms.div_ceil(1000).max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    use ErrorKind as K;
    let ends = matches!(error.kind, K::DeadlineExceeded | K::Cancelled | K::Internal);
    // A worker that cannot come back, a daemon that ends, a key that was revoked meanwhile.
    let lost = matches!(error.kind, K::ModelNotLoaded | K::Closing | K::Unreachable | K::AuthRequired | K::Busy);
    let cut = ends || lost && request_id::has_begun();
    if cut && request_id::path_is(access::is_inference) {
        headers.insert("x-generation-incomplete", HeaderValue::from_static("true"));
    }
}

/// Returns the body for an error of the request `request_id`; streams send it as an event once headers are out.
pub fn body(error: &Error, request_id: Option<String>) -> ErrorBody {
    body_as(error, face(error.kind).0.as_u16(), request_id)
}

/// Returns the same body with a status that says more than the kind does.
pub fn body_as(error: &Error, status: u16, request_id: Option<String>) -> ErrorBody {
    let (_, r#type, code, title) = face(error.kind);
    ErrorBody {
        error: OpenAiError { message: error.message.clone(), r#type, param: error.param.clone(), code },
        r#type: format!("urn:impetus:error:{code}"),
        title,
        status,
        detail: error.message.clone(),
        hint: error.hint.clone(),
        instance: request_id.as_ref().map(|id| format!("urn:impetus:request:{id}")),
        request_id,
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, ..) = face(self.0.kind);
        self.into_response_as(status)
    }
}

impl HttpError {
    /// Answers with a status that says more than the kind does, such as 413.
    pub fn into_response_as(self, status: StatusCode) -> Response {
        let body = body_as(&self.0, status.as_u16(), request_id::current());
        let mut response = (status, axum::Json(body)).into_response();
        tell(&self.0, status, response.headers_mut());
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(error: &Error) -> Value {
        serde_json::to_value(body(error, Some("req_0123456789ab".to_owned()))).unwrap()
    }

    #[test]
    fn a_body_serves_both_worlds() {
        let error = Error::invalid("n", "'n' is 0.").hint("Ask for one.");
        let expected = json!({
            "error": {"message": "'n' is 0.", "type": "invalid_request_error", "param": "n", "code": "INVALID_REQUEST"},
            "type": "urn:impetus:error:INVALID_REQUEST",
            "title": "Invalid request",
            "status": 400,
            "detail": "'n' is 0.",
            "hint": "Ask for one.",
            "instance": "urn:impetus:request:req_0123456789ab",
            "request_id": "req_0123456789ab",
        });
        assert_eq!(shown(&error), expected);
    }

    #[test]
    fn all_four_keys_are_there_without_a_parameter() {
        let error = shown(&Error::internal("It broke."));
        let keys: Vec<_> = error["error"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        assert_eq!(error["error"]["param"], Value::Null);
    }

    #[test]
    fn headers_say_when_to_retry_and_how_to_authenticate() {
        let busy = HttpError(Error::new(ErrorKind::Busy, "Full.").retry_after_ms(1200)).into_response();
        assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(busy.headers()[header::RETRY_AFTER], "2");
        let keyless = HttpError(Error::new(ErrorKind::AuthRequired, "No key.")).into_response();
        assert_eq!(keyless.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
