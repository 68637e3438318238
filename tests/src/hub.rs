//! A hub on this machine with one model, for what pulls from outside looks like.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::random::Recipe;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The commit that everything is at.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub that knows the repository `org/tiny`.
pub struct Hub {
    url: String,
    cache: TempDir,
    /// What it serves, for as long as it is there.
    _folder: TempDir,
}

impl Hub {
    /// Serves a tiny model as `org/tiny`.
    pub fn start() -> Self {
        let temporary = || tempfile::tempdir().expect("the temporary folder is writable");
        let (folder, cache) = (temporary(), temporary());
        Recipe::tiny("llama", 5).write(folder.path()).expect("the folder is writable");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let served: Arc<PathBuf> = Arc::new(folder.path().to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let folder = served.clone();
                // A client that hangs up needs no answer.
                std::thread::spawn(move || drop(serve(stream, &folder)));
            }
        });
        Self { url, cache, _folder: folder }
    }

    /// Returns the environment of a daemon that pulls from here.
    pub fn environment(&self) -> Vec<(String, String)> {
        let cache = self.cache.path().to_string_lossy().into_owned();
        vec![("HF_ENDPOINT".to_owned(), self.url.clone()), ("HF_HUB_CACHE".to_owned(), cache)]
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
