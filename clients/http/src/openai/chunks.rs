//! Streams an answer as chunks: events in, server-sent frames out.
//!
//! The prompt is accepted before this begins, so refusals keep their status, unless that takes long. A later failure is an
//! error frame and a proper end. Endpoints differ in the shape of a chunk's choice alone.

use axum::body::Bytes;
use axum::response::Response;
use futures::Stream;
use protocol::generation::{ChoiceFinished, Delta, Finished, Started};
use protocol::transcript::Event;
use protocol::{Error, Result};
use serde::Serialize;
use tokio::time::Instant;

use super::request::{Counting, in_our_words};
use super::response::{Completion, UsageBody};
use crate::frames::{Writer, frames};
use crate::sse::Pace;
use crate::timings::Timings;
use crate::{error, request_id, sse};

/// How one endpoint shapes its chunks.
pub trait Shape: Send + 'static {
    /// The chunk's choice.
    type Choice: Serialize;
    /// The choices to send before any text, if the endpoint has such.
    fn opening(&mut self) -> Vec<Self::Choice>;
    /// The choices for more of an answer; none where there is nothing to show yet.
    fn more(&mut self, delta: Delta) -> Vec<Self::Choice>;
    /// The choices for a complete answer.
    fn complete(&mut self, finished: ChoiceFinished) -> Vec<Self::Choice>;
}

/// What every chunk of a stream repeats.
#[derive(Clone, Debug)]
pub struct Header {
    /// `chatcmpl-…` or `cmpl-…`.
    pub id: String,
    /// What kind of object a chunk is.
    pub object: &'static str,
    /// When the stream began, in seconds since 1970.
    pub created: u64,
    /// Which chunks carry token counts.
    pub counting: Counting,
    /// The build that answers.
    pub fingerprint: String,
}

/// Answers with a stream of what a generation says that is about to begin: `begin` comes to its start and its events.
pub async fn respond<E, S>(
    begin: impl Future<Output = Result<(Started, E)>> + Send + 'static,
    header: Header,
    shape: S,
) -> Result<Response>
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
    S: Shape,
{
    let request_id = request_id::current();
    let late = request_id.clone();
    let begin = async move {
        let (started, events) = begin.await?;
        let mut writer = Chunks { header, started, shape, generated: 0, pace: Pace::default(), request_id };
        Ok(frames(writer.opening(), events, writer))
    };
    sse::begun(sse::heartbeat(), begin, |error| failure(&in_our_words(error), late)).await
}

/// Returns what ends a stream that failed.
fn failure(error: &Error, request_id: Option<String>) -> Bytes {
    [sse::data(&error::body(error, request_id)), Bytes::from_static(DONE)].concat().into()
}

struct Chunks<S> {
    header: Header,
    started: Started,
    shape: S,
    /// Tokens so far, of all choices.
    generated: u32,
    pace: Pace,
    request_id: Option<String>,
}

impl<S: Shape> Chunks<S> {
    fn opening(&mut self) -> Bytes {
        let choices = self.shape.opening();
        self.chunks(choices)
    }

    /// A chunk for each of the choices.
    fn chunks(&self, choices: Vec<S::Choice>) -> Bytes {
        choices.into_iter().map(|choice| self.chunk(vec![choice], None, None)).collect::<Vec<_>>().concat().into()
    }

    fn chunk(&self, choices: Vec<S::Choice>, whole: Option<UsageBody>, timings: Option<Timings>) -> Bytes {
        let Counting { last, each } = self.header.counting;
        let so_far = || each.then(|| UsageBody::so_far(self.started.prompt_tokens, self.generated));
        let usage = whole.or_else(so_far);
        sse::data(&Completion {
            id: self.header.id.clone(),
            object: self.header.object,
            created: self.header.created,
            model: self.started.model.clone(),
            choices,
            usage: (last || each).then_some(usage),
            system_fingerprint: self.header.fingerprint.clone(),
            timings,
        })
    }
}

impl<S: Shape> Writer for Chunks<S> {
    fn event(&mut self, event: Event) -> Bytes {
        match event {
            Event::Delta(delta) => {
                self.generated += delta.tokens;
                let choices = self.shape.more(delta);
                self.chunks(choices)
            }
            Event::ChoiceFinished(finished) => {
                let choices = self.shape.complete(finished);
                self.chunks(choices)
            }
            Event::Progress(progress) => sse::comment(&self.pace.describe(&progress, Instant::now())),
            Event::Started(_) | Event::Finished(_) | Event::Failed(_) => Bytes::new(),
            // No generation says these.
            Event::Embedded(_) | Event::Scored(_) => Bytes::new(),
        }
    }

    fn finished(&mut self, finished: Finished) -> Bytes {
        let usage = match self.header.counting.last {
            true => {
                let Finished { usage, timing, missed, .. } = finished;
                self.chunk(Vec::new(), Some(UsageBody::of(usage, missed)), Some(Timings::of(usage, timing)))
            }
            false => Bytes::new(),
        };
        [usage, Bytes::from_static(DONE)].concat().into()
    }

    fn failed(&mut self, error: &Error) -> Bytes {
        failure(error, self.request_id.clone())
    }
}

const DONE: &[u8] = b"data: [DONE]\n\n";
