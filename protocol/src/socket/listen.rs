//! The daemon's end of the socket: bound by itself, or inherited from launchd or systemd.
//!
//! A stale socket file is removed only while holding the lock file and after nobody answered on it. It accepts
//! connections and nothing more; whether a peer is welcome is impetusd's decision.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::ListenerOptions;
use interprocess::local_socket::tokio::Listener as LocalListener;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::os::unix::uds_local_socket::tokio::Listener as UnixListener;

use super::{SocketError, Stream, connect, fits, name, own_uid};

/// How long a probe waits for whoever holds the socket.
const PROBE: Duration = Duration::from_secs(1);

/// A socket that clients connect to. Dropping one that was bound removes its file.
#[derive(Debug)]
pub struct Listener {
    // Declared before the lock: the file goes first, then the right to make a new one.
    listener: LocalListener,
    _lock: Option<File>,
    path: PathBuf,
}

impl Listener {
    /// Waits for the next client.
    pub async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds the socket: makes its directory, takes the lock, removes a stale file. Needs a tokio runtime.
pub async fn bind(path: &Path) -> Result<Listener, SocketError> {
    fits(path)?;
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        own_directory(directory)?;
    }
    let lock = lock(path)?;
    remove_stale(path).await?;
    let failed = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    let options = ListenerOptions::new().name(name(path).map_err(failed("cannot name"))?);
    let listener = options.create_tokio().map_err(failed("cannot listen on"))?;
    // Not interprocess's own mode option: macOS cannot set it before the name exists. The directory covers the gap.
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("cannot protect"))?;
    Ok(Listener { listener, _lock: Some(lock), path: path.to_owned() })
}

/// Takes over a listening socket that launchd or systemd made and holds. Needs a tokio runtime.
pub fn adopt(descriptor: OwnedFd, path: &Path) -> Result<Listener, SocketError> {
    let listener = UnixListener::try_from(descriptor).map_err(|source| SocketError::Io {
        what: "cannot adopt the inherited socket",
        path: path.to_owned(),
        source,
    })?;
    Ok(Listener { listener: LocalListener::UdSocket(listener), _lock: None, path: path.to_owned() })
}

/// Makes the socket's directory, 0700, unless there is one that this user or root owns.
fn own_directory(directory: &Path) -> Result<(), SocketError> {
    let failed = |what| move |source| SocketError::Io { what, path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("cannot create"))?;
    let uid = std::fs::metadata(directory).map_err(failed("cannot inspect"))?.uid();
    if uid != own_uid() && uid != 0 {
        return Err(SocketError::NotOurs { path: directory.to_owned(), uid });
    }
    Ok(())
}

/// Takes the lock that the daemon of this socket holds for its life; the system releases it even after `kill -9`.
fn lock(path: &Path) -> Result<File, SocketError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let failed = |what, source| SocketError::Io { what, path: PathBuf::from(&lock_path), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|source| failed("cannot open", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::AlreadyRunning { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("cannot lock", source)),
    }
}

/// Removes a socket file that nobody answers on; the caller holds the lock.
async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("cannot inspect")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match tokio::time::timeout(PROBE, connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("cannot remove the stale"))
        }
        Ok(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Err(failed("cannot probe")(error)),
        // It answered, or its queue is full, which only a living listener's can be.
        _ => Err(SocketError::AlreadyRunning { path: path.to_owned() }),
    }
}
