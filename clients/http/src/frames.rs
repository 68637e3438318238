//! The loop that every stream shares: a generation's events in, a dialect's frames out, until its one end.
//!
//! A dialect says what its frames look like; this module says when they come and that something ends every stream,
//! whatever happens to the daemon. Dropping the stream drops the events, which cancels the work.

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use protocol::generation::Finished;
use protocol::transcript::Event;
use protocol::{Error, Result};

/// How a dialect writes a generation; empty frames are not sent.
pub trait Writer: Send + 'static {
    /// What is sent for an event before the end.
    fn event(&mut self, event: Event) -> Bytes;
    /// What is sent when the work went well; nothing follows.
    fn finished(&mut self, finished: Finished) -> Bytes;
    /// What is sent when the work failed; nothing follows.
    fn failed(&mut self, error: &Error) -> Bytes;
}

/// Returns `opening`, then what `writer` makes of `events`, up to their end.
pub fn frames<E, W>(opening: Bytes, events: E, writer: W) -> impl Stream<Item = Bytes> + Send + 'static
where
    E: Stream<Item = Result<Event>> + Send + Unpin + 'static,
    W: Writer,
{
    let rest = stream::unfold((events, Some(writer)), |(mut events, writer)| async move {
        let mut writer = writer?;
        let (frame, goes_on) = match events.next().await {
            Some(Ok(Event::Finished(finished))) => (writer.finished(finished), false),
            Some(Ok(Event::Failed(error)) | Err(error)) => (writer.failed(&error), false),
            Some(Ok(event)) => (writer.event(event), true),
            None => (writer.failed(&Error::internal("The daemon's events ended without saying how.")), false),
        };
        Some((frame, (events, goes_on.then_some(writer))))
    });
    stream::iter([opening]).chain(rest).filter(|frame| std::future::ready(!frame.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letters;

    impl Writer for Letters {
        fn event(&mut self, event: Event) -> Bytes {
            if let Event::Delta(delta) = event { delta.text.into() } else { Bytes::new() }
        }
        fn finished(&mut self, _: Finished) -> Bytes {
            "end".into()
        }
        fn failed(&mut self, error: &Error) -> Bytes {
            error.message.clone().into()
        }
    }

    fn write(events: Vec<Result<Event>>) -> Vec<Bytes> {
        let frames = frames("open".into(), stream::iter(events), Letters);
        futures::executor::block_on(frames.collect())
    }

    fn text(text: &str) -> Result<Event> {
        Ok(Event::Delta(protocol::generation::Delta { text: text.to_owned(), ..Default::default() }))
    }

    #[test]
    fn nothing_follows_an_end_and_silence_is_not_sent() {
        let events = vec![text("a"), text(""), Ok(Event::Finished(Finished::default())), text("b")];
        assert_eq!(write(events), ["open", "a", "end"]);
        let failed = || Error::internal("gone");
        assert_eq!(write(vec![text("a"), Ok(Event::Failed(failed())), text("b")]), ["open", "a", "gone"]);
        assert_eq!(write(vec![Err(failed()), text("b")]), ["open", "gone"]);
    }

    #[test]
    fn events_that_just_stop_are_a_failure() {
        let frames = write(vec![text("a")]);
        assert_eq!(frames[..2], ["open", "a"]);
        assert!(frames[2].starts_with(b"The daemon's events ended"));
    }
}
