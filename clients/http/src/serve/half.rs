//! Gives clients that close their half of a connection as soon as they have asked, as scripts do, the time to be answered.
//!
//! The end of what a client sends looks the same whether it waits for an answer or is gone, and whoever is gone must not keep
//! a model at work. So where an answer is owed the end is told late to whoever said that this was its last request, and a
//! little late to others; where one has begun, or none is owed, at once.
//! It never reads what passes through. `serve` wraps every connection in it, and says when a request begins: several may
//! have come in one piece, of which each is owed an answer after that of the one before.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Request, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How late for whoever asks for nothing more, or for what takes no time.
const GRACE: Duration = Duration::from_secs(1);
/// How late for others, for whom a model may be at work: about a step of it.
const BRIEF: Duration = Duration::from_millis(100);

/// Whether an answer is owed, as milliseconds that the end is late for it: something came, or was begun with, after what was
/// last answered.
#[derive(Clone, Debug, Default)]
pub struct Owed(Arc<AtomicU64>);

impl Owed {
    /// Says that this request is begun with.
    pub fn begin<B>(&self, request: &Request<B>) {
        let says_last = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
        let last = request.version() < Version::HTTP_11
            || request.method() != Method::POST
            || request.headers().get_all(CONNECTION).iter().any(says_last);
        self.set(if last { GRACE } else { BRIEF });
    }

    fn set(&self, late: Duration) {
        self.0.store(late.as_millis() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A connection whose other half may be closed.
#[derive(Debug)]
pub struct Halves<S> {
    stream: S,
    owed: Owed,
    /// When the end is told, once it has come.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Halves<S> {
    /// Wraps a connection.
    pub fn new(stream: S, owed: Owed) -> Self {
        Self { stream, owed, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Halves<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            let held = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            if buffer.filled().len() > held {
                self.owed.set(GRACE);
                return Poll::Ready(Ok(()));
            }
            if self.owed.get().is_zero() {
                return Poll::Ready(Ok(()));
            }
        }
        let late = self.owed.get();
        self.end.get_or_insert_with(|| Box::pin(sleep(late))).as_mut().poll(cx).map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Halves<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.owed.set(Duration::ZERO);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    /// A request.
    fn request(method: &str, connection: &str) -> Request<()> {
        Request::builder().method(method).header(CONNECTION, connection).body(()).unwrap()
    }

    /// Returns how long after a client's end it is told, where so much was asked and so much answered, and perhaps more
    /// that came with it begun.
    async fn lateness(asked: &[u8], answered: &[u8], begins: Option<Request<()>>) -> Duration {
        let (near, mut far) = tokio::io::duplex(64);
        let owed = Owed::default();
        let mut stream = Halves::new(near, owed.clone());
        far.write_all(asked).await.unwrap();
        stream.read_exact(&mut vec![0; asked.len()]).await.unwrap();
        stream.write_all(answered).await.unwrap();
        begins.iter().for_each(|request| owed.begin(request));
        far.shutdown().await.unwrap();
        let before = Instant::now();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        before.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_late_only_to_whoever_owes_an_answer() {
        assert!(lateness(b"GET", b"", None).await >= GRACE);
        assert!(lateness(b"GETGET", b"HTTP", Some(request("GET", "keep-alive"))).await >= GRACE);
        assert!(lateness(b"POST", b"", Some(request("POST", "Close"))).await >= GRACE);
        let kept = lateness(b"POST", b"", Some(request("POST", "keep-alive"))).await;
        assert!((BRIEF..GRACE).contains(&kept), "{kept:?}");
        assert_eq!(lateness(b"GET", b"HTTP", None).await, Duration::ZERO);
        assert_eq!(lateness(b"", b"", None).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_can_be_written_meanwhile() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = Halves::new(near, Owed::default());
        far.write_all(b"GET").await.unwrap();
        far.shutdown().await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        let mut rest = [0; 8];
        assert!(futures::poll!(Box::pin(stream.read(&mut rest))).is_pending());
        stream.write_all(b"HTTP").await.unwrap();
        drop(stream);
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HTTP");
    }
}
