//! A hub on this machine with one model, for what pulls from outside looks like.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The commit that everything is at.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub that knows the repository `org/tiny`.
pub struct Hub {
    /// Its base URL.
    pub url: String,
}

impl Hub {
    /// Serves the files of `folder` as `org/tiny`, until the process ends.
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let folder: Arc<PathBuf> = Arc::new(folder.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let folder = folder.clone();
                // A client that hangs up needs no answer.
                std::thread::spawn(move || drop(serve(stream, &folder)));
            }
        });
        Self { url }
    }
}

fn serve(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default();
    let head = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let ranges = head.filter_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let start = ranges.last().and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let body = if path.starts_with("/api/models/org/tiny/revision/") {
        Some(listing(folder)?.into_bytes())
    } else {
        let name = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
        name.and_then(|name| fs::read(folder.join(name)).ok())
    };
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("206 Partial Content", body));
    let rest = body.get(start..).unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
    stream.write_all(rest)
}

fn listing(folder: &Path) -> std::io::Result<String> {
    let mut siblings = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let bytes = fs::read(entry.path())?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = entry.file_name().to_string_lossy().into_owned();
        siblings.push(serde_json::json!({ "rfilename": name, "lfs": { "sha256": digest, "size": bytes.len() } }));
    }
    Ok(serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string())
}
