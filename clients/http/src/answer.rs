//! Gathers a whole answer from a generation's events, for requests that do not stream.

use futures::{Stream, StreamExt};
use protocol::generation::{Delta, FinishReason, Missed, PromptToken, Timing, TokenLogprob, ToolCallDelta, Usage};
use protocol::transcript::Event;
use protocol::{Error, Result};

/// A whole answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The choices, by index.
    pub choices: Vec<Choice>,
    /// Token counts.
    pub usage: Usage,
    /// How long it took.
    pub timing: Timing,
    /// Why no more of its prompt came from the prefix cache.
    pub missed: Option<Missed>,
}

/// One whole choice.
#[derive(Debug, Default)]
pub struct Choice {
    /// The answer.
    pub text: String,
    /// The reasoning before it.
    pub reasoning: String,
    /// The calls, whole.
    pub tool_calls: Vec<ToolCallDelta>,
    /// One entry per token, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// The tokens of its prompt, if asked for.
    pub prompt: Vec<PromptToken>,
    /// Why it ended.
    pub reason: Option<FinishReason>,
    /// The stop string that ended it, if one did.
    pub stop_string: Option<String>,
}

impl Choice {
    /// Adds more of it.
    pub fn absorb(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.reasoning.push_str(&delta.reasoning);
        self.logprobs.extend(delta.logprobs);
        self.prompt.extend(delta.prompt);
        delta.tool_calls.into_iter().for_each(|call| join(&mut self.tool_calls, call));
    }
}

impl Answer {
    /// One of so many choices, of which nothing is known yet.
    pub fn of(choices: u16) -> Self {
        let mut answer = Self::default();
        answer.choices.resize_with(usize::from(choices), Choice::default);
        answer
    }

    /// Adds what an event says.
    pub fn absorb(&mut self, event: Event) {
        match event {
            Event::Delta(delta) => {
                if let Some(choice) = self.choices.get_mut(usize::from(delta.choice)) {
                    choice.absorb(delta);
                }
            }
            Event::ChoiceFinished(finished) => {
                if let Some(choice) = self.choices.get_mut(usize::from(finished.choice)) {
                    choice.reason = Some(finished.reason);
                    choice.stop_string = finished.stop_string;
                }
            }
            Event::Finished(finished) => {
                self.usage = finished.usage;
                self.timing = finished.timing;
                self.missed = finished.missed;
            }
            Event::Failed(_) | Event::Started(_) | Event::Progress(_) => {}
            // No generation says these.
            Event::Embedded(_) | Event::Scored(_) => {}
        }
    }
}

/// Reads `events` to their end.
pub async fn gather(events: impl Stream<Item = Result<Event>>, choices: u16) -> Result<Answer> {
    let mut answer = Answer::of(choices);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let event = event?;
        if let Event::Failed(error) = event {
            return Err(error);
        }
        let ended = matches!(event, Event::Finished(_));
        answer.absorb(event);
        if ended {
            return Ok(answer);
        }
    }
    Err(Error::internal("The daemon's events ended without saying how."))
}

/// Adds more of a call to the calls it belongs to.
pub fn join(calls: &mut Vec<ToolCallDelta>, delta: ToolCallDelta) {
    match calls.iter_mut().find(|call| call.index == delta.index) {
        Some(call) => call.arguments.push_str(&delta.arguments),
        None => calls.push(delta),
    }
}

#[cfg(test)]
mod tests {
    use protocol::generation::{ChoiceFinished, Finished, Started};

    use super::*;

    fn run(events: Vec<Event>) -> Result<Answer> {
        futures::executor::block_on(gather(futures::stream::iter(events.into_iter().map(Ok)), 2))
    }

    fn text(choice: u16, text: &str) -> Event {
        Event::Delta(Delta { choice, text: text.into(), tokens: 1, ..Delta::default() })
    }

    #[test]
    fn interleaved_choices_are_kept_apart() {
        let finished = |choice| ChoiceFinished { choice, reason: FinishReason::Stop, stop_string: None };
        let answer = run(vec![
            Event::Started(Started { model: "m".into(), prompt_tokens: 1, seed: 0, max_tokens: 1 }),
            text(0, "a"),
            text(1, "x"),
            text(0, "b"),
            Event::ChoiceFinished(finished(0)),
            Event::ChoiceFinished(finished(1)),
            Event::Finished(Finished::default()),
        ]);
        let texts: Vec<_> = answer.unwrap().choices.into_iter().map(|choice| choice.text).collect();
        assert_eq!(texts, ["ab", "x"]);
    }

    #[test]
    fn tool_call_deltas_join_by_index() {
        let call = |index, id: Option<&str>, arguments: &str| ToolCallDelta {
            index,
            id: id.map(Into::into),
            name: id.map(Into::into),
            arguments: arguments.into(),
        };
        let delta = |calls| Event::Delta(Delta { tool_calls: calls, ..Delta::default() });
        let answer = run(vec![
            delta(vec![call(0, Some("a"), "{")]),
            delta(vec![call(0, None, "}"), call(1, Some("b"), "[]")]),
            Event::Finished(Finished::default()),
        ]);
        let calls = answer.unwrap().choices.swap_remove(0).tool_calls;
        assert_eq!(calls, [call(0, Some("a"), "{}"), call(1, Some("b"), "[]")]);
    }

    #[test]
    fn a_failure_after_text_is_a_failure() {
        let failed = Event::Failed(Error::internal("gone"));
        assert_eq!(run(vec![text(0, "a"), failed]).unwrap_err().message, "gone");
        assert!(run(vec![text(0, "a")]).is_err());
    }
}
