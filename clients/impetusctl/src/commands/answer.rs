//! Asks for an answer and prints it as it comes; `run` and `chat` share it.
//!
//! Ctrl-C cancels the answer, not the program.

use std::io::IsTerminal;

use futures::StreamExt;
use protocol::client::Client;
use protocol::generation::{
    Chat, Constraint, Delta, FinishReason, Finished, GenerateRequest, Message, Missed, Priority, Prompt, Role,
    Sampling, Speculation, Stop, Timing, Usage,
};
use protocol::transcript::Event;
use protocol::{Error, Result};
use serde::Serialize;

use crate::cli::Generation;
use crate::output::{Output, colour, harmless, print};

/// An answer and what it took.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    /// The model that answered.
    pub model: String,
    /// The answer.
    pub text: String,
    /// The reasoning before it.
    pub reasoning: String,
    /// Tool calls, if the model made any.
    pub tool_calls: Vec<protocol::generation::ToolCallDelta>,
    /// Why it ended; `None` if it was cancelled.
    pub finish_reason: Option<FinishReason>,
    /// The seed in use.
    pub seed: u64,
    /// Token counts.
    pub usage: Usage,
    /// Durations in microseconds.
    pub timing: Timing,
    /// How many tokens were guessed ahead, and how many of them were right.
    pub speculation: Speculation,
    /// Why no more of the prompt came from the prefix cache.
    pub missed: Option<Missed>,
    /// Whether it is whole.
    pub ended: Ended,
}

/// Whether an answer is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Ended {
    /// It came to its end.
    #[default]
    Whole,
    /// The user pressed Ctrl-C.
    Cancelled,
}

/// Returns the turns that go before the first question.
pub fn opening(generation: &Generation) -> Vec<Message> {
    generation.system.iter().map(|system| message(Role::System, system.clone())).collect()
}

/// Returns a plain turn.
pub fn message(role: Role, content: String) -> Message {
    Message { role, content, reasoning: None, tool_calls: Vec::new(), tool_call_id: None, name: None }
}

/// What of an answer is printed as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// All of it, the reasoning dimmed where that may be: a person watches, at a terminal that obeys no model.
    All {
        /// Whether there may be colours.
        colour: bool,
    },
    /// The answer alone: a file or a program takes it.
    Answer,
    /// Nothing: it is printed once it is whole.
    Nothing,
}

impl Show {
    /// Decides by who reads standard output.
    pub fn to(output: Output) -> Self {
        match output.json {
            true => Self::Nothing,
            false if std::io::stdout().is_terminal() => Self::All { colour: colour(&std::io::stdout()) },
            false => Self::Answer,
        }
    }
}

/// Asks for an answer, and prints of it what `show` says as it comes.
pub async fn stream(client: &Client, request: GenerateRequest, show: Show) -> Result<Answer> {
    let mut events = client.generate(request).await?;
    let mut answer = Answer::default();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => {
                answer.ended = Ended::Cancelled;
                return Ok(answer);
            }
        };
        match event {
            Some(event) => {
                if answer.take(event?, show)? {
                    return Ok(answer);
                }
            }
            None => return Err(Error::internal("The answer ended without saying how.")),
        }
    }
}

/// Returns the request for an answer to `messages`.
pub fn request(generation: &Generation, messages: Vec<Message>, constraint: Option<Constraint>) -> GenerateRequest {
    GenerateRequest {
        sampling: Sampling { temperature: generation.temperature, seed: generation.seed, ..Sampling::default() },
        stop: Stop { max_tokens: generation.max_tokens, ..Stop::default() },
        priority: Priority::High,
        constraint,
        ..GenerateRequest::new(generation.model.clone(), Prompt::Chat(Chat { messages, ..Chat::default() }))
    }
}

impl Answer {
    /// Takes one event in; returns whether the answer is whole.
    fn take(&mut self, event: Event, show: Show) -> Result<bool> {
        match event {
            Event::Started(started) => {
                self.model = started.model;
                self.seed = started.seed;
            }
            Event::Delta(delta) => {
                print(self.shown(&delta, show))?;
                self.text.push_str(&delta.text);
                self.reasoning.push_str(&delta.reasoning);
                self.tool_calls.extend(delta.tool_calls);
            }
            Event::ChoiceFinished(finished) => self.finish_reason = Some(finished.reason),
            Event::Finished(Finished { usage, timing, speculation, missed }) => {
                (self.usage, self.timing) = (usage, timing);
                (self.speculation, self.missed) = (speculation, missed);
                return Ok(true);
            }
            Event::Failed(error) => return Err(error),
            // No generation says the last two.
            Event::Progress(_) | Event::Embedded(_) | Event::Scored(_) => {}
        }
        Ok(false)
    }

    /// Returns what of `delta` is to be printed; a blank line parts the answer from the reasoning before it.
    fn shown(&self, delta: &Delta, show: Show) -> String {
        let (watched, colour) = match show {
            Show::Nothing => return String::new(),
            Show::Answer => (false, false),
            Show::All { colour } => (true, colour),
        };
        let plain = |text: &str| if watched { harmless(text) } else { text.to_owned() };
        let mut text = String::new();
        if watched && !delta.reasoning.is_empty() {
            let reasoning = plain(&delta.reasoning);
            text += &if colour { format!("\x1b[2m{reasoning}\x1b[0m") } else { reasoning };
        }
        let reasoned = !self.reasoning.is_empty() || !delta.reasoning.is_empty();
        if watched && reasoned && self.text.is_empty() && !delta.text.is_empty() {
            text += "\n\n";
        }
        text += &plain(&delta.text);
        for call in &delta.tool_calls {
            text += &plain(call.name.as_deref().unwrap_or_default());
            text += &plain(&call.arguments);
        }
        text
    }

    /// Returns the speed and the token counts in one line.
    pub fn speed(&self) -> String {
        let first_ms = (self.timing.queue_us + self.timing.prefill_us) as f64 / 1000.0;
        // The first token comes out of the prefill; the others are decoded.
        let decoded = self.usage.completion_tokens.saturating_sub(1);
        let rate = f64::from(decoded) * 1e6 / self.timing.decode_us.max(1) as f64;
        format!(
            "{}: {} prompt tokens ({} cached), {} tokens at {rate:.1} tok/s, first token after {first_ms:.1} ms",
            self.model, self.usage.prompt_tokens, self.usage.cached_tokens, self.usage.completion_tokens,
        ) + &self.guesses()
            + &self.why_missed()
    }

    fn guesses(&self) -> String {
        let Speculation { drafted, accepted } = self.speculation;
        if drafted == 0 { String::new() } else { format!(", {accepted} of {drafted} guesses right") }
    }

    fn why_missed(&self) -> String {
        match self.missed {
            None | Some(Missed::Nothing) => String::new(),
            Some(Missed::New(position)) => format!(", new from token {position} on"),
            Some(Missed::Differs(position)) => format!(", unlike cached prompts from token {position} on"),
            Some(Missed::Evicted(position)) => format!(", evicted from the cache from token {position} on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(reasoning: &str, text: &str) -> Delta {
        Delta { reasoning: reasoning.to_owned(), text: text.to_owned(), ..Delta::default() }
    }

    #[test]
    fn reasoning_is_for_people_who_watch() {
        let mut answer = Answer::default();
        let thought = delta("Hm.", "");
        const ALL: Show = Show::All { colour: true };
        assert_eq!(answer.shown(&thought, ALL), "\x1b[2mHm.\x1b[0m");
        assert_eq!(answer.shown(&thought, Show::All { colour: false }), "Hm.");
        assert_eq!([Show::Answer, Show::Nothing].map(|show| answer.shown(&thought, show)), ["", ""]);
        answer.take(Event::Delta(thought), Show::Nothing).unwrap();
        let said = delta("", "Yes");
        assert_eq!(answer.shown(&said, ALL), "\n\nYes");
        assert_eq!(answer.shown(&said, Show::Answer), "Yes");
        answer.take(Event::Delta(said), Show::Nothing).unwrap();
        assert_eq!(answer.shown(&delta("", "."), ALL), ".");
    }

    #[test]
    fn a_terminal_obeys_no_model() {
        let said = delta("", "a\tb\n\x1b]52;c;ZXZpbA==\x07\u{9b}31mé");
        let answer = Answer::default();
        assert_eq!(answer.shown(&said, Show::All { colour: true }), "a\tb\n]52;c;ZXZpbA==31mé");
        assert_eq!(answer.shown(&said, Show::Answer), said.text, "a program gets what was said");
    }
}
