//! One request over HTTP, read as it streams: what any client of the OpenAI dialect sees, of this house or of a peer.
//!
//! Every prompt is token ids, so that both sides read equally many, and every answer is made of plain letters: each token
//! shows at once on both sides. An error of the server is a value here, as some rows count errors.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::sample::ms;

/// The longest wait for one line: a peer may let a request wait for all others.
const PATIENCE: Duration = Duration::from_secs(600);

/// Tokens whose wish is strong enough that nothing else is said; in the model's vocabulary a byte is its own id.
const LETTERS: std::ops::RangeInclusive<u8> = b'a'..=b'z';

/// A server of the OpenAI dialect.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host and port.
    pub authority: String,
    /// A key, where one is asked for.
    pub key: String,
    /// The model's name.
    pub model: String,
}

/// An answer on its way.
pub struct Stream {
    lines: BufReader<TcpStream>,
    begun: Instant,
    last: Instant,
}

/// What an answer came to.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Milliseconds to the first text.
    pub first: f64,
    /// Milliseconds between two texts, the longest.
    pub gap: f64,
    /// Texts that came: one a token.
    pub tokens: u32,
}

impl Server {
    /// Sends a request for `max_tokens` more than `prompt`.
    pub async fn begin(&self, prompt: &[u32], max_tokens: u32) -> Result<Stream, String> {
        let bias: Map<String, Value> = LETTERS.map(|letter| (letter.to_string(), json!(100))).collect();
        let body = json!({
            "model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
            "stream": true, "logit_bias": bias,
        });
        let body = body.to_string();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.authority,
            self.key,
            body.len()
        );
        let begun = Instant::now();
        let said = |error: std::io::Error| error.to_string();
        let mut connection = TcpStream::connect(&self.authority).await.map_err(said)?;
        connection.set_nodelay(true).map_err(said)?;
        connection.write_all(head.as_bytes()).await.map_err(said)?;
        connection.write_all(body.as_bytes()).await.map_err(said)?;
        let mut stream = Stream { lines: BufReader::new(connection), begun, last: begun };
        match stream.line().await? {
            Some(status) if status.contains(" 200 ") => Ok(stream),
            other => Err(format!("the server answered {other:?}")),
        }
    }

    /// Sends a request and reads its answer to the end.
    pub async fn ask(&self, prompt: &[u32], max_tokens: u32) -> Result<Read, String> {
        self.begin(prompt, max_tokens).await?.rest(u32::MAX).await
    }
}

impl Stream {
    /// Reads until so many more texts have come, or to the end.
    pub async fn rest(&mut self, texts: u32) -> Result<Read, String> {
        let mut read = Read::default();
        while read.tokens < texts && self.text().await? {
            let now = Instant::now();
            if read.tokens == 0 {
                read.first = ms(now - self.begun);
            }
            if self.last > self.begun {
                read.gap = read.gap.max(ms(now - self.last));
            }
            self.last = now;
            read.tokens += 1;
        }
        if read.tokens == 0 { Err("no text came".to_owned()) } else { Ok(read) }
    }

    /// Waits for the next text; false at the end.
    async fn text(&mut self) -> Result<bool, String> {
        while let Some(line) = self.line().await? {
            // Lengths of chunks and blank lines lie between.
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return Ok(false);
            }
            let event: Value = serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))?;
            if let Some(error) = event.get("error") {
                return Err(error.to_string());
            }
            if event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn line(&mut self) -> Result<Option<String>, String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.lines.read_line(&mut line)).await;
        match read.map_err(|_| "nothing came for ten minutes".to_owned())?.map_err(|error| error.to_string())? {
            0 => Ok(None),
            _ => Ok(Some(line.trim_end().to_owned())),
        }
    }
}
