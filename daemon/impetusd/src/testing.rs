//! What the tests of this crate share: the scripted worker program, and whether a process lives.

use std::path::PathBuf;

/// The scripted worker, which cargo builds beside the tests.
pub fn scripted_worker() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join("scripted_worker");
    assert!(path.is_file(), "{} is missing; `cargo test -p impetusd` builds it", path.display());
    path
}

/// Whether a process of this user lives and was not merely left unburied.
pub fn is_alive(pid: u32) -> bool {
    // SAFETY: signal 0 only asks whether the process could be signalled.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::kill(pid as libc::pid_t, 0) };
    answer == 0
}
