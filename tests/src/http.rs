//! Raw HTTP/1.1 over a TCP socket: nothing is hidden, so headers, chunks and broken requests can be looked at.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wait::LIMIT;

/// A bridge and a key to it.
#[derive(Clone, Debug)]
pub struct Http {
    authority: String,
    key: String,
}

/// An answer whose body may still be coming.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
}

impl Http {
    /// Will speak to `authority` (host and port) with `key`.
    pub fn new(authority: &str, key: &str) -> Self {
        Self { authority: authority.to_owned(), key: key.to_owned() }
    }

    /// Returns host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Gets a path with the key.
    pub async fn get(&self, path: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n", self.authority, self.key);
        self.raw(&format!("{head}Connection: close\r\n\r\n")).await
    }

    /// Deletes what is at a path, with the key.
    pub async fn delete(&self, path: &str) -> Answer {
        let head =
            format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n", self.authority, self.key);
        self.raw(&format!("{head}Connection: close\r\n\r\n")).await
    }

    /// Posts JSON to a path with the key.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string()).await
    }

    /// Sends JSON to a path with a method of its own, and the key.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send_text(method, path, &body.to_string()).await
    }

    /// Posts a body that need not be JSON.
    pub async fn post_text(&self, path: &str, body: &str) -> Answer {
        self.send_text("POST", path, body).await
    }

    async fn send_text(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_as(method, path, "application/json", body).await
    }

    /// Sends a body of whatever type, with the key.
    pub async fn send_as(&self, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n", self.authority, self.key);
        let about =
            format!("Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        self.raw(&format!("{head}{about}{body}")).await
    }

    /// Sends bytes as they are and reads the head of the answer.
    pub async fn raw(&self, request: &str) -> Answer {
        let work = async {
            let mut stream = TcpStream::connect(&self.authority).await.expect("the bridge listens");
            stream.write_all(request.as_bytes()).await.expect("the bridge reads");
            Answer::read(BufReader::new(stream)).await
        };
        timeout(LIMIT, work).await.expect("the bridge answers in time")
    }
}

impl Answer {
    async fn read(mut body: BufReader<TcpStream>) -> Self {
        let mut line = String::new();
        body.read_line(&mut line).await.expect("there is a status line");
        let status =
            line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("status line {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            body.read_line(&mut line).await.expect("there are headers");
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Self { status, headers, body },
            }
        }
    }

    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads the whole body.
    pub async fn text(mut self) -> String {
        let chunked = self.header("transfer-encoding") == Some("chunked");
        let mut bytes = Vec::new();
        let work = async {
            if !chunked {
                self.body.read_to_end(&mut bytes).await.expect("the body comes");
                return;
            }
            while let Some(chunk) = chunk(&mut self.body).await {
                bytes.extend(chunk);
            }
        };
        timeout(LIMIT, work).await.expect("the body ends in time");
        String::from_utf8(bytes).expect("bodies are UTF-8")
    }

    /// Reads the whole body as JSON.
    pub async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text:?}"))
    }

    /// Reads the next frame of an event stream, without its blank line; `None` at the end.
    pub async fn frame(&mut self) -> Option<String> {
        let bytes = timeout(LIMIT, chunk(&mut self.body)).await.expect("the next frame comes in time")?;
        Some(String::from_utf8(bytes).expect("frames are UTF-8").trim_end().to_owned())
    }

    /// Reads an event stream to its end: its `data:` payloads, `[DONE]` included.
    pub async fn events(self) -> Vec<String> {
        let text = self.text().await;
        text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

async fn chunk(body: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    body.read_line(&mut line).await.expect("there is a chunk");
    let length = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("chunk length {line:?}"));
    let mut bytes = vec![0; length + 2];
    body.read_exact(&mut bytes).await.expect("the chunk is whole");
    bytes.truncate(length);
    (length > 0).then_some(bytes)
}
