//! Chat requests whose answer goes on with what was begun: the last message, which is the assistant's. OpenAI opens a new
//! turn after it, and so does Impetus unless the request says otherwise, as vLLM's clients or as Mistral's do. The answer holds
//! only what follows; a session keeps both as one message.

use protocol::Error;
use protocol::generation::{Ending, GenerateRequest, Message, Prompt};

use super::{MessageBody, Own};
use crate::answer::Choice;

impl Own {
    /// Where the prompt ends; the last message may itself say that it is to be continued.
    pub(super) fn ending(&self) -> Result<Ending, Error> {
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
pub fn check_whole(messages: &[MessageBody]) -> Result<(), Error> {
    let Some(at) = messages.iter().position(|body| body.prefix == Some(true)) else { return Ok(()) };
    let param = format!("messages[{at}].prefix");
    Err(Error::invalid(&param, format!("'{param}' is true; only the last message of a request can be continued.")))
}

/// The message that the answer goes on with.
pub fn begun(request: &GenerateRequest) -> Option<Message> {
    match &request.prompt {
        Prompt::Chat(chat) if chat.ending == Ending::LastMessage => chat.messages.last().cloned(),
        _ => None,
    }
}

/// What is said in all, where an answer goes on with what was begun.
pub fn after(begun: Option<&Message>, choice: Choice) -> Choice {
    let Some(begun) = begun else { return choice };
    let reasoning = begun.reasoning.clone().unwrap_or_default() + &choice.reasoning;
    Choice { text: format!("{}{}", begun.content, choice.text), reasoning, ..choice }
}
