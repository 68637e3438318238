//! `impetusctl logs`: shows the end of the daemon's log, and follows it if asked. It works without a daemon.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
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
    let mut log = Log::open(&path).map_err(|error| unreadable(&path, &error))?;
    for text in log.tail(logs.lines).map_err(|error| unreadable(&path, &error))? {
        show(output, &text)?;
    }
    if !logs.follow {
        let rest = text(&log.begun);
        return if rest.is_empty() { Ok(()) } else { show(output, &rest) };
    }
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
        for text in log.news().map_err(|error| unreadable(&path, &error))? {
            show(output, &text)?;
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

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::NotFound, format!("The log {} cannot be read: {error}.", path.display()))
        .hint("The daemon writes it; start one with `impetusctl serve --detach`.")
}

/// A log that is being read.
struct Log<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    begun: Vec<u8>,
}

impl<'a> Log<'a> {
    fn open(path: &'a Path) -> io::Result<Self> {
        Ok(Self { path, reader: BufReader::new(File::open(path)?), begun: Vec::new() })
    }

    /// Returns the last lines that are there.
    fn tail(&mut self, count: usize) -> io::Result<VecDeque<String>> {
        let length = self.reader.get_ref().metadata()?.len();
        self.reader.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
        let mut lines = VecDeque::new();
        self.read(|line| {
            lines.push_back(line);
            if lines.len() > count {
                lines.pop_front();
            }
        })?;
        Ok(lines)
    }

    /// Returns the lines that came since.
    fn news(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        // Asked first: what is in the old file then is all that will ever be.
        let rotated = self.rotated();
        self.read(|line| lines.push(line))?;
        if rotated {
            lines.extend(Some(text(&self.begun)).filter(|line| !line.is_empty()));
            *self = Self::open(self.path)?;
            self.read(|line| lines.push(line))?;
        }
        Ok(lines)
    }

    /// Reads to the end of the file.
    fn read(&mut self, mut line: impl FnMut(String)) -> io::Result<()> {
        while self.reader.read_until(b'\n', &mut self.begun)? > 0 {
            if self.begun.ends_with(b"\n") {
                line(text(&self.begun));
                self.begun.clear();
            }
        }
        Ok(())
    }

    /// Says whether the file at the path is another than the one being read.
    fn rotated(&mut self) -> bool {
        match (self.path.metadata(), self.reader.get_ref().metadata()) {
            (Ok(now), Ok(then)) => now.ino() != then.ino() || now.len() < self.reader.stream_position().unwrap_or(0),
            _ => false,
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

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

    #[test]
    fn a_followed_log_loses_no_line_when_it_is_rotated_and_breaks_none() {
        let path = std::env::temp_dir().join(format!("impetusctl-logs-{}", std::process::id()));
        let add = |text: &[u8]| {
            OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(text).unwrap();
        };
        add(b"one\ntwo\nthr");
        let mut log = Log::open(&path).unwrap();
        assert_eq!(log.tail(1).unwrap(), ["two"]);
        add(b"ee\nfour");
        assert_eq!(log.news().unwrap(), ["three"]);
        add(b" \xff\nlast of it\n");
        std::fs::rename(&path, path.with_extension("1")).unwrap();
        add(b"first of the next\n");
        assert_eq!(log.news().unwrap(), ["four \u{fffd}", "last of it", "first of the next"]);
        add(b"on\n");
        assert_eq!(log.news().unwrap(), ["on"]);
        for path in [&path, &path.with_extension("1")] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
