//! The turns of a conversation in their order: what a tool gave back answers a call that stands before it. Requests are read
//! with it, and messages that a session is to begin with.

use std::collections::HashSet;

use protocol::Error;
use protocol::generation::{Message, Role};

use super::{MessageBody, message};

/// Returns the turns of a conversation; refuses a result that answers no call before it.
pub(super) fn turns(bodies: Vec<MessageBody>) -> Result<Vec<Message>, Error> {
    let (mut turns, mut called) = (Vec::with_capacity(bodies.len()), HashSet::new());
    for (at, body) in bodies.into_iter().enumerate() {
        let turn = message(at, body)?;
        if turn.role == Role::Tool && !turn.tool_call_id.as_ref().is_some_and(|id| called.contains(id)) {
            let at = format!("messages[{at}].tool_call_id");
            let message = match &turn.tool_call_id {
                Some(id) => format!("'{at}' is '{id}', which no tool call before it has."),
                None => format!("A message of the role 'tool' names the call that it answers: '{at}' is missing."),
            };
            return Err(Error::invalid(at, message));
        }
        called.extend(turn.tool_calls.iter().map(|call| call.id.clone()));
        turns.push(turn);
    }
    Ok(turns)
}
