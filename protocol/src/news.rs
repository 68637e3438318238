//! The words for what happens while somebody watches: models that come and go, downloads, requests that ended.
//!
//! It is read with a cursor like a transcript, but never ends, and only the youngest of it is kept: who reads too slowly
//! is told so, and looks at the whole state again. Nothing of it holds what was said to a model or by it.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::journal::RequestEntry;
use crate::model::ModelCard;
use crate::transcript::Progress;

/// Asks for what happened after a cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchRequest {
    /// Where the last answer ended; `None` begins now.
    pub after: Option<u64>,
    /// How long to wait for the first thing to happen, at most 30,000.
    pub wait_ms: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Oldest first; empty if nothing happened in time.
    pub happenings: Vec<Happening>,
    /// What to ask after next.
    pub next: u64,
    /// Whether some of it is lost, because it was asked for too late.
    pub missed: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Happening {
    /// A model became known, or moved to another state.
    Model(ModelCard),
    /// A model was forgotten.
    Forgotten(String),
    /// How far a model is on its way into memory.
    Loading(Progress),
    /// How far a model is on its way from the hub.
    Downloading(Progress),
    /// A download ended.
    Downloaded(Downloaded),
    /// A request ended.
    Request(RequestEntry),
}

/// The end of a download.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Downloaded {
    /// `ORG/NAME`.
    pub repo: String,
    /// Why it failed, if it did.
    pub error: Option<Error>,
}
