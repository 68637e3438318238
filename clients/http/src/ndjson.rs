//! Streams of one JSON object a line: what Ollama's clients read, and how the bridge's own slow work says how far it is.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde::Serialize;

/// Returns a response of lines, sent as they come.
pub fn respond(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Body::from_stream(lines.map(Ok::<_, Infallible>)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Returns one line.
pub fn bytes(value: &impl Serialize) -> Bytes {
    let mut json = serde_json::to_vec(value).expect("response types have string keys and no failing serialisers");
    json.push(b'\n');
    json.into()
}
