//! Streams a message: events in, named server-sent events out, content one block after another.
//!
//! The prompt is accepted before this begins, so refusals keep their status, unless that takes long. A later failure is an
//! `error` event, after which nothing follows. Silence and prefill are bridged by `ping`.

use axum::body::Bytes;
use axum::response::Response;
use futures::Stream;
use protocol::generation::{ChoiceFinished, Delta, Finished, ToolCallDelta};
use protocol::transcript::Event;
use protocol::{Error, Result};
use serde::Serialize;
use serde_json::json;

use super::error::body;
use super::response::{Block, Message, UsageBody, stop_reason};
use super::thoughts::Display;
use crate::frames::{Writer, frames};
use crate::thoughts::sign;
use crate::{request_id, sse};

/// Answers with a stream of a message that is about to begin: `begin` comes to what it opens with, its events, and whether
/// the context holds fewer tokens than were asked for.
pub async fn respond<E>(
    begin: impl Future<Output = Result<(Message, E, bool)>> + Send + 'static,
    display: Display,
) -> Result<Response>
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
{
    let request_id = request_id::current();
    let late = request_id.clone();
    let ping = event("ping", json!({}));
    let after = ping.clone();
    let begin = async move {
        let (opening, events, capped) = begin.await?;
        let first = [event("message_start", json!({ "message": opening })), after].concat().into();
        Ok(frames(first, events, Blocks { capped, display, request_id, ..Blocks::default() }))
    };
    sse::begun(ping, begin, |error| sse::event("error", &body(&error, late))).await
}

/// Returns an event whose data repeats its name as `type`.
fn event(name: &str, members: impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Named<'a, T> {
        r#type: &'a str,
        #[serde(flatten)]
        members: T,
    }
    sse::event(name, &Named { r#type: name, members })
}

/// What the open block holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Thinking,
    Text,
    /// A call, by its index among the calls.
    Call(u16),
}

#[derive(Default)]
struct Blocks {
    /// Blocks begun so far; the last of them is open if `open` says so.
    begun: usize,
    open: Option<Kind>,
    finished: Option<ChoiceFinished>,
    capped: bool,
    display: Display,
    /// Thoughts of the open block that are not shown.
    unshown: String,
    request_id: Option<String>,
}

impl Blocks {
    fn more(&mut self, delta: Delta) -> Bytes {
        let mut frames = Vec::new();
        if !delta.reasoning.is_empty() {
            let block = || Block::Thinking { thinking: String::new(), signature: String::new() };
            frames.extend(self.open(Kind::Thinking, block));
            match self.display {
                Display::Summarized => {
                    frames.extend(self.delta(json!({"type": "thinking_delta", "thinking": delta.reasoning})));
                }
                Display::Omitted => self.unshown.push_str(&delta.reasoning),
            }
        }
        if !delta.text.is_empty() {
            frames.extend(self.open(Kind::Text, || Block::Text { text: String::new() }));
            frames.extend(self.delta(json!({"type": "text_delta", "text": delta.text})));
        }
        for ToolCallDelta { index, id, name, arguments } in delta.tool_calls {
            frames.extend(self.open(Kind::Call(index), || Block::ToolUse {
                id: id.unwrap_or_default(),
                name: name.unwrap_or_default(),
                input: json!({}),
            }));
            frames.extend(self.delta(json!({"type": "input_json_delta", "partial_json": arguments})));
        }
        frames.into()
    }

    /// Makes the open block one of `kind`, beginning it where another or none is open.
    fn open(&mut self, kind: Kind, block: impl FnOnce() -> Block) -> Vec<u8> {
        if self.open == Some(kind) {
            return Vec::new();
        }
        let mut frames = self.close();
        frames.extend(event("content_block_start", json!({ "index": self.begun, "content_block": block() })));
        self.open = Some(kind);
        self.begun += 1;
        frames
    }

    fn delta(&self, delta: serde_json::Value) -> Bytes {
        event("content_block_delta", json!({ "index": self.begun.saturating_sub(1), "delta": delta }))
    }

    fn close(&mut self) -> Vec<u8> {
        let Some(kind) = self.open.take() else { return Vec::new() };
        let mut frames = Vec::new();
        if kind == Kind::Thinking {
            let signature = sign(&std::mem::take(&mut self.unshown));
            frames.extend(self.delta(json!({ "type": "signature_delta", "signature": signature })));
        }
        frames.extend(event("content_block_stop", json!({ "index": self.begun.saturating_sub(1) })));
        frames
    }
}

impl Writer for Blocks {
    fn event(&mut self, event: Event) -> Bytes {
        match event {
            Event::Delta(delta) => self.more(delta),
            Event::ChoiceFinished(finished) => {
                self.finished = Some(finished);
                self.close().into()
            }
            Event::Progress(_) => self::event("ping", json!({})),
            Event::Started(_) | Event::Finished(_) | Event::Failed(_) => Bytes::new(),
            // No generation says these.
            Event::Embedded(_) | Event::Scored(_) => Bytes::new(),
        }
    }

    fn finished(&mut self, finished: Finished) -> Bytes {
        let mut frames = self.close();
        let (reason, stop) = self.finished.take().map(|end| (end.reason, end.stop_string)).unzip();
        let stop = stop.flatten();
        let reason = reason.map(|reason| stop_reason(reason, stop.as_deref(), self.capped));
        let delta = json!({ "stop_reason": reason, "stop_sequence": stop });
        let usage = UsageBody::of(finished.usage, finished.missed);
        frames.extend(event("message_delta", json!({ "delta": delta, "usage": usage })));
        frames.extend(event("message_stop", json!({})));
        frames.into()
    }

    fn failed(&mut self, error: &Error) -> Bytes {
        sse::event("error", &body(error, self.request_id.clone()))
    }
}

#[cfg(test)]
mod tests;
