//! Socket activation: asks the service manager for the sockets it listens on for us. launchd is asked by a call,
//! systemd answers through the environment and descriptors 3 and up; both are behind one function. It never binds,
//! never blocks and never reads the environment itself. Called once by impetusd, before it binds a socket of its own.

#[cfg(target_os = "macos")]
mod launchd;
#[cfg(not(target_os = "macos"))]
mod systemd;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// The most descriptors a service manager may hand over: impetusd listens on one path, so more is a mistake.
pub const LISTENERS_MAX: usize = 16;

/// What the service manager said.
#[derive(Debug)]
pub enum Activation {
    /// These sockets listen already; each is closed on exec. Never empty.
    Managed(Vec<OwnedFd>),
    /// No service manager started this process: bind a socket yourself.
    NotManaged,
}

/// Why the sockets of a managed process could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The service file names no such socket.
    #[error("the service manager has no socket named {name:?} (it offers: {offered}); install the service files again")]
    NotInService {
        /// The name asked for.
        name: String,
        /// The names the manager offers, as far as it tells.
        offered: String,
    },
    /// The sockets of this name were handed over before; a second owner would close them twice.
    #[error("the sockets named {name:?} were already taken over; ask for them once")]
    AlreadyTaken {
        /// The name asked for.
        name: String,
    },
    /// A variable of the activation protocol holds something else than it should.
    #[error("{variable} is {value:?}, but it must be {expected}; unset it to start without socket activation")]
    Malformed {
        /// The environment variable, or `socket name`.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// More descriptors than [`LISTENERS_MAX`].
    #[error(
        "the service manager passes {count} sockets and impetusd takes at most {LISTENERS_MAX}; check the service files"
    )]
    TooMany {
        /// How many it passes.
        count: usize,
    },
    /// A descriptor that was announced is not an open, listening socket.
    #[error(
        "descriptor {fd} from the service manager is not a listening socket ({cause}); use a stream socket with Accept=no"
    )]
    NotListening {
        /// The descriptor's number.
        fd: RawFd,
        /// What the system says about it.
        cause: String,
    },
    /// The system refused for another reason.
    #[error("the service manager refused to hand over the sockets named {name:?}: {source}")]
    Refused {
        /// The name asked for.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Names whose descriptors this process owns already.
static TAKEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes over the listening sockets called `name` in the service file. `variable` reads one environment variable;
/// launchd does not need it. Each name can be taken once in a process. The sockets keep the blocking mode they came in.
pub fn listeners(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Activation, ActivationError> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.iter().any(|other| other == name) {
        return Err(ActivationError::AlreadyTaken { name: name.to_owned() });
    }
    let activation = ask(name, variable)?;
    if let Activation::Managed(_) = activation {
        taken.push(name.to_owned());
    }
    Ok(activation)
}

#[cfg(target_os = "macos")]
fn ask(name: &str, _: &dyn Fn(&str) -> Option<OsString>) -> Result<Activation, ActivationError> {
    launchd::listeners(name)
}

#[cfg(not(target_os = "macos"))]
fn ask(name: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Activation, ActivationError> {
    systemd::listeners(name, variable, std::process::id(), systemd::FIRST_DESCRIPTOR)
}

/// Makes `fd` vanish in every program this process starts: workers must not hold the daemon's door open.
#[allow(unsafe_code)]
fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFD and F_SETFD take and return integers; a bad descriptor answers EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    // SAFETY: as above; the flags just read are kept.
    if flags < 0 || unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Fails unless `fd` is an open socket that accepts connections.
#[allow(unsafe_code)]
fn require_listening(fd: RawFd) -> Result<(), ActivationError> {
    let mut accepts: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the two pointers are to live locals, and `length` is the size of the first.
    let status = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut accepts).cast(), &raw mut length)
    };
    let cause = match (status, accepts) {
        (0, 0) => "it does not accept connections".to_owned(),
        (0, _) => return Ok(()),
        _ => io::Error::last_os_error().to_string(),
    };
    Err(ActivationError::NotListening { fd, cause })
}
