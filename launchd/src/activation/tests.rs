//! Socket activation with real descriptors. A test puts its sockets on numbers of its own, so that all run at once.

#![cfg(not(target_os = "macos"))]
#![allow(unsafe_code)]

use super::systemd::listeners as ask;
use super::{Activation, ActivationError, LISTENERS_MAX};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{UnixListener, UnixStream};

const PID: u32 = 4242;

/// Copies `fd` to number `to`, which nothing else in the tests uses.
fn place(fd: &impl AsRawFd, to: RawFd) {
    // SAFETY: `to` is a number that only the calling test uses.
    assert_eq!(unsafe { libc::dup2(fd.as_raw_fd(), to) }, to);
}

fn bound(name: &str) -> (UnixListener, std::path::PathBuf) {
    let path = std::env::temp_dir().join(format!("impetus-door-{}-{name}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    (UnixListener::bind(&path).unwrap(), path)
}

/// An environment of the given variables.
fn environment<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    move |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
}

#[track_caller]
fn managed(activation: Result<Activation, ActivationError>) -> Vec<OwnedFd> {
    match activation {
        Ok(Activation::Managed(fds)) => fds,
        other => panic!("expected sockets, got {other:?}"),
    }
}

#[track_caller]
fn refused(variables: &[(&str, &str)], first: RawFd) -> String {
    ask("door", &environment(variables), PID, first).unwrap_err().to_string()
}

#[test]
fn an_inherited_listener_accepts_and_closes_on_exec() {
    let (listener, path) = bound("accepts");
    place(&listener, 600);
    drop(listener);
    let env = [("LISTEN_PID", "4242"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "door")];
    let mut fds = managed(ask("door", &environment(&env), PID, 600));
    assert_eq!(fds.len(), 1);
    // SAFETY: F_GETFD only reads the flags of an open descriptor.
    let flags = unsafe { libc::fcntl(fds[0].as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);

    let server = UnixListener::from(fds.remove(0));
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"hello").unwrap();
    let mut read = [0; 5];
    server.accept().unwrap().0.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_name_picks_its_own_sockets_and_leaves_the_others() {
    let (listener, path) = bound("names");
    for fd in 620..623 {
        place(&listener, fd);
    }
    let env = [("LISTEN_PID", "4242"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web:door:web")];
    let numbers = |name| -> Vec<RawFd> {
        managed(ask(name, &environment(&env), PID, 620)).into_iter().map(IntoRawFd::into_raw_fd).collect()
    };
    assert_eq!(numbers("web"), [620, 622]);
    assert_eq!(numbers("door"), [621]);
    let message = ask("other", &environment(&env), PID, 620).unwrap_err().to_string();
    assert!(message.contains("\"other\"") && message.contains("web, door, web"), "{message}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn sockets_without_names_answer_to_every_name() {
    let (listener, path) = bound("unnamed");
    place(&listener, 640);
    place(&listener, 641);
    let env = [("LISTEN_PID", "4242"), ("LISTEN_FDS", "2")];
    assert_eq!(managed(ask("anything", &environment(&env), PID, 640)).len(), 2);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_process_nobody_activated_is_not_managed() {
    for env in [
        &[][..],
        &[("LISTEN_PID", "4242")],
        &[("LISTEN_FDS", "1")],
        &[("LISTEN_PID", "4242"), ("LISTEN_FDS", "0")],
        // The variables of a parent: another process's sockets are not ours, however many it was given.
        &[("LISTEN_PID", "1"), ("LISTEN_FDS", "1")],
        &[("LISTEN_PID", "1"), ("LISTEN_FDS", "garbage")],
    ] {
        let answer = ask("door", &environment(env), PID, 660);
        assert!(matches!(answer, Ok(Activation::NotManaged)), "{env:?}: {answer:?}");
    }
}

#[test]
fn garbage_is_refused_with_the_variable_and_its_value() {
    for (pid, count) in [("", "1"), ("-1", "1"), ("4242x", "1"), ("4242", ""), ("4242", "one"), ("4242", "-3")] {
        let message = refused(&[("LISTEN_PID", pid), ("LISTEN_FDS", count)], 680);
        let (name, value) = if pid == "4242" { ("LISTEN_FDS", count) } else { ("LISTEN_PID", pid) };
        assert!(message.contains(name) && message.contains(&format!("{value:?}")), "{message}");
    }
    let not_text = |name: &str| match name {
        "LISTEN_PID" => Some(OsString::from_vec(vec![0xff, b'1'])),
        _ => Some(OsString::from("1")),
    };
    assert!(matches!(ask("door", &not_text, PID, 680), Err(ActivationError::Malformed { .. })));
}

#[test]
fn names_that_do_not_match_the_count_are_refused() {
    let (listener, path) = bound("mismatch");
    place(&listener, 700);
    let env = [("LISTEN_PID", "4242"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "door:web")];
    assert!(refused(&env, 700).contains("LISTEN_FDNAMES"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn more_sockets_than_the_bound_are_refused_with_the_count() {
    let too_many = (LISTENERS_MAX + 1).to_string();
    for count in [too_many.as_str(), "18446744073709551615"] {
        let message = refused(&[("LISTEN_PID", "4242"), ("LISTEN_FDS", count)], 720);
        assert!(message.contains(count) && message.contains("at most 16"), "{message}");
    }
}

#[test]
fn descriptors_that_do_not_listen_are_refused() {
    let env = [("LISTEN_PID", "4242"), ("LISTEN_FDS", "1")];
    let (near, _far) = UnixStream::pair().unwrap();
    place(&near, 740);
    assert!(refused(&env, 740).contains("descriptor 740"));
    // Nothing is open there, and a file is no socket.
    assert!(refused(&env, 760).contains("descriptor 760"));
    place(&std::fs::File::open("/dev/null").unwrap(), 780);
    assert!(refused(&env, 780).contains("descriptor 780"));
}

#[test]
fn a_name_is_handed_over_once_in_a_process() {
    let pid = std::process::id().to_string();
    // Number 3 belongs to the test harness here, so the real entrance is only asked for what it must not touch.
    let unmanaged = environment(&[("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
    assert!(matches!(super::listeners("twice", &unmanaged), Ok(Activation::NotManaged)));
    super::TAKEN.lock().unwrap().push("twice".to_owned());
    let env = [("LISTEN_PID", pid.as_str()), ("LISTEN_FDS", "1")];
    let again = super::listeners("twice", &environment(&env));
    assert!(matches!(again, Err(ActivationError::AlreadyTaken { .. })), "{again:?}");
}
