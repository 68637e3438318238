//! A transcript as a stream of events: reads ahead of nobody, reads again what was lost, cancels what was dropped.
//!
//! Each item is an event, or the error that ended the work: a `Failed` event becomes that error. After the end of the
//! transcript, or after an error, the stream is over.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;

use super::Client;
use crate::transcript::{Cursor, Event, Page, ReadRequest, TranscriptId};
use crate::{ErrorKind, Result};

/// How long one read waits for a first event.
const WAIT_MS: u32 = 20_000;

/// How many replies in a row may be lost.
const LOST_MAX: u32 = 3;

/// The events of one transcript. Dropping it before the end cancels the work.
pub struct EventStream {
    client: Client,
    id: TranscriptId,
    cursor: Cursor,
    events: VecDeque<Event>,
    reading: Option<BoxFuture<'static, Result<Page>>>,
    lost: u32,
    ended: bool,
}

impl EventStream {
    pub(super) fn new(client: Client, id: TranscriptId) -> Self {
        Self { client, id, cursor: Cursor::default(), events: VecDeque::new(), reading: None, lost: 0, ended: false }
    }

    /// Returns the transcript's id.
    pub fn id(&self) -> TranscriptId {
        self.id
    }

    /// Asks for the next page and waits for it.
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<Page>> {
        let (client, request) = (&self.client, ReadRequest { id: self.id, cursor: self.cursor, wait_ms: WAIT_MS });
        let reading = self.reading.get_or_insert_with(|| {
            let client = client.clone();
            Box::pin(async move { client.read(request).await })
        });
        let page = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(page)
    }

    /// Ends the stream with the error of a read, unless reading again may help.
    fn fail(&mut self, error: crate::Error) -> Result<()> {
        self.lost += 1;
        if error.kind == ErrorKind::DeadlineExceeded && self.lost <= LOST_MAX {
            return Ok(());
        }
        // The daemon has no such work any more; there is nothing left to cancel.
        self.ended = matches!(error.kind, ErrorKind::Unreachable | ErrorKind::NotFound);
        Err(error)
    }
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.events.pop_front() {
                Some(Event::Failed(error)) => return Poll::Ready(Some(Err(error))),
                Some(event) => return Poll::Ready(Some(Ok(event))),
                None if this.ended => return Poll::Ready(None),
                None => {}
            }
            match ready!(this.poll_page(cx)) {
                Ok(page) => {
                    this.lost = 0;
                    this.cursor = page.next;
                    this.ended = page.ended;
                    this.events.extend(page.events);
                }
                Err(error) => {
                    if let Err(error) = this.fail(error) {
                        this.finish();
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }
}

impl EventStream {
    /// Ends the stream and, if the daemon may still be at it, the work.
    fn finish(&mut self) {
        self.reading = None;
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // Without a runtime there is no connection either, and the daemon cancels what a lost connection began.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, id) = (self.client.clone(), self.id);
            runtime.spawn(async move { client.cancel(id).await });
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("id", &self.id).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}
