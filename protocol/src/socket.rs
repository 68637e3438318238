//! Where the daemon is found: the folder of its state, the path of its socket, and the two ends of that socket.
//!
//! The environment comes in as an argument, so every rule is a pure function. Binding makes the directory 0700 and the
//! socket 0600, and a lock file beside it keeps a second daemon from taking the socket of a living one. This is the
//! only file that names interprocess. It speaks no protocol: `client` and `server` do.

pub mod bridges;
mod listen;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, Name};

pub use interprocess::local_socket::tokio::Stream;
pub use listen::{Listener, adopt, bind};

/// Looks up an environment variable; `&|name| std::env::var_os(name)` in programs.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The longest socket path in bytes: `sun_path` less its closing zero.
pub const PATH_BYTES_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The operating system cannot hold the path.
    #[error("the socket path {} is {} bytes long; this system allows {PATH_BYTES_MAX}", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// A daemon answers on the socket, or is about to.
    #[error("impetusd already runs on {}", path.display())]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the socket's name.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket's directory belongs to someone else.
    #[error("{} belongs to user {uid}, not to this one", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, as in `cannot create`.
        what: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl SocketError {
    /// Says what the reader can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::PathTooLong { .. } => "set IMPETUS_SOCKET to a shorter path",
            Self::AlreadyRunning { .. } => "use it, or end it with `impetusctl stop`",
            Self::NotASocket { .. } => "remove or rename that file, or set IMPETUS_SOCKET to another path",
            Self::NotOurs { .. } => "set IMPETUS_SOCKET to a path in a directory of your own",
            Self::Io { .. } => "check the directory's owner and permissions, or set IMPETUS_SOCKET to another path",
        }
    }
}

/// Returns the folder of all state: `$IMPETUS_HOME`, else the platform's place for a user's data.
pub fn home(variable: Variable<'_>) -> PathBuf {
    if let Some(home) = given(variable, "IMPETUS_HOME") {
        return home;
    }
    let user = given(variable, "HOME");
    let data = if cfg!(target_os = "macos") {
        user.map(|user| user.join("Library/Application Support/Impetus"))
    } else {
        given(variable, "XDG_DATA_HOME")
            .or_else(|| user.map(|user| user.join(".local/share")))
            .map(|data| data.join("impetus"))
    };
    data.unwrap_or_else(|| std::env::temp_dir().join(format!("impetus-{}", own_uid())))
}

/// Returns the socket's path: `$IMPETUS_SOCKET`; else under `$IMPETUS_HOME`, so that every home has its own daemon;
/// else the user's runtime directory; else under the default home. An error if the system cannot hold the path.
pub fn path(variable: Variable<'_>) -> Result<PathBuf, SocketError> {
    let runtime = || if cfg!(target_os = "macos") { None } else { given(variable, "XDG_RUNTIME_DIR") };
    let path = if let Some(path) = given(variable, "IMPETUS_SOCKET") {
        path
    } else if let (None, Some(runtime)) = (given(variable, "IMPETUS_HOME"), runtime()) {
        runtime.join("impetus/impetus.sock")
    } else {
        home(variable).join("run/impetus.sock")
    };
    fits(&path)?;
    Ok(path)
}

/// Returns a variable that is set and not empty, as a path.
fn given(variable: Variable<'_>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Checks that the system can hold a socket's path.
fn fits(path: &Path) -> Result<(), SocketError> {
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(SocketError::PathTooLong { path: path.to_owned() });
    }
    Ok(())
}

/// Connects to the daemon's socket.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    fits(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Stream::connect(name(path)?).await
}

fn name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

/// Returns the effective user id of the process at the other end.
pub fn peer_uid(stream: &Stream) -> io::Result<u32> {
    let unknown = || io::Error::new(io::ErrorKind::Unsupported, "the system does not say who is connected");
    stream.peer_creds()?.euid().ok_or_else(unknown)
}

/// Returns the effective user id of this process.
#[allow(unsafe_code)]
pub fn own_uid() -> u32 {
    // SAFETY: `geteuid` takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}
