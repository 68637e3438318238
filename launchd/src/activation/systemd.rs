//! systemd's half of socket activation, the protocol of sd_listen_fds(3): LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES
//! describe descriptors 3 and up. It needs no library, and it never reads the environment itself: it is passed in.
//! Called by `activation`.

use super::{Activation, ActivationError, LISTENERS_MAX, close_on_exec, require_listening};
use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The first descriptor after standard error.
pub(super) const FIRST_DESCRIPTOR: RawFd = 3;

/// Takes over the sockets called `name`. Without LISTEN_FDNAMES every descriptor answers to every name.
pub(super) fn listeners(
    name: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
    pid: u32,
    first: RawFd,
) -> Result<Activation, ActivationError> {
    let (Some(owner), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else {
        return Ok(Activation::NotManaged);
    };
    // The variables of a parent may still be around: they are addressed by process id.
    if number("LISTEN_PID", &owner, "the id of a process")? != u64::from(pid) {
        return Ok(Activation::NotManaged);
    }
    let count = number("LISTEN_FDS", &count, "a count of descriptors")?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 {
        return Ok(Activation::NotManaged);
    }
    if count > LISTENERS_MAX {
        return Err(ActivationError::TooMany { count });
    }
    let fds: Vec<RawFd> = (first..).take(count).collect();
    for &fd in &fds {
        require_listening(fd)?;
        close_on_exec(fd).map_err(|source| ActivationError::NotListening { fd, cause: source.to_string() })?;
    }
    own(name, &fds, names(variable, count)?)
}

/// Picks the descriptors that answer to `name` and owns them.
#[allow(unsafe_code)]
fn own(name: &str, fds: &[RawFd], names: Option<Vec<String>>) -> Result<Activation, ActivationError> {
    let chosen: Vec<RawFd> = match &names {
        None => fds.to_vec(),
        Some(names) => fds.iter().zip(names).filter(|(_, other)| *other == name).map(|(fd, _)| *fd).collect(),
    };
    if chosen.is_empty() {
        let offered = names.unwrap_or_default().join(", ");
        return Err(ActivationError::NotInService { name: name.to_owned(), offered });
    }
    // SAFETY: LISTEN_PID names this process, so these open descriptors were left to it; `listeners` in the parent
    // module hands out each name once, so nothing else owns them.
    let owned = chosen.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    Ok(Activation::Managed(owned))
}

/// The names of the descriptors in their order, when the manager gives any: one for each, apart by colons.
fn names(variable: &dyn Fn(&str) -> Option<OsString>, count: usize) -> Result<Option<Vec<String>>, ActivationError> {
    let Some(value) = variable("LISTEN_FDNAMES") else {
        return Ok(None);
    };
    let names: Vec<String> = value.to_string_lossy().split(':').map(str::to_owned).collect();
    if names.len() != count {
        return Err(malformed("LISTEN_FDNAMES", &value, "one name for each descriptor of LISTEN_FDS"));
    }
    Ok(Some(names))
}

fn number(variable: &'static str, value: &OsString, expected: &'static str) -> Result<u64, ActivationError> {
    value.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| malformed(variable, value, expected))
}

fn malformed(variable: &'static str, value: &OsString, expected: &'static str) -> ActivationError {
    ActivationError::Malformed { variable, value: value.to_string_lossy().into_owned(), expected }
}
