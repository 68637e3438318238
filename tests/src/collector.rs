//! A collector of traces on this machine, which keeps what it is sent.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A collector that takes OTLP over HTTP as JSON.
pub struct Collector {
    /// Its base URL.
    pub url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Collects until the process ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = bodies.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(body) = take(stream) {
                    kept.lock().expect("nobody fails with the lock").push(body);
                }
            }
        });
        Self { url, bodies }
    }

    /// Returns every span so far, each with the service it is of.
    pub fn spans(&self) -> Vec<(String, Value)> {
        let bodies = self.bodies.lock().expect("nobody fails with the lock");
        let mut spans = Vec::new();
        for resource in bodies.iter().flat_map(|body| body["resourceSpans"].as_array().expect("resources")) {
            let service = &resource["resource"]["attributes"][0]["value"]["stringValue"];
            let of = resource["scopeSpans"][0]["spans"].as_array().expect("spans");
            spans.extend(of.iter().map(|span| (service.as_str().unwrap_or_default().to_owned(), span.clone())));
        }
        spans
    }

    /// Returns everything so far, as text.
    pub fn bodies(&self) -> String {
        self.bodies.lock().expect("nobody fails with the lock").iter().map(Value::to_string).collect()
    }
}

fn take(stream: TcpStream) -> std::io::Result<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")?;
    serde_json::from_slice(&body).map_err(std::io::Error::other)
}
