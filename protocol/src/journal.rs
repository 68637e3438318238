//! The words for what has happened: requests that were answered, and changes that somebody made.
//!
//! Neither holds what was said to a model or by it. Both are read newest first, page by page.

use serde::{Deserialize, Serialize};

/// One request that a model worked for, or that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEntry {
    /// Its number; later ones are larger.
    pub id: u64,
    /// When it came, in milliseconds since 1970.
    pub time_unix_ms: i64,
    /// What was asked for, as in `generate`.
    pub verb: String,
    /// The model.
    pub model: Option<String>,
    /// The key's id; `None` for the socket.
    pub key: Option<String>,
    /// How it ended: `ok`, or the error's kind.
    pub status: String,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Milliseconds until it ended.
    pub latency_ms: u32,
}

/// Asks for requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestsRequest {
    /// How many at most, 1 to 1,000; 0 takes 100.
    pub limit: u32,
    /// Only those before this one: the `next` of the last page.
    pub after: Option<u64>,
    /// Only those for this model.
    pub model: Option<String>,
    /// Only those of this key.
    pub key: Option<String>,
    /// Only those that ended so.
    pub status: Option<String>,
}

/// Requests, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsPage {
    /// The requests.
    pub entries: Vec<RequestEntry>,
    /// What to ask for next; `None` where there are no more.
    pub next: Option<u64>,
}

/// One change that somebody made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number; later ones are larger.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub time_unix_ms: i64,
    /// Who: a key's id, or `uid 501` for the socket.
    pub actor: String,
    /// What was done, as in `model.add`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
}

/// Asks for changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditRequest {
    /// How many at most, 1 to 1,000; 0 takes 100.
    pub limit: u32,
    /// Only those before this one: the `next` of the last page.
    pub after: Option<u64>,
}

/// Changes, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// The changes.
    pub entries: Vec<AuditEntry>,
    /// What to ask for next; `None` where there are no more.
    pub next: Option<u64>,
}
