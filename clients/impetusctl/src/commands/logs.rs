//! `impetusctl logs`: shows the end of the daemon's log, and follows it if asked. It works without a daemon.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use protocol::{Error, ErrorKind, Result};

use crate::cli::Logs;
use crate::daemon::Daemon;
use crate::output::{line, print};

/// How far from its end a log is read, in bytes.
const TAIL_BYTES_MAX: u64 = 8 << 20;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the command.
pub async fn run(daemon: &Daemon, logs: &Logs) -> Result<()> {
    let path = daemon.home().join("logs").join("impetusd.log");
    let mut reader = open(&path)?;
    for text in tail(&mut reader, logs.lines).map_err(|error| unreadable(&path, &error))? {
        line(text)?;
    }
    if !logs.follow {
        return Ok(());
    }
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        if rotated(&path, &mut reader) {
            reader = open(&path)?;
        }
        let mut text = String::new();
        while reader.read_line(&mut text).map_err(|error| unreadable(&path, &error))? > 0 {
            print(&text)?;
            text.clear();
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::NotFound, format!("The log {} cannot be read: {error}.", path.display()))
        .hint("The daemon writes it; start one with 'impetusctl serve --detach'.")
}

fn tail(reader: &mut BufReader<File>, count: usize) -> std::io::Result<VecDeque<String>> {
    let length = reader.get_ref().metadata()?.len();
    let start = length.saturating_sub(TAIL_BYTES_MAX);
    reader.seek(SeekFrom::Start(start))?;
    let mut lines = VecDeque::new();
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        if lines.len() == count {
            lines.pop_front();
        }
        if count > 0 {
            lines.push_back(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
        bytes.clear();
    }
    Ok(lines)
}

/// Says whether the file at `path` is another than the one being read.
fn rotated(path: &Path, reader: &mut BufReader<File>) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (path.metadata(), reader.get_ref().metadata()) {
        (Ok(now), Ok(then)) => now.ino() != then.ino() || now.len() < reader.stream_position().unwrap_or(0),
        _ => false,
    }
}
