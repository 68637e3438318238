//! One request of a batch, asked as its own endpoint is asked, with the rights of the key that made the batch.
//!
//! What it comes to is a line of a file, whatever the endpoint says. Only where the machine has no time or room for it now
//! is it asked again, where the daemon is gone the batch begins anew where it was, and where the key is gone it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use protocol::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::lines::Line;
use super::object::Endpoint;
use crate::access::on_behalf_of;
use crate::app::Bridge;
use crate::begin::until;
use crate::ids::new_id;
use crate::openai::request::in_our_words;
use crate::openai::{chat, completions, embeddings, responses};
use crate::{error, request_id};

/// The longest answer of one request, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How long to wait before a request that there was no room for is asked again, at first and at last, where nobody says.
const WAIT_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;

/// What a request came to: the line of it.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It was answered.
    Answered(String),
    /// It failed.
    Failed(String),
}

/// Asks a request, as often as it takes until `end`; fails only where the daemon or the key is gone.
pub async fn ask(
    bridge: Arc<Bridge>,
    endpoint: Endpoint,
    key: Option<String>,
    line: Line,
    end: Instant,
) -> Result<Outcome> {
    let id = request_id::fresh();
    let mut wait_ms = *WAIT_MS.start();
    loop {
        let answer = request_id::within(id.clone(), endpoint.path().to_owned(), async {
            let error = match answer(&bridge, endpoint, &line.body).await {
                Ok(body) => return Ok(Outcome::Answered(answered(&line.custom_id, 200, &id, &body))),
                Err(error) => error,
            };
            if is_gone(error.kind) || passes(&error) {
                return Err(error);
            }
            let body = error::body(&error, Some(id.clone()));
            let body = serde_json::to_string(&body).map_err(|error| Error::internal(error.to_string()))?;
            Ok(Outcome::Failed(answered(&line.custom_id, error::status(error.kind).as_u16(), &id, &body)))
        });
        match until(end, on_behalf_of(key.clone(), answer)).await {
            Err(error) if !is_gone(error.kind) => {
                let wait = error.retry_after_ms.unwrap_or(wait_ms).clamp(*WAIT_MS.start(), *WAIT_MS.end());
                sleep(Duration::from_millis(wait)).await;
                wait_ms = (2 * wait_ms).min(*WAIT_MS.end());
            }
            outcome => return outcome,
        }
    }
}

/// Whether the daemon or the key is gone.
fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unreachable | ErrorKind::AuthRequired)
}

/// Whether the same request may be answered later: what it lacks is time, room or a model in memory.
fn passes(error: &Error) -> bool {
    match error.kind {
        ErrorKind::Busy | ErrorKind::Closing | ErrorKind::RateLimited => true,
        ErrorKind::ModelNotLoaded | ErrorKind::DeadlineExceeded => true,
        // An answer that there is no room to keep was made in full: it would be made again and again.
        ErrorKind::NoMemory => error.param.as_deref() != Some("store"),
        _ => false,
    }
}

/// Returns the body of the endpoint's answer.
async fn answer(bridge: &Bridge, endpoint: Endpoint, body: &Bytes) -> Result<String> {
    // On the heap: many of these wait side by side in one future.
    let response = match endpoint {
        Endpoint::Chat => Box::pin(chat::answer(bridge, body.clone())).await.map_err(in_our_words),
        Endpoint::Completions => Box::pin(completions::answer(bridge, body.clone())).await.map_err(in_our_words),
        Endpoint::Embeddings => Box::pin(embeddings::answer(bridge, body.clone())).await.map_err(in_our_words),
        Endpoint::Responses => Box::pin(responses::answer(bridge, body.clone())).await.map_err(responses::named),
    }?;
    let too_long = |_| Error::internal(format!("The answer is longer than {ANSWER_BYTES_MAX} bytes."));
    let bytes = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(too_long)?;
    String::from_utf8(bytes.into()).map_err(|_| Error::internal("The answer is not UTF-8."))
}

/// Returns the line of a request that its endpoint answered with `body`, which is JSON on one line.
fn answered(custom_id: &str, status: u16, request_id: &str, body: &str) -> String {
    let (id, custom_id) = (json!(new_id("batch_req_")), json!(custom_id));
    format!(
        r#"{{"id":{id},"custom_id":{custom_id},"response":{{"status_code":{status},"request_id":"{request_id}","body":{body}}},"error":null}}"#
    )
}

/// Returns the line of a request whose turn did not come in time.
pub fn expired(custom_id: &str) -> String {
    let message = "The batch expired before this request was answered.";
    let error = json!({ "code": "batch_expired", "message": message });
    json!({ "id": new_id("batch_req_"), "custom_id": custom_id, "response": null, "error": error }).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_a_machine_lacks_passes_and_what_a_request_lacks_does_not() {
        let error = |kind| Error::new(kind, "no");
        for kind in [ErrorKind::NoMemory, ErrorKind::ModelNotLoaded, ErrorKind::DeadlineExceeded, ErrorKind::Busy] {
            assert!(passes(&error(kind)), "{kind:?}");
        }
        for kind in
            [ErrorKind::Invalid, ErrorKind::ContextLengthExceeded, ErrorKind::ModelNotFound, ErrorKind::Internal]
        {
            assert!(!passes(&error(kind)), "{kind:?}");
        }
        assert!(!passes(&error(ErrorKind::NoMemory).param("store")), "its answer cannot be kept");
    }

    #[test]
    fn a_line_is_json_whatever_its_request_is_called() {
        let line: Value = serde_json::from_str(&answered("a\"b\n", 200, "req_1", "{\"x\": [1]}")).unwrap();
        assert_eq!((&line["custom_id"], &line["error"]), (&json!("a\"b\n"), &Value::Null));
        assert_eq!(line["response"], json!({"status_code": 200, "request_id": "req_1", "body": {"x": [1]}}));
        let late: Value = serde_json::from_str(&expired("a")).unwrap();
        assert_eq!((&late["response"], &late["error"]["code"]), (&Value::Null, &json!("batch_expired")));
    }
}
