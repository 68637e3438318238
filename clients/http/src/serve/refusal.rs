//! Gives a body and an id to what the HTTP library refuses by itself: heads that are too large or no HTTP.
//!
//! Such refusals never reach a handler; they are written to the connection as a head without a body. This stream
//! recognises one by its lack of a request id, which every answer of ours carries, and writes ours in its place. What its
//! client still sends is then read for a moment and dropped: a connection that is closed over unread bytes is cut, and
//! takes the refusal with it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::{error, request_id};

/// How a client begins that takes HTTP/2 for granted.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the rest of what was refused is read.
const LINGER: Duration = Duration::from_secs(1);

/// A connection whose bare refusals get a body.
#[derive(Debug)]
pub struct Explained<S> {
    stream: S,
    /// Whether anything was read.
    begun: bool,
    /// What replaces a refusal, how much of it is written, and how long the refusal was.
    answer: Option<(Vec<u8>, usize, usize)>,
    refused: bool,
    /// When the rest is left unread, once it is being read.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Explained<S> {
    /// Wraps a connection.
    pub fn new(stream: S) -> Self {
        Self { stream, begun: false, answer: None, refused: false, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let held = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = &mut buffer.filled_mut()[held..];
        // The library would close without a word; what is no beginning of HTTP/2 either, it refuses.
        if !std::mem::replace(&mut self.begun, true) && read.starts_with(HTTP_2) {
            read[0] = b'X';
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> Explained<S> {
    /// Reads what still comes and drops it, until its end or for as long as that may take.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        while end.as_mut().poll(cx).is_pending() {
            let mut dropped = [0; 4096];
            let mut buffer = ReadBuf::new(&mut dropped);
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.answer.is_none() {
            this.answer = explain(bytes).map(|answer| (answer, 0, bytes.len()));
            this.refused |= this.answer.is_some();
        }
        let Some((answer, written, replaced)) = &mut this.answer else {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        };
        while *written < answer.len() {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, &answer[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        let replaced = *replaced;
        this.answer = None;
        Poll::Ready(Ok(replaced))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.refused {
            ready!(self.poll_rest(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns what to say in place of a bare refusal; `None` for everything else.
fn explain(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let (line, headers) = head.split_once("\r\n")?;
    let code: u16 = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = headers.to_ascii_lowercase();
    if !(400..500).contains(&code) || headers.contains("x-request-id") || !headers.contains("content-length: 0") {
        return None;
    }
    let (message, hint) = match code {
        431 => ("The head of the request is too large.", "Send fewer or shorter headers."),
        414 => ("The address of the request is too long.", "Send long values in the body."),
        _ => ("This is no HTTP request that can be read.", "Send HTTP/1.1; for TLS use a bridge that has it."),
    };
    let id = request_id::fresh();
    let error = Error::new(ErrorKind::Invalid, message).hint(hint);
    let body = serde_json::to_string(&error::body_as(&error, code, Some(id.clone()))).ok()?;
    let about = "content-type: application/json\r\nx-content-type-options: nosniff\r\nconnection: close";
    let length = body.len();
    Some(format!("{line}\r\n{about}\r\nx-request-id: {id}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const BARE: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_bare_refusal_gets_a_body_and_an_id_through_any_buffer() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut stream = Explained::new(near);
        let write = async move {
            stream.write_all(BARE).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let mut answer = String::new();
        let (_, read) = tokio::join!(write, far.read_to_string(&mut answer));
        read.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 431);
        assert!(head.contains(&format!("x-request-id: {}", body["request_id"].as_str().unwrap())), "{head}");
    }

    #[test]
    fn everything_else_passes_untouched() {
        let ours = "HTTP/1.1 404 Not Found\r\nx-request-id: req_1\r\ncontent-length: 0\r\n\r\n";
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let body = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno";
        for bytes in [ours, good, body, "", "HTTP/1.1 4", "data: HTTP/1.1 400\r\n\r\n"] {
            assert_eq!(explain(bytes.as_bytes()), None, "{bytes}");
        }
        assert_eq!(explain(b"\xff\xfe\r\n\r\n"), None);
    }
}
