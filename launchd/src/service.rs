//! What a service manager must know to run impetusd: four paths and the limits both managers share. It checks the
//! paths once, so that the renderers cannot fail on them, and never touches the disk. Used by `plist` and `systemd`.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

/// The service's label, and the name of its files.
pub const LABEL: &str = "dev.impetus.impetusd";

/// The name of the socket in the service files; the daemon asks [`crate::listeners`] for it.
pub const SOCKET_NAME: &str = "impetusd";

/// Open files: one for each client and model file. launchd's default of 256 is too few (soft limit, hard limit).
pub(crate) const OPEN_FILES: (u64, u64) = (8_192, 65_536);

/// Seconds between two starts after a crash: a client waits about five for the daemon to come up.
pub(crate) const RESTART_SECONDS: u32 = 2;

/// Seconds from the polite signal to the deadly one: longer than the daemon takes to drain.
pub(crate) const STOP_SECONDS: u32 = 30;

/// The longest socket path, in bytes: macOS keeps 104 with the zero at the end, Linux 108.
const SOCKET_PATH_MAX: usize = 103;

/// Why a service cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Service managers start in no particular folder.
    #[error("the {what} path {path:?} is relative; service managers need an absolute path")]
    Relative {
        /// Which path.
        what: &'static str,
        /// The path as given.
        path: PathBuf,
    },
    /// Property lists and unit files are text, one value a line.
    #[error("the {what} path {path:?} is not UTF-8 or holds a control character; choose another folder")]
    NotText {
        /// Which path.
        what: &'static str,
        /// The path as given.
        path: PathBuf,
    },
    /// The system cuts longer paths off.
    #[error(
        "the socket path {path:?} has {bytes} bytes and the system allows {SOCKET_PATH_MAX}; choose a shorter IMPETUS_SOCKET"
    )]
    SocketTooLong {
        /// The path as given.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The property list could not be written.
    #[error("the property list could not be rendered: {0}")]
    Render(#[from] plist::Error),
}

/// A checked description of the service: its paths are absolute text without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub(crate) program: String,
    pub(crate) home: String,
    pub(crate) socket: String,
    pub(crate) log: String,
}

impl Service {
    /// Describes impetusd: the `program` to run, its state in `home` (IMPETUS_HOME), the `socket` it is reached
    /// through (IMPETUS_SOCKET) and the `log` file that gets its standard error.
    pub fn new(program: &Path, home: &Path, socket: &Path, log: &Path) -> Result<Self, ServiceError> {
        let socket = text("socket", socket)?;
        if socket.len() > SOCKET_PATH_MAX {
            return Err(ServiceError::SocketTooLong { bytes: socket.len(), path: socket.into() });
        }
        Ok(Self { program: text("program", program)?, home: text("home", home)?, socket, log: text("log", log)? })
    }

    /// The environment of the daemon. Clients and daemon must mean the same socket, so both paths are in it. Its log lies in
    /// its home and is rotated; the file for standard error only gets why it does not start.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 3] {
        [("IMPETUS_HOME", &self.home), ("IMPETUS_SOCKET", &self.socket), ("IMPETUS_LOG_STDERR", "false")]
    }
}

fn text(what: &'static str, path: &Path) -> Result<String, ServiceError> {
    if path.is_relative() {
        return Err(ServiceError::Relative { what, path: path.to_owned() });
    }
    match path.to_str() {
        // U+FFFE and U+FFFF are no characters of XML.
        Some(text) if !text.contains(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) => {
            Ok(text.to_owned())
        }
        _ => Err(ServiceError::NotText { what, path: path.to_owned() }),
    }
}
