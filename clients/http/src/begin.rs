//! Begins a generation for dialects whose clients ask for more tokens than fit: they mean "as many as there is room for".
//!
//! Only the worker knows how long a prompt is, so it is asked twice at most: once as the client said, and, where only
//! `max_tokens` was too much, once for what the context leaves. No prompt is ever cut.

use futures::StreamExt;
use protocol::client::{Client, EventStream};
use protocol::generation::{GenerateRequest, Started};
use protocol::transcript::Event;
use protocol::{Error, ErrorKind, Result};

/// A generation whose prompt was accepted.
#[derive(Debug)]
pub struct Begun {
    /// What its first event said.
    pub started: Started,
    /// What comes after it.
    pub events: EventStream,
    /// Whether it gets fewer tokens than were asked for, because the context holds no more.
    pub capped: bool,
}

/// Begins a generation and waits until its prompt is accepted; refusals keep their kind.
pub async fn begin(client: &Client, mut request: GenerateRequest) -> Result<Begun> {
    let wanted = request.stop.max_tokens;
    match accepted(client, request.clone()).await {
        Err(error) if wanted.is_some() && only_max_tokens(&error) => {
            request.stop.max_tokens = None;
            let (started, events) = accepted(client, request).await?;
            Ok(Begun { started, events, capped: true })
        }
        Err(error) => Err(error),
        Ok((started, events)) => Ok(Begun { started, events, capped: false }),
    }
}

fn only_max_tokens(error: &Error) -> bool {
    error.kind == ErrorKind::ContextLengthExceeded && error.param.as_deref() == Some("max_tokens")
}

async fn accepted(client: &Client, request: GenerateRequest) -> Result<(Started, EventStream)> {
    let mut events = client.generate(request).await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Started(started) => return Ok((started, events)),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Err(Error::internal("The daemon ended the answer before it began."))
}
