//! Paths that no service manager could use are refused before a file is rendered.

use super::{Service, ServiceError};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn with_socket(socket: &Path) -> Result<Service, ServiceError> {
    Service::new(Path::new("/bin/impetusd"), Path::new("/home"), socket, Path::new("/log"))
}

#[test]
fn relative_paths_are_refused_by_name() {
    let root = Path::new("/x");
    let relative = Path::new("bin/impetusd");
    for (service, what) in [
        (Service::new(relative, root, root, root), "program"),
        (Service::new(root, relative, root, root), "home"),
        (Service::new(root, root, relative, root), "socket"),
        (Service::new(root, root, root, relative), "log"),
    ] {
        let message = service.unwrap_err().to_string();
        assert!(message.contains(&format!("the {what} path \"bin/impetusd\" is relative")), "{message}");
    }
}

#[test]
fn paths_that_are_no_text_are_refused() {
    for bytes in [&b"/a\nb"[..], b"/a\0b", b"/a\x1b", b"/a\xff", "/a\u{ffff}".as_bytes(), "/a\u{85}".as_bytes()] {
        let refused = with_socket(Path::new(OsStr::from_bytes(bytes)));
        assert!(matches!(refused, Err(ServiceError::NotText { .. })), "{bytes:?}: {refused:?}");
    }
}

#[test]
fn a_socket_path_is_as_long_as_the_system_takes_and_no_longer() {
    let path = |bytes: usize| format!("/{}", "s".repeat(bytes - 1));
    assert!(with_socket(Path::new(&path(103))).is_ok());
    let message = with_socket(Path::new(&path(104))).unwrap_err().to_string();
    assert!(message.contains("104 bytes") && message.contains("IMPETUS_SOCKET"), "{message}");
}
