//! Server-sent events: frames out as they are made, and a comment where nothing else keeps the line warm.
//!
//! A dialect hands over a stream of ready frames; this module adds the heartbeat and the headers. Dropping the
//! response drops the stream, which cancels the work it reads from.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use protocol::transcript::Progress;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;

/// How long a stream may be silent, in wall-clock time, before a comment is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A frame of a stream whose frames differ, as the document tells it.
#[derive(ToSchema)]
#[schema(as = Event)]
pub struct Typed {
    /// Which frame it is; the name of its event too.
    #[expect(dead_code, reason = "only the document reads it")]
    r#type: String,
    /// What it says.
    #[schema(value_type = HashMap<String, Value>)]
    #[serde(flatten)]
    #[expect(dead_code, reason = "only the document reads it")]
    members: std::collections::HashMap<String, serde_json::Value>,
}

/// Returns one `data:` frame with `value` as JSON.
pub fn data<T: Serialize>(value: &T) -> Bytes {
    let json = serde_json::to_string(value).expect("response types have string keys and no failing serialisers");
    Bytes::from(format!("data: {json}\n\n"))
}

/// Returns one frame with a name and `value` as JSON.
pub fn event<T: Serialize>(name: &str, value: &T) -> Bytes {
    [format!("event: {name}\n").as_bytes(), &data(value)].concat().into()
}

/// Returns a comment, which clients skip.
pub fn comment(text: &str) -> Bytes {
    Bytes::from(format!(": {}\n\n", text.replace(['\r', '\n'], " ")))
}

/// Says how far slow work has come, for a comment.
pub fn describe(progress: &Progress) -> String {
    match progress.total {
        Some(total) => {
            format!("{:?} {}: {} of {total} {:?}", progress.stage, progress.subject, progress.done, progress.unit)
        }
        None => format!("{:?} {}: {} {:?}", progress.stage, progress.subject, progress.done, progress.unit),
    }
}

/// Returns a response that sends `frames` as they come, with comments where nothing else does.
pub fn response(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    response_with(comment("still working"), frames)
}

/// Returns a response that sends `frames` as they come, and `heartbeat` where nothing else does.
pub fn response_with(heartbeat: Bytes, frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let beating = stream::unfold((Box::pin(frames), Instant::now() + HEARTBEAT), move |(mut frames, beat)| {
        let heartbeat = heartbeat.clone();
        async move {
            let frame = tokio::select! {
                frame = frames.next() => frame?,
                () = sleep_until(beat) => heartbeat,
            };
            Some((Ok::<_, Infallible>(frame), (frames, Instant::now() + HEARTBEAT)))
        }
    });
    let mut response = Body::from_stream(beating).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
