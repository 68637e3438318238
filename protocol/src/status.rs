//! The words for the daemon itself: who answers, and how it is.

use serde::{Deserialize, Serialize};

use crate::model::ModelCard;

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program, as in `impetusctl/0.1.0`.
    pub client: String,
    /// The id of the key that this connection acts for: it may then do what that key may, and no more. `None` is the
    /// user of the socket, who may do everything.
    pub key: Option<String>,
}

/// What the daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The daemon's version.
    pub version: String,
    /// The commit it was built from, or `unknown`.
    pub commit: String,
    /// Its process id.
    pub pid: u32,
    /// The protocol version it speaks.
    pub protocol: u16,
    /// What this daemon can do, in words that are only ever added to.
    pub capabilities: Vec<String>,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has run.
    pub uptime_ms: u64,
    /// `development`, `testing`, `staging` or `production`.
    pub environment: String,
    /// The folder of all state.
    pub home: String,
    /// The socket it listens on.
    pub socket: String,
    /// The folder of its log files.
    pub logs: String,
    /// HTTP bridges that are connected.
    pub bridges: Vec<Bridge>,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Clients connected.
    pub connections: u32,
    /// Pieces of long work going on.
    pub active: u32,
    /// The model that requests without a name get.
    pub default_model: Option<String>,
    /// The models it knows.
    pub models: Vec<ModelCard>,
    /// Memory and its budget.
    pub memory: Memory,
    /// The machine.
    pub machine: Machine,
}

/// An HTTP bridge, as it announces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its base URL, as in `http://127.0.0.1:11434`.
    pub url: String,
    /// Its process id.
    pub pid: u32,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What the machine has.
    pub total_bytes: u64,
    /// What it could give now.
    pub available_bytes: u64,
    /// What models may take in all.
    pub budget_bytes: u64,
    /// What loaded models are accounted with.
    pub models_bytes: u64,
    /// What the daemon itself holds.
    pub daemon_bytes: u64,
}

/// The machine the daemon runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `linux` or `macos`.
    pub os: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// The processor's name.
    pub cpu: String,
    /// Its cores usable by this process.
    pub cores: u32,
    /// How many of them are fast, where the system tells them apart.
    pub performance_cores: Option<u32>,
    /// What its vector units can do, in the words of its maker, as in `avx2`.
    pub features: Vec<String>,
    /// The GPU's name, if there is one that Impetus can use.
    pub gpu: Option<String>,
}

/// Asks the daemon to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// How long running work may still take; then it is cancelled.
    pub drain_ms: u64,
}
