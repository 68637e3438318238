//! Where the socket lies, and who may have it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use super::*;
use crate::tests::directory;

/// Looks variables up in a list.
fn variables(list: &[(&'static str, &'static str)]) -> impl Fn(&str) -> Option<OsString> {
    let map: HashMap<_, _> = list.iter().copied().collect();
    move |name| map.get(name).map(OsString::from)
}

#[track_caller]
fn check_path(list: &[(&'static str, &'static str)], expected: &str) {
    assert_eq!(path(&variables(list)).unwrap(), Path::new(expected));
}

#[test]
fn the_socket_named_by_the_environment_comes_first() {
    check_path(&[("IMPETUS_SOCKET", "/s"), ("IMPETUS_HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")], "/s");
}

#[test]
fn a_home_of_its_own_has_a_socket_of_its_own() {
    check_path(&[("IMPETUS_HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")], "/h/run/impetus.sock");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    check_path(&[("IMPETUS_SOCKET", ""), ("IMPETUS_HOME", "/h")], "/h/run/impetus.sock");
}

#[cfg(not(target_os = "macos"))]
#[test]
fn linux_uses_the_runtime_directory_then_the_data_directory() {
    check_path(&[("HOME", "/u"), ("XDG_RUNTIME_DIR", "/r")], "/r/impetus/impetus.sock");
    check_path(&[("HOME", "/u"), ("XDG_DATA_HOME", "/d")], "/d/impetus/run/impetus.sock");
    check_path(&[("HOME", "/u")], "/u/.local/share/impetus/run/impetus.sock");
}

#[cfg(target_os = "macos")]
#[test]
fn macos_uses_application_support() {
    check_path(&[("HOME", "/u")], "/u/Library/Application Support/Impetus/run/impetus.sock");
}

#[test]
fn without_any_variable_the_home_carries_the_user_id() {
    let home = home(&variables(&[]));
    assert!(home.ends_with(format!("impetus-{}", own_uid())), "{}", home.display());
}

#[test]
fn a_path_too_long_for_the_system_is_refused_with_its_length() {
    let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
    let error = path(&|name| (name == "IMPETUS_SOCKET").then(|| long.clone().into())).unwrap_err();
    assert!(error.to_string().contains(&(PATH_BYTES_MAX + 1).to_string()), "{error}");
    assert!(error.hint().contains("IMPETUS_SOCKET"));
}

#[tokio::test]
async fn a_bound_socket_is_private_and_says_who_connects() {
    let directory = directory();
    let path = directory.path().join("run/impetus.sock");
    let listener = bind(&path).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o600);
    let client = connect(&path).await.unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(peer_uid(&server).unwrap(), own_uid());
    assert_eq!(peer_uid(&client).unwrap(), own_uid());
}

#[tokio::test]
async fn a_second_daemon_is_refused_while_the_first_lives_and_welcome_after_it() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    let first = bind(&path).await.unwrap();
    assert!(matches!(bind(&path).await, Err(SocketError::AlreadyRunning { .. })));
    assert!(connect(&path).await.is_ok(), "the refused one left the socket alone");
    drop(first);
    assert!(!path.exists());
    bind(&path).await.unwrap();
}

#[tokio::test]
async fn a_living_socket_without_our_lock_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    let _foreign = UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path).await, Err(SocketError::AlreadyRunning { .. })));
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind, as kill -9 does");
    let listener = bind(&path).await.unwrap();
    assert_eq!(listener.path(), path);
    assert!(connect(&path).await.is_ok());
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_not_removed() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path).await, Err(SocketError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn an_inherited_socket_is_adopted_and_its_file_left_to_its_owner() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    let descriptor = OwnedFd::from(UnixListener::bind(&path).unwrap());
    let listener = adopt(descriptor, &path).unwrap();
    let client = connect(&path).await.unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(peer_uid(&server).unwrap(), own_uid());
    drop((client, server, listener));
    assert!(path.exists());
}
