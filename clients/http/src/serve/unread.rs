//! Knows which clients do not read what they are sent, and ends the one that has read nothing for longest where all places
//! are taken.
//!
//! Who reads slowly, or stops for an hour, looks the same as who never reads again; so while there is room nobody is cut, and
//! a connection that nobody reads costs its place and what is buffered for it. It never looks at what passes through.
//! `serve` wraps every connection in it, and asks it for a place where there is none.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The connections whose clients have something to read and leave it; clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<Mutex<Waits>>);

/// Since when each waits for its client, in that order, and what ends it.
#[derive(Debug, Default)]
struct Waits {
    begun: u64,
    since: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Unread {
    /// Ends the connection that has waited longest for its client, if that is at least `patience`.
    pub fn end_longest(&self, patience: Duration) {
        if let Some(longest) = self.lock().since.first_entry()
            && longest.get().0.elapsed() >= patience
        {
            longest.remove().1.notify_one();
        }
    }

    fn begin(&self, end: &Arc<Notify>) -> u64 {
        let mut waits = self.lock();
        waits.begun += 1;
        let number = waits.begun;
        waits.since.insert(number, (Instant::now(), end.clone()));
        number
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is known while it waits for its client to read.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    unread: Unread,
    end: Arc<Notify>,
    /// The wait that goes on.
    wait: Option<u64>,
}

impl<S> Watched<S> {
    /// Wraps a connection, which is to end once it is told to through `end`.
    pub fn new(stream: S, unread: Unread, end: Arc<Notify>) -> Self {
        Self { stream, unread, end, wait: None }
    }

    /// Notes whether what was tried waits for the client.
    fn note<T>(&mut self, tried: Poll<T>) -> Poll<T> {
        match (tried.is_pending(), self.wait) {
            (true, None) => self.wait = Some(self.unread.begin(&self.end)),
            (false, Some(_)) => self.forget(),
            _ => {}
        }
        tried
    }

    fn forget(&mut self) {
        if let Some(number) = self.wait.take() {
            self.unread.lock().since.remove(&number);
        }
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(shut)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A connection with eight bytes of room, what ends it, and its client.
    fn connection(unread: &Unread) -> (Watched<DuplexStream>, Arc<Notify>, DuplexStream) {
        let (near, far) = tokio::io::duplex(8);
        let end = Arc::new(Notify::new());
        (Watched::new(near, unread.clone(), end.clone()), end, far)
    }

    /// Writes as much as there is room for, and more.
    fn fill(stream: &mut Watched<DuplexStream>) {
        assert!(stream.write_all(&[0; 16]).now_or_never().is_none(), "there is no room for so much");
    }

    fn told(end: &Notify) -> bool {
        end.notified().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_read_nothing_for_longest_goes_first_and_nobody_goes_early() {
        let unread = Unread::default();
        let (mut first, first_end, _far) = connection(&unread);
        let (mut second, second_end, _other_far) = connection(&unread);
        fill(&mut first);
        advance(PATIENCE / 2).await;
        fill(&mut second);
        advance(PATIENCE / 2 - Duration::from_millis(1)).await;
        unread.end_longest(PATIENCE);
        assert!(!told(&first_end));
        advance(Duration::from_millis(1)).await;
        unread.end_longest(PATIENCE);
        unread.end_longest(PATIENCE);
        assert!(told(&first_end) && !told(&second_end));
        advance(PATIENCE / 2).await;
        unread.end_longest(PATIENCE);
        assert!(told(&second_end));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_reads_or_is_gone_has_no_place_to_lose() {
        let unread = Unread::default();
        let (mut slow, slow_end, mut far) = connection(&unread);
        let (mut gone, _, _far) = connection(&unread);
        fill(&mut slow);
        fill(&mut gone);
        drop(gone);
        advance(PATIENCE).await;
        far.read_u8().await.unwrap();
        fill(&mut slow);
        unread.end_longest(PATIENCE);
        assert!(!told(&slow_end), "it has read a byte");
        far.read_exact(&mut [0; 8]).await.unwrap();
        slow.write_u8(0).await.unwrap();
        advance(PATIENCE).await;
        unread.end_longest(PATIENCE);
        assert!(!told(&slow_end), "nothing waits for it");
    }
}
