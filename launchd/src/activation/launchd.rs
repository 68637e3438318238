//! launchd's half of socket activation: one call of libSystem. It never reads the environment. Called by `activation`.
//! The crate raunch wraps the same call, but returns bare descriptors that workers would inherit, and builds a slice
//! from a null pointer when launchd hands over none; the declaration here is as long as its adaptor would be.
#![allow(unsafe_code)]

use super::{Activation, ActivationError, LISTENERS_MAX, close_on_exec, require_listening};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

unsafe extern "C" {
    // <launch.h>: returns 0 or an errno; on success `fds` points to `count` descriptors that the caller frees.
    fn launch_activate_socket(
        name: *const libc::c_char,
        fds: *mut *mut libc::c_int,
        count: *mut libc::size_t,
    ) -> libc::c_int;
}

/// Takes over the sockets called `name` in the job's property list.
pub(super) fn listeners(name: &str) -> Result<Activation, ActivationError> {
    let owned = match activate(name) {
        Ok(owned) => owned,
        Err(Refusal::Name) => {
            return Err(ActivationError::Malformed {
                variable: "socket name",
                value: name.to_owned(),
                expected: "text without a zero byte",
            });
        }
        Err(Refusal::Errno(libc::ESRCH)) => return Ok(Activation::NotManaged),
        Err(Refusal::Errno(code)) => return Err(refused(name, code)),
    };
    if owned.is_empty() {
        return Err(refused(name, libc::ENOENT));
    }
    if owned.len() > LISTENERS_MAX {
        return Err(ActivationError::TooMany { count: owned.len() });
    }
    for fd in &owned {
        require_listening(fd.as_raw_fd())?;
        close_on_exec(fd.as_raw_fd()).map_err(|source| ActivationError::Refused { name: name.to_owned(), source })?;
    }
    Ok(Activation::Managed(owned))
}

enum Refusal {
    Name,
    Errno(libc::c_int),
}

/// Calls launchd and owns whatever it hands over, so that no later refusal leaks a descriptor.
fn activate(name: &str) -> Result<Vec<OwnedFd>, Refusal> {
    let name = CString::new(name).map_err(|_| Refusal::Name)?;
    let mut fds: *mut libc::c_int = std::ptr::null_mut();
    let mut count: libc::size_t = 0;
    // SAFETY: `name` ends in a zero byte, and the other two point to live locals that the call fills on success.
    let code = unsafe { launch_activate_socket(name.as_ptr(), &raw mut fds, &raw mut count) };
    if code != 0 {
        return Err(Refusal::Errno(code));
    }
    if fds.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: after success `fds` holds `count` open descriptors that belong to the caller and to nobody else.
    let owned = (0..count).map(|at| unsafe { OwnedFd::from_raw_fd(*fds.add(at)) }).collect();
    // SAFETY: the array was allocated with malloc for the caller to free, and is not read again.
    unsafe { libc::free(fds.cast()) };
    Ok(owned)
}

fn refused(name: &str, code: libc::c_int) -> ActivationError {
    let name = name.to_owned();
    match code {
        libc::ENOENT => ActivationError::NotInService { name, offered: "the Sockets of its property list".to_owned() },
        libc::EALREADY => ActivationError::AlreadyTaken { name },
        _ => ActivationError::Refused { name, source: io::Error::from_raw_os_error(code) },
    }
}
