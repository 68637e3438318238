//! The Linux twin of the property lists: two user units, the socket that systemd listens on and the service it starts.
//! It renders text and never installs it. Called by whoever installs the service.

#[cfg(test)]
mod tests;

use crate::service::{OPEN_FILES, RESTART_SECONDS, SOCKET_NAME, STOP_SECONDS, Service};

/// The file name of the service's unit, for `~/.config/systemd/user`.
pub const SERVICE_FILE: &str = "impetusd.service";

/// The file name of the socket's unit, beside it.
pub const SOCKET_FILE: &str = "impetusd.socket";

/// Renders `impetusd.socket`.
pub fn socket(service: &Service) -> String {
    let path = specifiers(&service.socket);
    format!(
        "[Unit]
Description=Impetus: the socket of the local AI service

[Socket]
ListenStream={path}
SocketMode=0600
DirectoryMode=0700
FileDescriptorName={SOCKET_NAME}
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"
    )
}

/// Renders `impetusd.service`. Only a crash restarts it; its workers end with it.
pub fn service(service: &Service) -> String {
    let program = quoted(&service.program.replace('$', "$$"));
    let environment = service.environment().map(|(name, value)| quoted(&format!("{name}={value}"))).join(" ");
    let log = specifiers(&service.log);
    let (soft, hard) = OPEN_FILES;
    format!(
        "[Unit]
Description=Impetus: the local AI service
Requires={SOCKET_FILE}
After={SOCKET_FILE}

[Service]
Type=exec
ExecStart={program}
Environment={environment}
StandardError=append:{log}
Restart=on-failure
RestartSec={RESTART_SECONDS}
TimeoutStopSec={STOP_SECONDS}
KillMode=mixed
LimitNOFILE={soft}:{hard}
UMask=0077
NoNewPrivileges=yes

[Install]
Also={SOCKET_FILE}
WantedBy=default.target
"
    )
}

/// Escapes the specifiers of systemd.unit(5).
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// Quotes one word as systemd.syntax(7) reads it back.
fn quoted(text: &str) -> String {
    format!("\"{}\"", specifiers(text).replace('\\', "\\\\").replace('"', "\\\""))
}
