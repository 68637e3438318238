//! Which bridges of a socket run, for whom the daemon, which knows them, cannot say: each holds a lock, as long as it
//! lives, on a file of its process id beside the socket. The bridge marks itself; `impetusctl stop` reads the marks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How the names of the files begin, after the socket's own.
const MARK: &str = ".bridge-";

/// The mark of a bridge that runs; dropping it takes it away.
#[derive(Debug)]
pub struct Mark {
    _locked: File,
    path: PathBuf,
}

/// Marks this process as the bridge of `socket` that listens on `address`.
pub fn mark(socket: &Path, address: SocketAddr) -> io::Result<Mark> {
    let mut path = socket.as_os_str().to_owned();
    path.push(format!("{MARK}{address}"));
    let path = PathBuf::from(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    file.try_lock()?;
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(Mark { _locked: file, path })
}

/// Returns the process ids of the bridges of `socket` that run.
pub fn marked(socket: &Path) -> Vec<u32> {
    let beginning = socket.file_name().map(|name| format!("{}{MARK}", name.to_string_lossy())).unwrap_or_default();
    let entries = socket.parent().and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning));
    let running = |path: PathBuf| {
        let held = matches!(File::open(&path).ok()?.try_lock(), Err(TryLockError::WouldBlock));
        // What is not locked was left by one that was killed.
        if held { std::fs::read_to_string(path).ok()?.parse().ok() } else { None }
    };
    ours.filter_map(|entry| running(entry.path())).collect()
}

impl Drop for Mark {
    fn drop(&mut self) {
        // One that stays is not locked, and so not heeded.
        let _ = std::fs::remove_file(&self.path);
    }
}
