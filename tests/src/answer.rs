//! Reads generations to their end.

use futures::StreamExt;
use protocol::client::{Client, EventStream};
use protocol::generation::{FinishReason, Finished, GenerateRequest, TokenLogprob, ToolCallDelta};
use protocol::transcript::Event;
use protocol::{Error, Result};
use tokio::time::timeout;

use crate::wait::LIMIT;

/// A whole generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The text of each choice.
    pub texts: Vec<String>,
    /// Why each choice ended.
    pub reasons: Vec<Option<FinishReason>>,
    /// Log-probabilities of each choice.
    pub logprobs: Vec<Vec<TokenLogprob>>,
    /// Tool calls of the first choice.
    pub tool_calls: Vec<ToolCallDelta>,
    /// The seed in use.
    pub seed: u64,
    /// Usage and timing.
    pub finished: Finished,
}

impl Answer {
    /// The text of the first choice.
    pub fn text(&self) -> &str {
        &self.texts[0]
    }
}

/// Asks and reads the answer to its end.
pub async fn ask(client: &Client, request: GenerateRequest) -> Result<Answer> {
    let choices = usize::from(request.choices);
    whole(client.generate(request).await?, choices).await
}

/// Reads a stream to its end.
pub async fn whole(mut events: EventStream, choices: usize) -> Result<Answer> {
    let mut answer = Answer {
        texts: vec![String::new(); choices],
        reasons: vec![None; choices],
        logprobs: vec![Vec::new(); choices],
        ..Answer::default()
    };
    while let Some(event) = timeout(LIMIT, events.next()).await.expect("the next event comes in time") {
        match event? {
            Event::Started(started) => answer.seed = started.seed,
            Event::Delta(delta) => {
                let choice = usize::from(delta.choice);
                answer.texts[choice].push_str(&delta.text);
                answer.logprobs[choice].extend(delta.logprobs);
                answer.tool_calls.extend(delta.tool_calls);
            }
            Event::ChoiceFinished(finished) => answer.reasons[usize::from(finished.choice)] = Some(finished.reason),
            Event::Finished(finished) => {
                answer.finished = finished;
                return Ok(answer);
            }
            Event::Failed(error) => return Err(error),
            Event::Progress(_) | Event::Embedded(_) | Event::Scored(_) => {}
        }
    }
    Err(Error::internal("the stream ended without an end"))
}

/// Reads a stream until some text of it has come; returns that text.
pub async fn first_text(events: &mut EventStream) -> String {
    while let Some(event) = timeout(LIMIT, events.next()).await.expect("the next event comes in time") {
        if let Event::Delta(delta) = event.expect("the generation goes well")
            && !delta.text.is_empty()
        {
            return delta.text;
        }
    }
    panic!("the stream ended without text")
}
