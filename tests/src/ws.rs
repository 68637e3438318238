//! A WebSocket by hand: handshake and frames, so that tests see every one of them.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::Http;
use crate::wait::LIMIT;

/// An open socket.
pub struct Ws {
    stream: BufReader<TcpStream>,
}

/// What came over a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A message of JSON.
    Text(Value),
    /// A question whether we are there.
    Ping,
    /// The end, with its code; 1005 where it has none.
    Close(u16),
    /// The connection ended without a word.
    Gone,
}

impl Ws {
    /// Connects to a path with the key of `http` and further header lines; the status of a refusal otherwise.
    pub async fn connect(http: &Http, path: &str, headers: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(http.authority()).await.expect("the bridge listens");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            http.authority(),
            http.key()
        );
        stream.write_all(head.as_bytes()).await.expect("the bridge reads");
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            timeout(LIMIT, stream.read_line(&mut line)).await.expect("an answer in time").expect("there is a head");
            if line.trim_end().is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok()).expect("there is a status");
        if status != 101 {
            return Err(status);
        }
        // The answer that RFC 6455 gives for the key above.
        assert!(lines.iter().any(|line| line.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")), "{lines:?}");
        Ok(Self { stream })
    }

    /// Says something.
    pub async fn say(&mut self, message: &Value) {
        self.send(1, message.to_string().as_bytes()).await;
    }

    /// Sends a frame with an opcode of its own.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            long @ 126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((long as u16).to_be_bytes());
            }
            longer => {
                frame.push(0x80 | 127);
                frame.extend((longer as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        // The bridge may have gone; what comes next says so.
        let _ = self.stream.get_mut().write_all(&frame).await;
    }

    /// Waits for the next frame.
    pub async fn next(&mut self) -> Frame {
        timeout(LIMIT, self.read()).await.expect("a frame in time").unwrap_or(Frame::Gone)
    }

    /// Waits for the next message of a type, and skips the others.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Frame::Text(message) if message["type"] == kind => return message,
                Frame::Text(_) | Frame::Ping => {}
                end => panic!("{end:?} came before a {kind}"),
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await?;
        let length = match head[1] {
            126 => usize::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await? as usize,
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(match head[0] & 0x0f {
            1 => Frame::Text(serde_json::from_slice(&payload).expect("messages are JSON")),
            8 => Frame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
            9 => {
                self.send(10, &payload).await;
                Frame::Ping
            }
            other => panic!("a frame of the kind {other}"),
        })
    }
}
