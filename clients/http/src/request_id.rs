//! The name of one request: `req_` and 12 hexadecimal digits, in the header of every answer and in every error body.
//!
//! `app` gives each request its id before anything else looks at it; whoever writes an error asks for the current one.
//! An id names a request in logs and reports and grants nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::ids::random_hex;

/// The header that carries the id.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: Named;
}

/// A request while it is being answered.
struct Named {
    id: String,
    path: String,
    /// Whether a model has begun to answer it.
    begun: AtomicBool,
}

/// Returns the id of the request being answered; `None` outside of any, as in the body of a stream.
pub fn current() -> Option<String> {
    CURRENT.try_with(|named| named.id.clone()).ok()
}

/// Asks something of the path of the request being answered.
pub fn path_is(what: impl FnOnce(&str) -> bool) -> bool {
    CURRENT.try_with(|named| what(&named.path)).unwrap_or(false)
}

/// Notes that a model has begun to answer the request.
pub fn note_begun() {
    // Whatever goes on outside of a request has no answer to be cut.
    let _ = CURRENT.try_with(|named| named.begun.store(true, Ordering::Relaxed));
}

/// Whether a model had begun to answer the request.
pub fn has_begun() -> bool {
    CURRENT.try_with(|named| named.begun.load(Ordering::Relaxed)).unwrap_or(false)
}

/// Returns an id for a new request.
pub fn fresh() -> String {
    format!("req_{}", random_hex(12))
}

/// Answers what was asked of `path` as the request `id`.
pub async fn within<F: Future>(id: String, path: String, answer: F) -> F::Output {
    CURRENT.scope(Named { id, path, begun: AtomicBool::new(false) }, answer).await
}

/// Gives a request its id and its answer the header.
pub async fn name(request: Request, next: Next) -> Response {
    let id = fresh();
    let header = HeaderValue::from_str(&id);
    let path = request.uri().path().to_owned();
    let mut response = within(id, path, next.run(request)).await;
    if let Ok(header) = header {
        response.headers_mut().insert(HEADER, header);
    }
    response
}
