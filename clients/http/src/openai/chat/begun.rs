//! Chat requests whose answer goes on with what was begun: the last message, which is the assistant's. OpenAI opens a new
//! turn after it, and so does Impetus unless the request says otherwise, as vLLM's clients or as Mistral's do. The answer holds
//! only what follows; a session keeps both as one message.

use futures::{Stream, StreamExt, stream};
use protocol::generation::{Delta, Ending, GenerateRequest, Message, Prompt};
use protocol::transcript::Event;
use protocol::{Error, Result};

use super::{MessageBody, Own};
use crate::answer::Choice;

impl Own {
    /// Where the prompt ends; the last message may itself say that it is to be continued.
    pub(super) fn ending(&self) -> Result<Ending> {
        let marked = match self.messages.split_last() {
            Some((last, earlier)) => {
                check_whole(earlier)?;
                last.prefix == Some(true)
            }
            None => false,
        };
        match (marked || self.continue_final_message == Some(true), self.add_generation_prompt) {
            (true, Some(true)) => {
                let message = "'add_generation_prompt' begins a new turn, and the last message is to be continued.";
                Err(Error::invalid("add_generation_prompt", message))
            }
            (true, _) => Ok(Ending::LastMessage),
            (false, Some(false)) => Ok(Ending::Closed),
            (false, _) => Ok(Ending::NewTurn),
        }
    }
}

/// Refuses messages that say they are to be continued, where none can be.
pub fn check_whole(messages: &[MessageBody]) -> Result<()> {
    let Some(at) = messages.iter().position(|body| body.prefix == Some(true)) else { return Ok(()) };
    let param = format!("messages[{at}].prefix");
    Err(Error::invalid(&param, format!("'{param}' is true; only the last message of a request can be continued.")))
}

/// What an answer goes on with, and whether it is said again.
#[derive(Clone)]
pub struct Continued {
    begun: Option<Message>,
    echo: bool,
}

impl Continued {
    /// Returns what the answer to a request goes on with; an `echo` of nothing is refused.
    pub fn of(request: &GenerateRequest, echo: Option<bool>) -> Result<Self> {
        let begun = match &request.prompt {
            Prompt::Chat(chat) if chat.ending == Ending::LastMessage => chat.messages.last().cloned(),
            _ => None,
        };
        let echo = echo.unwrap_or(false);
        if echo && begun.is_none() {
            let message = "'echo' says a message again that is to be continued, and there is none.";
            return Err(Error::invalid("echo", message));
        }
        Ok(Self { begun, echo })
    }

    /// What is said in all, what was begun included.
    pub fn whole(&self, choice: Choice) -> Choice {
        let Some(begun) = &self.begun else { return choice };
        let reasoning = begun.reasoning.clone().unwrap_or_default() + &choice.reasoning;
        Choice { text: format!("{}{}", begun.content, choice.text), reasoning, ..choice }
    }

    /// Says what was begun before each choice, if it is to be said again.
    pub fn echoed<E>(self, events: E, choices: u16) -> impl Stream<Item = Result<Event>> + Send + Unpin + 'static
    where
        E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
    {
        let text = self.begun.filter(|_| self.echo).map(|begun| begun.content);
        let said = text.into_iter().flat_map(move |text| {
            (0..choices).map(move |choice| Ok(Event::Delta(Delta { choice, text: text.clone(), ..Delta::default() })))
        });
        stream::iter(said).chain(events)
    }
}
