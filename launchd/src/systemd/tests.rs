//! The rendered units say what the property lists say, and quote every path that systemd would take apart.

use super::{service, socket};
use crate::{SOCKET_NAME, Service};
use std::path::Path;

fn described(folder: &str) -> Service {
    let path = |name: &str| Path::new(folder).join(name);
    Service::new(&path("impetusd"), &path("home"), &path("s.sock"), &path("log")).unwrap()
}

/// The values of `key` in `section`, in their order.
fn values<'a>(unit: &'a str, section: &str, key: &str) -> Vec<&'a str> {
    let mut current = "";
    let mut found = Vec::new();
    for line in unit.lines() {
        match line.split_once('=') {
            None => current = line.trim_matches(['[', ']']),
            Some((other, value)) if current == section && other == key => found.push(value),
            Some(_) => {}
        }
    }
    found
}

#[test]
fn the_socket_is_private_and_carries_the_name_the_daemon_asks_for() {
    let unit = socket(&described("/run/user/1000"));
    for (key, value) in [
        ("ListenStream", "/run/user/1000/s.sock"),
        ("SocketMode", "0600"),
        ("DirectoryMode", "0700"),
        ("FileDescriptorName", SOCKET_NAME),
    ] {
        assert_eq!(values(&unit, "Socket", key), [value], "{unit}");
    }
    assert!(values(&unit, "Socket", "Accept").is_empty(), "one daemon serves all connections");
}

#[test]
fn only_a_crash_restarts_the_service_and_its_workers_end_with_it() {
    let unit = service(&described("/opt/impetus"));
    for (section, key, value) in [
        ("Unit", "Requires", "impetusd.socket"),
        ("Service", "Restart", "on-failure"),
        ("Service", "RestartSec", "2"),
        ("Service", "KillMode", "mixed"),
        ("Service", "LimitNOFILE", "8192:65536"),
        ("Service", "UMask", "0077"),
        ("Service", "ExecStart", "\"/opt/impetus/impetusd\""),
        (
            "Service",
            "Environment",
            "\"IMPETUS_HOME=/opt/impetus/home\" \"IMPETUS_SOCKET=/opt/impetus/s.sock\" \"IMPETUS_LOG_STDERR=false\"",
        ),
        ("Service", "StandardError", "append:/opt/impetus/log"),
        ("Install", "WantedBy", "default.target"),
    ] {
        assert_eq!(values(&unit, section, key), [value], "{unit}");
    }
}

#[test]
fn paths_keep_their_spaces_quotes_percents_and_dollars() {
    let odd = described("/home/a b/50%/\"q\"\\$HOME");
    let unit = service(&odd);
    assert_eq!(values(&unit, "Service", "ExecStart"), ["\"/home/a b/50%%/\\\"q\\\"\\\\$$HOME/impetusd\""]);
    let environment = values(&unit, "Service", "Environment")[0];
    assert!(environment.starts_with("\"IMPETUS_HOME=/home/a b/50%%/\\\"q\\\"\\\\$HOME/home\" "), "{environment}");
    assert_eq!(values(&unit, "Service", "StandardError"), ["append:/home/a b/50%%/\"q\"\\$HOME/log"]);
    assert_eq!(values(&socket(&odd), "Socket", "ListenStream"), ["/home/a b/50%%/\"q\"\\$HOME/s.sock"]);
}
