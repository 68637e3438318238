//! `impetusctl logs`: shows the end of the daemon's log, and follows it if asked. It works without a daemon.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use protocol::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::cli::Logs;
use crate::daemon::Daemon;
use crate::output::{Output, line};

/// How far from its end a log is read, in bytes.
const TAIL_BYTES_MAX: u64 = 8 << 20;

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, logs: &Logs) -> Result<()> {
    let path = daemon.home().join("logs").join("impetusd.log");
    let mut reader = open(&path)?;
    for text in tail(&mut reader, logs.lines).map_err(|error| unreadable(&path, &error))? {
        show(output, &text)?;
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
            show(output, text.trim_end())?;
            text.clear();
        }
    }
}

/// Prints a line of the log; for programs as JSON, which it is already where the daemon writes its log so.
fn show(output: Output, text: &str) -> Result<()> {
    if !output.json || serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()) {
        return line(text);
    }
    line(parted(text))
}

/// Parts a line for people into its time, its level and the rest.
fn parted(text: &str) -> Value {
    let parts = text.split_once(' ').and_then(|(time, rest)| {
        let (level, message) = rest.trim_start().split_once(' ')?;
        ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level).then_some((time, level, message))
    });
    match parts {
        Some((time, level, message)) => json!({ "timestamp": time, "level": level, "message": message }),
        // What a line of several lines goes on with.
        None => json!({ "message": text }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_is_parted_for_programs() {
        let told = parted("2026-11-28T07:22:01.9Z  INFO loaded model=impetus-nano load_ms=10");
        assert_eq!(told["timestamp"], "2026-11-28T07:22:01.9Z");
        assert_eq!(
            (&told["level"], &told["message"]),
            (&"INFO".into(), &"loaded model=impetus-nano load_ms=10".into())
        );
        assert_eq!(parted("  at line 3"), json!({ "message": "  at line 3" }));
    }
}
