//! What endpoints for texts that are read whole share: how long they may take, how long vectors may be, and how they say that
//! a text was cut.

use axum::http::{HeaderValue, header::HeaderName};
use axum::response::Response;
use protocol::Error;

/// Milliseconds that such a request may take, queueing and loading included.
pub const DEADLINE_MS: u64 = 120_000;

/// The most indices that the header names.
const NAMED_MAX: usize = 100;

/// Returns how many numbers a vector is to have; how many it may have is the model's to say.
pub fn dimensions(asked: Option<u32>) -> Result<Option<u32>, Error> {
    match asked {
        Some(0) => Err(Error::invalid("dimensions", "'dimensions' is 0; a vector has at least 1.")),
        asked => Ok(asked),
    }
}

/// Says in a header which texts, by index, were read without their end. Nothing is cut unless the request allows it.
pub fn said_cut(mut response: Response, cut: &[u32]) -> Response {
    if !cut.is_empty() {
        let mut indices: Vec<String> = cut.iter().take(NAMED_MAX).map(u32::to_string).collect();
        if cut.len() > NAMED_MAX {
            indices.push("...".to_owned());
        }
        if let Ok(value) = HeaderValue::from_str(&indices.join(",")) {
            response.headers_mut().insert(HeaderName::from_static("x-impetus-truncated"), value);
        }
    }
    response
}
