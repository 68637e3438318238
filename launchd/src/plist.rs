//! The property lists that make launchd run impetusd: the agent of one user, and the daemon of the whole machine.
//! It renders text and never installs it. Called by whoever installs the service.
//! The crate launchd knows every key, but writes SockPathMode as a 128-bit integer, which no property list can hold;
//! so its value is built first and that one key is set on it.

#[cfg(test)]
mod tests;

use crate::service::{LABEL, OPEN_FILES, RESTART_SECONDS, SOCKET_NAME, STOP_SECONDS, Service, ServiceError};
use launchd::sockets::{SocketFamily, SocketType};
use launchd::{KeepAliveOptions, Launchd, ProcessType, ResourceLimits, Socket, SocketOptions};
use plist::{Dictionary, Value};

/// The account of the system service: a real one, because Metal needs a home folder (never nobody).
pub const SYSTEM_ACCOUNT: &str = "_impetus";

/// Only the owner may connect.
const SOCKET_MODE: u32 = 0o600;

/// Nothing the daemon writes is for others to read.
const UMASK: u16 = 0o077;

/// Renders the agent of one user, for `~/Library/LaunchAgents/dev.impetus.impetusd.plist`.
pub fn agent(service: &Service) -> Result<String, ServiceError> {
    render(job(service))
}

/// Renders the daemon of the whole machine, for `/Library/LaunchDaemons/dev.impetus.impetusd.plist`.
pub fn daemon(service: &Service) -> Result<String, ServiceError> {
    render(job(service).with_user_name(SYSTEM_ACCOUNT).with_group_name(SYSTEM_ACCOUNT))
}

fn job(service: &Service) -> Launchd {
    let limit = |files| ResourceLimits::new().with_number_of_files(files);
    let environment = service.environment().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Launchd::default()
        .with_label(LABEL)
        .with_program_arguments(vec![service.program.clone()])
        .with_environment_variables(environment.into())
        .with_socket(Socket::new(SOCKET_NAME, socket(service)).into())
        // Background and Standard throttle the GPU of the daemon and its workers, Background about eightfold;
        // Adaptive boosts only services reached over XPC.
        .with_process_type(ProcessType::Interactive)
        .with_soft_resource_limits(limit(OPEN_FILES.0))
        .with_hard_resource_limits(limit(OPEN_FILES.1))
        .with_run_at_load(true)
        // A crash starts it again; a clean stop lasts until the next client connects.
        .with_keep_alive(KeepAliveOptions::new().with_successful_exit(false).into())
        .with_throttle_interval(RESTART_SECONDS)
        .with_exit_timeout(STOP_SECONDS)
        .with_umask(UMASK)
        .with_standard_error_path(&service.log)
        .expect("a String is a path of UTF-8")
}

fn socket(service: &Service) -> SocketOptions {
    SocketOptions::new()
        .with_family(SocketFamily::Unix)
        .with_type(SocketType::Stream)
        .passive()
        .with_path_name(&service.socket)
        .expect("a String is a path of UTF-8")
}

/// Sets the mode of the socket, and writes the job as XML: the same service always gives the same bytes.
fn render(job: Launchd) -> Result<String, ServiceError> {
    let mut job = plist::to_value(&job)?;
    dictionary(&mut job, &["Sockets", SOCKET_NAME]).insert("SockPathMode".to_owned(), SOCKET_MODE.into());
    // It is the one map with two keys, and the crate keeps it in a HashMap.
    dictionary(&mut job, &["EnvironmentVariables"]).sort_keys();
    let mut xml = Vec::new();
    job.to_writer_xml(&mut xml)?;
    let mut xml = String::from_utf8(xml).expect("the writer writes UTF-8");
    xml.push('\n');
    Ok(xml)
}

/// The dictionary at `path`, which [`job`] has put there.
fn dictionary<'a>(job: &'a mut Value, path: &[&str]) -> &'a mut Dictionary {
    path.iter()
        .try_fold(job, |value, key| value.as_dictionary_mut()?.get_mut(key))
        .and_then(Value::as_dictionary_mut)
        .expect("every job has a socket and an environment")
}
