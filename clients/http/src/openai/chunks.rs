//! Streams an answer as chunks: events in, server-sent frames out.
//!
//! Headers leave only after the first event says that the prompt was accepted, so refusals keep their status. A later
//! failure is an error frame and a proper end. Endpoints differ in the shape of a chunk's choice alone.

use axum::body::Bytes;
use axum::response::Response;
use futures::{Stream, StreamExt, stream};
use protocol::generation::{ChoiceFinished, Delta, Usage};
use protocol::transcript::{Event, Progress};
use protocol::{Error, Result};
use serde::Serialize;

use super::response::Completion;
use crate::{error, request_id, sse};

/// How one endpoint shapes its chunks.
pub trait Shape: Send + 'static {
    /// The chunk's choice.
    type Choice: Serialize;
    /// The choices to send before any text, if the endpoint has such.
    fn opening(&mut self) -> Vec<Self::Choice>;
    /// The choice for more of an answer; `None` where there is nothing to show yet.
    fn more(&mut self, delta: Delta) -> Option<Self::Choice>;
    /// The choice for a complete answer.
    fn complete(&mut self, finished: ChoiceFinished) -> Self::Choice;
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
    /// Whether a last chunk carries the usage.
    pub include_usage: bool,
}

/// Waits for the prompt to be accepted, then answers with a stream.
pub async fn respond<E, S>(mut events: E, header: Header, shape: S) -> Result<Response>
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
    S: Shape,
{
    let mut model = None;
    while let Some(event) = events.next().await {
        match event? {
            Event::Started(started) => {
                model = Some(started.model);
                break;
            }
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    let Some(model) = model else { return Err(Error::internal("The daemon ended the answer before it began.")) };
    let mut writer = Writer { header, model, shape, request_id: request_id::current() };
    let opening = writer.opening();
    let rest = stream::unfold((events, Some(writer)), |(mut events, writer)| async move {
        let mut writer = writer?;
        let (frame, goes_on) = match events.next().await {
            Some(Ok(event)) => writer.event(event),
            Some(Err(error)) => (writer.failed(&error), false),
            None => (writer.failed(&Error::internal("The daemon's events ended without saying how.")), false),
        };
        Some((frame, (events, goes_on.then_some(writer))))
    });
    Ok(sse::response(stream::iter([opening]).chain(rest).filter(|frame| std::future::ready(!frame.is_empty()))))
}

struct Writer<S> {
    header: Header,
    model: String,
    shape: S,
    request_id: Option<String>,
}

impl<S: Shape> Writer<S> {
    fn opening(&mut self) -> Bytes {
        let choices = self.shape.opening();
        choices.into_iter().map(|choice| self.chunk(vec![choice], None)).collect::<Vec<_>>().concat().into()
    }

    /// Returns the frames for one event, and whether the stream goes on.
    fn event(&mut self, event: Event) -> (Bytes, bool) {
        match event {
            Event::Delta(delta) => match self.shape.more(delta) {
                Some(choice) => (self.chunk(vec![choice], None), true),
                None => (Bytes::new(), true),
            },
            Event::ChoiceFinished(finished) => {
                let choice = self.shape.complete(finished);
                (self.chunk(vec![choice], None), true)
            }
            Event::Finished(finished) => {
                let usage =
                    if self.header.include_usage { self.chunk(Vec::new(), Some(finished.usage)) } else { Bytes::new() };
                ([usage, Bytes::from_static(DONE)].concat().into(), false)
            }
            Event::Failed(error) => (self.failed(&error), false),
            Event::Progress(progress) => (sse::comment(&describe(&progress)), true),
            Event::Started(_) => (Bytes::new(), true),
        }
    }

    fn failed(&self, error: &Error) -> Bytes {
        [sse::data(&error::body(error, self.request_id.clone())), Bytes::from_static(DONE)].concat().into()
    }

    fn chunk(&self, choices: Vec<S::Choice>, usage: Option<Usage>) -> Bytes {
        sse::data(&Completion {
            id: self.header.id.clone(),
            object: self.header.object,
            created: self.header.created,
            model: self.model.clone(),
            choices,
            usage: self.header.include_usage.then(|| usage.map(Into::into)),
            system_fingerprint: None,
        })
    }
}

const DONE: &[u8] = b"data: [DONE]\n\n";

fn describe(progress: &Progress) -> String {
    match progress.total {
        Some(total) => {
            format!("{:?} {}: {} of {total} {:?}", progress.stage, progress.subject, progress.done, progress.unit)
        }
        None => format!("{:?} {}: {} {:?}", progress.stage, progress.subject, progress.done, progress.unit),
    }
}
