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
use protocol::transcript::{Progress, Stage};
use protocol::{Error, Result};
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout};
use utoipa::ToSchema;

/// How long a stream may be silent, in wall-clock time, before a comment is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream may take to begin before its head leaves all the same.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

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

/// How far slow work has come, and how long the rest will take at the pace of what was heard of it so far.
#[derive(Debug, Default)]
pub struct Pace {
    /// What is being done, how much of it was done when it was first heard of, and when that was.
    first: Option<(Stage, u64, Instant)>,
}

impl Pace {
    /// Says how far it has come, for a comment.
    pub fn describe(&mut self, progress: &Progress, now: Instant) -> String {
        let Progress { stage, subject, done, total, unit } = progress;
        let (_, begun, since) = match self.first {
            Some(first) if first.0 == *stage => first,
            _ => *self.first.insert((*stage, *done, now)),
        };
        let Some(total) = total else { return format!("{stage:?} {subject}: {done} {unit:?}") };
        let (came, left) = (done.saturating_sub(begun), total.saturating_sub(*done));
        let eta = (came > 0 && left > 0).then(|| {
            let seconds = now.saturating_duration_since(since).as_secs_f64() * left as f64 / came as f64;
            format!(", about {} s left", seconds.ceil())
        });
        format!("{stage:?} {subject}: {done} of {total} {unit:?}{}", eta.unwrap_or_default())
    }
}

/// Returns what is sent where nothing else keeps the line warm.
pub fn heartbeat() -> Bytes {
    comment("still working")
}

/// Answers with the frames of a stream once it has begun. Where that takes long, as it does while a model is read into
/// memory, the head leaves before it, so that nobody gives the line up; a refusal after that is what `failed` writes.
pub async fn begun<S: Stream<Item = Bytes> + Send + 'static>(
    heartbeat: Bytes,
    begin: impl Future<Output = Result<S>> + Send + 'static,
    failed: impl FnOnce(Error) -> Bytes + Send + 'static,
) -> Result<Response> {
    let mut begin = Box::pin(begin);
    match timeout(HEAD_PATIENCE, &mut begin).await {
        Ok(frames) => Ok(response_with(heartbeat, frames?)),
        Err(_) => {
            let late = async move {
                match begin.await {
                    Ok(frames) => frames.boxed(),
                    Err(error) => stream::iter([failed(error)]).boxed(),
                }
            };
            Ok(response_with(heartbeat, stream::once(late).flatten()))
        }
    }
}

/// Returns a response that sends `frames` as they come, with comments where nothing else does.
pub fn response(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    response_with(heartbeat(), frames)
}

/// Returns a response that sends `frames` as they come, and `heartbeat` where nothing else does.
fn response_with(heartbeat: Bytes, frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
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

#[cfg(test)]
mod tests {
    use protocol::transcript::Unit;

    use super::*;

    fn progress(done: u64) -> Progress {
        let (subject, total) = ("m".to_owned(), Some(100));
        Progress { stage: Stage::Prefilling, subject, done, total, unit: Unit::Tokens }
    }

    #[test]
    fn the_rest_takes_as_long_as_its_share_did() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.describe(&progress(20), start), "Prefilling m: 20 of 100 Tokens");
        let later = start + Duration::from_secs(3);
        assert_eq!(pace.describe(&progress(60), later), "Prefilling m: 60 of 100 Tokens, about 3 s left");
        assert_eq!(pace.describe(&progress(100), later), "Prefilling m: 100 of 100 Tokens");
        let loading = Progress { stage: Stage::Loading, ..progress(10) };
        assert_eq!(pace.describe(&loading, later), "Loading m: 10 of 100 Tokens");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_begins_late_has_its_head_in_time() {
        let late = |outcome: Result<&'static str>| async move {
            tokio::time::sleep(Duration::from_secs(45)).await;
            outcome.map(|frame| stream::iter([Bytes::from(frame)]))
        };
        let body = |response: Response| async move {
            String::from_utf8(axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().into()).unwrap()
        };
        let failed = |error: Error| Bytes::from(error.message);
        let begin = Instant::now();
        let response = begun("beat ".into(), late(Ok("data")), failed).await.unwrap();
        assert!((HEAD_PATIENCE..HEAD_PATIENCE + Duration::from_secs(1)).contains(&begin.elapsed()));
        assert_eq!(body(response).await, "beat beat data");
        let response = begun("beat ".into(), late(Err(Error::internal("no"))), failed).await.unwrap();
        assert_eq!(body(response).await, "beat beat no");
        let soon = std::future::ready(Err::<stream::Empty<Bytes>, _>(Error::internal("no")));
        assert_eq!(begun("beat ".into(), soon, failed).await.unwrap_err().message, "no");
    }
}
