//! Rendered property lists parse back and keep what macOS taught others the hard way.

use super::{agent, daemon};
use crate::{SOCKET_NAME, Service};
use plist::{Dictionary, Value};
use std::path::Path;

fn service() -> Service {
    Service::new(
        Path::new("/Applications/Impetus & Co/impetusd"),
        Path::new("/Users/ada/Library/Application Support/impetus"),
        Path::new("/Users/ada/Library/Caches/impetus/impetus.sock"),
        Path::new("/Users/ada/Library/Logs/<impetusd>.log"),
    )
    .unwrap()
}

fn parse(xml: &str) -> Dictionary {
    Value::from_reader_xml(xml.as_bytes()).unwrap().into_dictionary().unwrap()
}

fn both() -> [Dictionary; 2] {
    [parse(&agent(&service()).unwrap()), parse(&daemon(&service()).unwrap())]
}

/// The value at a path such as `Sockets/impetusd/SockPathMode`.
#[track_caller]
fn at<'a>(job: &'a Dictionary, path: &str) -> &'a Value {
    let mut keys = path.split('/');
    let first = job.get(keys.next().unwrap());
    keys.fold(first, |value, key| value?.as_dictionary()?.get(key)).unwrap_or_else(|| panic!("{path} is missing"))
}

#[test]
fn the_process_is_interactive_so_the_gpu_is_not_throttled() {
    for job in both() {
        assert_eq!(at(&job, "ProcessType").as_string(), Some("Interactive"));
        assert!(!job.contains_key("LowPriorityIO") && !job.contains_key("Nice"));
    }
}

#[test]
fn the_socket_is_a_unix_stream_that_only_its_owner_may_open() {
    for job in both() {
        let socket = |key: &str| at(&job, &format!("Sockets/{SOCKET_NAME}/{key}")).clone();
        assert_eq!(socket("SockPathName").as_string(), Some("/Users/ada/Library/Caches/impetus/impetus.sock"));
        assert_eq!(socket("SockPathMode").as_signed_integer(), Some(0o600));
        assert_eq!(socket("SockFamily").as_string(), Some("Unix"));
        assert_eq!(socket("SockType").as_string(), Some("stream"));
        assert_eq!(socket("SockPassive").as_boolean(), Some(true));
        assert_eq!(at(&job, "Umask").as_signed_integer(), Some(0o077));
    }
}

#[test]
fn only_a_crash_restarts_the_daemon_and_not_in_a_tight_loop() {
    for job in both() {
        let keep_alive = at(&job, "KeepAlive").as_dictionary().unwrap();
        assert_eq!(keep_alive.len(), 1);
        assert_eq!(at(&job, "KeepAlive/SuccessfulExit").as_boolean(), Some(false));
        assert_eq!(at(&job, "RunAtLoad").as_boolean(), Some(true));
        assert!(at(&job, "ThrottleInterval").as_signed_integer() >= Some(1));
        assert!(at(&job, "ExitTimeOut").as_signed_integer() >= Some(20));
    }
}

#[test]
fn open_files_are_raised_above_the_256_of_launchd() {
    for job in both() {
        let soft = at(&job, "SoftResourceLimits/NumberOfFiles").as_signed_integer();
        assert!(soft > Some(256) && soft <= at(&job, "HardResourceLimits/NumberOfFiles").as_signed_integer());
    }
}

#[test]
fn program_environment_and_log_survive_every_character() {
    for job in both() {
        assert_eq!(at(&job, "Label").as_string(), Some("dev.impetus.impetusd"));
        let arguments = at(&job, "ProgramArguments").as_array().unwrap();
        assert_eq!(arguments, &[Value::from("/Applications/Impetus & Co/impetusd")]);
        let home = "/Users/ada/Library/Application Support/impetus";
        assert_eq!(at(&job, "EnvironmentVariables/IMPETUS_HOME").as_string(), Some(home));
        assert_eq!(
            at(&job, "EnvironmentVariables/IMPETUS_SOCKET"),
            at(&job, &format!("Sockets/{SOCKET_NAME}/SockPathName"))
        );
        assert_eq!(at(&job, "StandardErrorPath").as_string(), Some("/Users/ada/Library/Logs/<impetusd>.log"));
    }
}

#[test]
fn only_the_system_daemon_changes_account() {
    let [agent, daemon] = both();
    assert!(!agent.contains_key("UserName") && !agent.contains_key("GroupName"));
    assert_eq!(at(&daemon, "UserName").as_string(), Some("_impetus"));
    assert_eq!(at(&daemon, "GroupName").as_string(), Some("_impetus"));
}

#[test]
fn the_same_service_renders_to_the_same_bytes() {
    let first = agent(&service()).unwrap();
    for _ in 0..20 {
        assert_eq!(agent(&service()).unwrap(), first);
    }
    assert!(first.ends_with("</plist>\n"), "{first}");
}
