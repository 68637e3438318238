//! The daemon's log: to a file of bounded size, to standard error, and on macOS to the system log. Lines are for
//! people or JSON. It never gets prompt or answer text, because nobody hands it any. Set up once, by `main`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Format, Level, Log};

/// How the level of the running log is changed.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Changes the level of the running log, if there is one.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get()
        && let Err(error) = handle.reload(targets(level))
    {
        tracing::warn!(%error, "the log's level cannot be changed");
    }
}

/// What is written at a level: other crates speak only when something is wrong.
fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let targets = Targets::new().with_default(LevelFilter::WARN.min(level));
    targets.with_target("impetusd", level).with_target("worker", level)
}

/// Starts logging to `file`, as configured.
pub fn start(log: &Log, file: &Path) -> io::Result<()> {
    let (targets, handle) = reload::Layer::new(targets(log.level));
    let file = RotatingFile::open(file, log.file_bytes_max, log.files_max)?;
    let to_file = layer(log.format, Mutex::new(file), false);
    let to_stderr = log.stderr.then(|| layer(log.format, io::stderr, io::IsTerminal::is_terminal(&io::stderr())));
    let registry = tracing_subscriber::registry().with(targets).with(to_file).with(to_stderr);
    #[cfg(target_os = "macos")]
    let registry = registry.with(tracing_oslog::OsLogger::new("dev.impetus.impetusd", "default"));
    registry.try_init().map_err(io::Error::other)?;
    // Set once: a second log of one process was refused above.
    let _ = LEVEL.set(handle);
    Ok(())
}

/// One destination, in one format.
fn layer<S, W>(format: Format, writer: W, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(ansi);
    match format {
        Format::Human => layer.with_target(false).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// A file that is renamed when it is full: `NAME.1` is the youngest of the older ones.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

impl RotatingFile {
    /// Opens the file for appending.
    pub fn open(path: &Path, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max, files_max })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..self.files_max.saturating_sub(1)).rev() {
            if older(number).exists() {
                std::fs::rename(older(number), older(number + 1))?;
            }
        }
        match self.files_max {
            0 | 1 => std::fs::remove_file(&self.path)?,
            _ => std::fs::rename(&self.path, older(1))?,
        }
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_renamed_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("impetusd.log");
        let mut log = RotatingFile::open(&path, 10, 3).unwrap();
        for line in ["one 567\n", "two 567\n", "three 7\n", "four 67\n", "5\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("impetusd.log"), "four 67\n5\n");
        assert_eq!((read("impetusd.log.1").as_str(), read("impetusd.log.2").as_str()), ("three 7\n", "two 567\n"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        // A restart appends.
        drop(log);
        RotatingFile::open(&path, 100, 3).unwrap().write_all(b"6\n").unwrap();
        assert_eq!(read("impetusd.log"), "four 67\n5\n6\n");
    }
}
