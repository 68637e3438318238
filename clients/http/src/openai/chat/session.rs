//! How a chat request goes on from its session: what was said in it is put before the request's own messages, and read as
//! strictly as those. What is kept, and how, is `sessions`' business.

use protocol::Error;
use protocol::client::Client;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{MessageBody, Own, message};
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
        let memory = Memory::read(client.clone(), id, messages).await?;
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
    read_messages(messages)?.into_iter().enumerate().try_for_each(|(at, body)| message(at, body).map(drop))
}
