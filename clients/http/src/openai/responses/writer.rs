//! Makes a response of a generation's events: the object as it grows, and the typed event of every step.
//!
//! A whole response and a streamed one are made by the same steps, so they say the same. Items come one after another;
//! each is added, filled and done before the next.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use futures::{Stream, StreamExt};
use protocol::generation::{ChoiceFinished, Delta, FinishReason, Finished, TokenLogprob, ToolCallDelta};
use protocol::transcript::Event;
use protocol::{Error, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kept::item_id;
use super::object::{Fault, Incomplete, Item, Part, Response, Status, UsageBody};
use super::tools::{self, Names};
use crate::frames::Writer;
use crate::openai::response::ChatLogprobs;
use crate::sse::{self, Pace};
use crate::thoughts::sign;
use crate::time::now_s;

/// What the open item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    /// A call, by its index among the calls.
    Call(u16),
}

/// A finished response, left for whoever keeps it.
#[derive(Clone, Default)]
pub struct Outcome(Arc<Mutex<Option<Box<Response>>>>);

impl Outcome {
    /// Returns the response, once, when it has ended.
    pub fn take(&self) -> Option<Box<Response>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A response that is being made.
pub struct Builder {
    response: Response,
    /// Whether anybody reads the events.
    streams: bool,
    /// Whether thoughts are given as a summary.
    summarises: bool,
    /// What the functions of namespaces are called.
    names: Names,
    open: Option<Kind>,
    length: bool,
    sequence: u64,
    frames: Vec<u8>,
    outcome: Outcome,
    pace: Pace,
}

impl Builder {
    /// Begins a response that `model` makes.
    pub fn new(mut response: Response, model: String, streams: bool) -> Self {
        response.model = model;
        response.status = Status::InProgress;
        let summarises = response.asked.get("reasoning").is_some_and(|asked| !asked["summary"].is_null());
        let names = response.asked.get("tools").map(tools::names).unwrap_or_default();
        let (frames, outcome) = (Vec::new(), Outcome::default());
        let pace = Pace::default();
        Self { response, streams, summarises, names, open: None, length: false, sequence: 0, frames, outcome, pace }
    }

    /// Says which model makes it, where that was not known when it began.
    pub fn made_by(&mut self, model: String) {
        self.response.model = model;
    }

    /// Where the finished response will be.
    pub fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// The response so far.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// The first events.
    pub fn opening(&mut self) -> Bytes {
        self.state("response.created");
        self.state("response.in_progress");
        self.take()
    }

    /// Reads events to their end, and returns what came of them.
    pub async fn read_all(&mut self, events: &mut (impl Stream<Item = Result<Event>> + Unpin)) -> Result<&Response> {
        while let Some(event) = events.next().await {
            match event? {
                Event::Finished(finished) => {
                    self.finished(finished);
                    return Ok(&self.response);
                }
                Event::Failed(error) => return Err(error),
                event => drop(self.event(event)),
            }
        }
        Err(Error::internal("The daemon's events ended without saying how."))
    }

    /// Ends a response that is no longer wanted.
    pub fn cancelled(&mut self) -> Bytes {
        self.close(Status::Incomplete);
        self.response.status = Status::Cancelled;
        self.leave();
        // There is no event of this name; the last that a reader gets says how the response is.
        self.state("response.incomplete");
        self.take()
    }

    fn state(&mut self, name: &str) {
        if self.streams {
            let response = serde_json::to_value(&self.response).unwrap_or_default();
            self.say(name, json!({ "response": response }));
        }
    }

    fn say(&mut self, name: &str, members: Value) {
        #[derive(Serialize)]
        struct Named<'a> {
            r#type: &'a str,
            sequence_number: u64,
            #[serde(flatten)]
            members: Value,
        }
        if self.streams {
            let event = Named { r#type: name, sequence_number: self.sequence, members };
            self.frames.extend(sse::event(name, &event));
            self.sequence += 1;
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.frames).into()
    }

    /// Where the open item stands.
    fn place(&self) -> usize {
        self.response.output.len().saturating_sub(1)
    }

    /// Says something about the open item, or about its only part.
    fn say_of_item(&mut self, name: &str, mut members: Value) {
        let place = self.place();
        members["output_index"] = json!(place);
        members["item_id"] = match self.response.output.last() {
            Some(Item::Message { id, .. } | Item::FunctionCall { id, .. } | Item::Reasoning { id, .. }) => json!(id),
            None => Value::Null,
        };
        self.say(name, members);
    }

    /// Makes the open item one of `kind`, adding it where another or none is open, with an id that begins with `prefix`.
    fn open(&mut self, kind: Kind, prefix: &str, item: impl FnOnce(String) -> Item, part: Option<Part>) {
        if self.open == Some(kind) {
            return;
        }
        self.close(Status::Completed);
        let id = item_id(prefix, &self.response.id, self.response.output.len());
        self.response.output.push(item(id));
        self.open = Some(kind);
        let shown = json!(self.response.output.last());
        self.say("response.output_item.added", json!({ "output_index": self.place(), "item": shown }));
        let Some(part) = part else { return };
        let shown = json!(part);
        match self.response.output.last_mut() {
            Some(Item::Reasoning { summary, .. }) if self.summarises => summary.push(part),
            Some(Item::Reasoning { content, .. } | Item::Message { content, .. }) => content.push(part),
            _ => {}
        }
        match kind == Kind::Reasoning && self.summarises {
            true => {
                self.say_of_item("response.reasoning_summary_part.added", json!({ "summary_index": 0, "part": shown }))
            }
            false => self.say_of_item("response.content_part.added", json!({ "content_index": 0, "part": shown })),
        }
    }

    fn think(&mut self, text: &str) {
        let empty = String::new;
        let part =
            if self.summarises { Part::SummaryText { text: empty() } } else { Part::ReasoningText { text: empty() } };
        let status = Status::InProgress;
        let item =
            |id| Item::Reasoning { id, status, summary: Vec::new(), content: Vec::new(), encrypted_content: None };
        self.open(Kind::Reasoning, "rs_", item, Some(part));
        self.part().into_iter().for_each(|part| part.append(text, Vec::new()));
        match self.summarises {
            true => {
                self.say_of_item("response.reasoning_summary_text.delta", json!({ "summary_index": 0, "delta": text }))
            }
            false => self.say_of_item("response.reasoning_text.delta", json!({ "content_index": 0, "delta": text })),
        }
    }

    fn write(&mut self, text: &str, tokens: Vec<TokenLogprob>) {
        let status = Status::InProgress;
        let item = |id| Item::Message { id, status, role: "assistant", content: Vec::new() };
        self.open(Kind::Message, "msg_", item, Some(Part::text()));
        let logprobs = ChatLogprobs::from(tokens).content;
        self.part().into_iter().for_each(|part| part.append(text, logprobs.clone()));
        let members = json!({ "content_index": 0, "delta": text, "logprobs": logprobs });
        self.say_of_item("response.output_text.delta", members);
    }

    fn call(&mut self, ToolCallDelta { index, id: call_id, name, arguments: more }: ToolCallDelta) {
        let name = name.unwrap_or_default();
        let (namespace, name) = match self.names.get(&name).cloned() {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        let item = |id| Item::FunctionCall {
            id,
            status: Status::InProgress,
            call_id: call_id.unwrap_or_default(),
            namespace,
            name,
            arguments: String::new(),
        };
        self.open(Kind::Call(index), "fc_", item, None);
        if more.is_empty() {
            return;
        }
        if let Some(Item::FunctionCall { arguments, .. }) = self.response.output.last_mut() {
            arguments.push_str(&more);
        }
        self.say_of_item("response.function_call_arguments.delta", json!({ "delta": more }));
    }

    /// The open item's part.
    fn part(&mut self) -> Option<&mut Part> {
        match self.response.output.last_mut()? {
            Item::Message { content, .. } => content.last_mut(),
            Item::Reasoning { summary, content, .. } => summary.last_mut().or(content.last_mut()),
            Item::FunctionCall { .. } => None,
        }
    }

    /// Ends the open item, if there is one.
    fn close(&mut self, end: Status) {
        if self.open.take().is_none() {
            return;
        }
        match self.response.output.last_mut() {
            Some(Item::Message { status, .. } | Item::FunctionCall { status, .. } | Item::Reasoning { status, .. }) => {
                *status = end;
            }
            None => return,
        }
        if let Some(Item::FunctionCall { arguments, name, .. }) = self.response.output.last() {
            let members = json!({ "arguments": arguments, "name": name });
            self.say_of_item("response.function_call_arguments.done", members);
        }
        if let Some(part) = self.part().map(|part| part.clone()) {
            self.close_part(&part);
            if self.response.holds_thoughts
                && let Some(Item::Reasoning { encrypted_content, .. }) = self.response.output.last_mut()
            {
                *encrypted_content = Some(sign(part.said()));
            }
        }
        let shown = json!(self.response.output.last());
        self.say("response.output_item.done", json!({ "output_index": self.place(), "item": shown }));
    }

    fn close_part(&mut self, part: &Part) {
        let shown = json!(part);
        match part {
            Part::OutputText { text, logprobs, .. } => {
                let members = json!({ "content_index": 0, "text": text, "logprobs": logprobs });
                self.say_of_item("response.output_text.done", members);
                self.say_of_item("response.content_part.done", json!({ "content_index": 0, "part": shown }));
            }
            Part::ReasoningText { text } => {
                self.say_of_item("response.reasoning_text.done", json!({ "content_index": 0, "text": text }));
                self.say_of_item("response.content_part.done", json!({ "content_index": 0, "part": shown }));
            }
            Part::SummaryText { text } => {
                self.say_of_item("response.reasoning_summary_text.done", json!({ "summary_index": 0, "text": text }));
                self.say_of_item("response.reasoning_summary_part.done", json!({ "summary_index": 0, "part": shown }));
            }
        }
    }

    fn more(&mut self, delta: Delta) {
        if !delta.reasoning.is_empty() {
            self.think(&delta.reasoning);
        }
        if !delta.text.is_empty() {
            self.write(&delta.text, delta.logprobs);
        }
        delta.tool_calls.into_iter().for_each(|call| self.call(call));
    }

    /// Leaves the response for whoever keeps it.
    fn leave(&self) {
        *self.outcome.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(self.response.clone()));
    }
}

impl Writer for Builder {
    fn event(&mut self, event: Event) -> Bytes {
        match event {
            Event::Delta(delta) => self.more(delta),
            Event::ChoiceFinished(ChoiceFinished { reason, .. }) => {
                self.length = reason == FinishReason::Length;
                self.close(if self.length { Status::Incomplete } else { Status::Completed });
            }
            Event::Progress(progress) => {
                let come = self.pace.describe(&progress, Instant::now());
                self.frames.extend(sse::comment(&come));
            }
            Event::Started(_) | Event::Finished(_) | Event::Failed(_) => {}
            // No generation says these.
            Event::Embedded(_) | Event::Scored(_) => {}
        }
        self.take()
    }

    fn finished(&mut self, finished: Finished) -> Bytes {
        self.close(Status::Completed);
        self.response.usage = Some(UsageBody::of(finished.usage, finished.missed));
        let name = match self.length {
            true => {
                self.response.status = Status::Incomplete;
                self.response.incomplete_details = Some(Incomplete { reason: "max_output_tokens" });
                "response.incomplete"
            }
            false => {
                self.response.status = Status::Completed;
                self.response.completed_at = Some(now_s());
                "response.completed"
            }
        };
        self.leave();
        self.state(name);
        self.take()
    }

    fn failed(&mut self, error: &Error) -> Bytes {
        self.close(Status::Incomplete);
        self.response.status = Status::Failed;
        self.response.error = Some(Fault::from(error));
        self.leave();
        self.state("response.failed");
        self.take()
    }
}

#[cfg(test)]
mod tests;
