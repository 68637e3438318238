//! Begins a generation for dialects whose clients ask for more tokens than fit: they mean "as many as there is room for".
//!
//! Only the worker knows how long a prompt is, so it is asked for fewer where there is no room for all. No prompt is ever cut.
//! Batches say here how long their requests may take.

use futures::StreamExt;
use futures::stream::BoxStream;
use protocol::client::Client;
use protocol::generation::{GenerateRequest, Started, Stop};
use protocol::transcript::Event;
use protocol::{Error, Result};
use tokio::time::Instant;

use crate::{request_id, unsaid};

/// What a generation says.
type Events = BoxStream<'static, Result<Event>>;

tokio::task_local! {
    static END: Instant;
}

/// Does work whose requests may each take until `end`, whatever their endpoints give them.
pub async fn until<F: Future>(end: Instant, work: F) -> F::Output {
    END.scope(end, work).await
}

/// For how long a request may take, in milliseconds, where that is said; never 0.
pub fn left_ms() -> Option<u64> {
    let left = END.try_with(|end| end.saturating_duration_since(Instant::now())).ok()?;
    Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// A generation whose prompt was accepted.
pub struct Begun {
    /// What its first event said.
    pub started: Started,
    /// What comes after it.
    pub events: Events,
    /// Whether it gets fewer tokens than were asked for, because the context holds no more.
    pub capped: bool,
}

/// A generation that its key may have, whose prompt is still to be accepted.
pub struct Admitted {
    asked: Option<u32>,
    events: Events,
}

/// Begins a generation and waits until its prompt is accepted; refusals keep their kind.
pub async fn begin(client: &Client, request: GenerateRequest) -> Result<Begun> {
    admit(client, request).await?.begin().await
}

/// Has a generation charged to its key, and begun.
pub async fn admit(client: &Client, request: GenerateRequest) -> Result<Admitted> {
    let asked = request.stop.max_tokens;
    let stop = Stop { or_fewer: true, ..request.stop };
    let request = GenerateRequest { stop, deadline_ms: left_ms().or(request.deadline_ms), ..request };
    let (choices, judged) = (request.choices, request.logprobs.is_some());
    let events = client.generate(request).await?;
    let events = if judged { unsaid::with_their_text(events, choices) } else { events.boxed() };
    Ok(Admitted { asked, events })
}

impl Admitted {
    /// Waits until its prompt is accepted.
    pub async fn begin(mut self) -> Result<Begun> {
        while let Some(event) = self.events.next().await {
            match event? {
                Event::Started(started) => {
                    request_id::note_begun();
                    let capped = self.asked.is_some_and(|asked| started.max_tokens < asked);
                    return Ok(Begun { started, events: self.events, capped });
                }
                Event::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Err(Error::internal("The daemon ended the answer before it began."))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_with_an_end_has_the_time_that_is_left() {
        let end = Instant::now() + Duration::from_secs(2);
        let left = until(end, async {
            tokio::time::advance(Duration::from_secs(1)).await;
            let before = left_ms();
            tokio::time::advance(Duration::from_secs(9)).await;
            (before, left_ms())
        });
        assert_eq!(left.await, (Some(1_000), Some(1)));
        assert_eq!(left_ms(), None);
    }
}
