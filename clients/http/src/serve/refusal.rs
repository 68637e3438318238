//! Gives a body and an id to what the HTTP library refuses by itself: heads that are too large or no HTTP.
//!
//! Such refusals never reach a handler; they are written to the connection as a head without a body. This stream
//! recognises one by its lack of a request id, which every answer of ours carries, and writes ours in its place.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use protocol::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::daemon::random_hex;
use crate::error;

/// A connection whose bare refusals get a body.
#[derive(Debug)]
pub struct Explained<S> {
    stream: S,
    /// What replaces a refusal, how much of it is written, and how long the refusal was.
    answer: Option<(Vec<u8>, usize, usize)>,
}

impl<S> Explained<S> {
    /// Wraps a connection.
    pub fn new(stream: S) -> Self {
        Self { stream, answer: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.answer.is_none() {
            this.answer = explain(bytes).map(|answer| (answer, 0, bytes.len()));
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
    let id = format!("req_{}", random_hex(12));
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
