//! How a chat request goes on from its session: what was said in it is put before the request's own messages, and read as
//! strictly as those. What is kept, and how, is `sessions`' business.

use protocol::Error;
use protocol::client::Client;
use protocol::generation::Ending;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::begun::check_whole;
use super::{MessageBody, Own, turns};
use crate::body::{Members, part};
use crate::openai::sessions::Memory;

/// What a session has to do with, as it was sent.
#[derive(Deserialize, ToSchema)]
pub(super) struct Sent {
    messages: Vec<Value>,
    session_id: Option<String>,
}

impl Own {
    /// Puts what was said in the request's session before its messages; returns the session, to be added to.
    pub(super) async fn go_on(
        &mut self,
        members: &Members,
        client: &Client,
        choices: u16,
    ) -> Result<Option<Memory>, Error> {
        let Sent { messages, session_id } = members.part()?;
        let Some(id) = session_id else { return Ok(None) };
        if choices != 1 {
            return Err(Error::invalid("n", "A request with a 'session_id' has one answer: 'n' must be 1."));
        }
        let goes_on = self.ending()? == Ending::LastMessage;
        if goes_on && messages.is_empty() {
            let message = "What a session holds is whole: send the message that is to be continued.";
            return Err(Error::invalid("messages", message));
        }
        let mut memory = Memory::read(client.clone(), id, messages).await?;
        if goes_on {
            // It is kept with the answer, as one message.
            memory.said.pop();
        }
        let history = read_messages(&memory.history)?;
        self.messages.splice(0..0, history);
        Ok(Some(memory))
    }
}

/// Reads messages that stand in a list of their own.
fn read_messages(messages: &[Value]) -> Result<Vec<MessageBody>, Error> {
    let read = |(at, message): (usize, &Value)| match message {
        Value::Object(object) => part(&format!("messages[{at}]"), object.clone()),
        _ => Err(Error::invalid(format!("messages[{at}]"), "A message must be an object.")),
    };
    messages.iter().enumerate().map(read).collect()
}

/// Refuses messages that a chat request could not say.
pub fn check_messages(messages: &[Value]) -> Result<(), Error> {
    let bodies = read_messages(messages)?;
    check_whole(&bodies)?;
    turns(bodies).map(drop)
}
