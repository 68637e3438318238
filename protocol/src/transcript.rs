//! Long work as an append-only list of events, read with a cursor.
//!
//! tarpc is unary, so `begin`, `pull`, `import` and `load` return a `TranscriptId` and `read` returns what came after a cursor.
//! Reading is idempotent: a lost reply is read again with the same cursor. A transcript ends with exactly one
//! `Finished` or `Failed` event, and nothing follows it.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::encode::{Embedded, Scored};
use crate::generation::{ChoiceFinished, Delta, Finished, Started};

/// Names one piece of long work; unique for the daemon's lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TranscriptId(pub u64);

/// A position in a transcript: how many events lie before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor(pub u64);

/// Asks for the events after `cursor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// The transcript.
    pub id: TranscriptId,
    /// Where the last page ended; the default reads from the start.
    pub cursor: Cursor,
    /// How long to wait for a first event, at most 30,000.
    pub wait_ms: u32,
}

/// The events after a cursor. Neighbouring deltas of one choice may arrive as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The events, oldest first; empty if none came in time.
    pub events: Vec<Event>,
    /// What to read from next.
    pub next: Cursor,
    /// Whether the transcript has ended and this page reaches its end.
    pub ended: bool,
}

/// One thing that happened in a piece of long work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// How far slow work has come.
    Progress(Progress),
    /// A generation's prompt was accepted.
    Started(Started),
    /// More of a generation.
    Delta(Delta),
    /// One choice of a generation is complete.
    ChoiceFinished(ChoiceFinished),
    /// The work is done; for work other than generation the usage is zero.
    Finished(Finished),
    /// The work failed; nothing follows.
    Failed(Error),
    /// The vector of one text.
    Embedded(Embedded),
    /// The score of one document.
    Scored(Scored),
}

/// How far slow work has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// What it is being done to: a file, a model.
    pub subject: String,
    /// How much is done, in `unit`.
    pub done: u64,
    /// How much there is, if known.
    pub total: Option<u64>,
    /// What `done` and `total` count.
    pub unit: Unit,
}

/// The stages that slow work goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Waiting for memory or for another load.
    Queued,
    /// Fetching files from a hub.
    Downloading,
    /// Checking digests.
    Verifying,
    /// Reading weights into a worker.
    Loading,
    /// Reading the prompt.
    Prefilling,
    /// Making a model folder of a file.
    Importing,
}

/// What a progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files.
    Files,
    /// Tokens.
    Tokens,
    /// Steps.
    Steps,
}
