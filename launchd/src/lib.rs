//! The door the daemon starts through: the listening sockets a service manager hands over, and the files that
//! tell launchd (macOS) and systemd (Linux) to do so. It never binds a socket, writes a file or runs a command.
//! Called by impetusd at its start ([`listeners`]) and by whoever installs the service ([`plist`], [`systemd`]).

mod activation;
pub mod plist;
mod service;
pub mod systemd;

pub use activation::{Activation, ActivationError, LISTENERS_MAX, listeners};
pub use service::{LABEL, SOCKET_NAME, Service, ServiceError};
