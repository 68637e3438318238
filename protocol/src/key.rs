//! The words for API keys: what one may do, how much, and who stands behind a request.
//!
//! A secret is on the wire twice only: when a key is issued, and when somebody shows it to be let in or to log in. Everything
//! else names keys by their id, which grants nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a key may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyRole {
    /// Look.
    Readonly,
    /// Look, and have models work.
    User,
    /// Everything.
    Admin,
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readonly => "readonly",
            Self::User => "user",
            Self::Admin => "admin",
        })
    }
}

/// Whether a key opens the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

/// How much a key may ask for; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimits {
    /// Requests that make a model work, per minute.
    pub inference_per_minute: Option<u32>,
    /// Requests that only look, per minute.
    pub reads_per_minute: Option<u32>,
    /// Requests that make a model work, per day (UTC).
    pub requests_per_day: Option<u64>,
    /// Tokens read and written, per day (UTC). Judged before a request begins; a running one is never cut.
    pub tokens_per_day: Option<u64>,
}

/// What a key has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Requests that made a model work.
    pub requests: u64,
    /// Tokens read and written.
    pub tokens: u64,
}

/// Everything a client may know of a key; its secret is not among it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCard {
    /// Its id, fit for logs.
    pub id: String,
    /// What it is for, in its owner's words.
    pub label: String,
    /// What it may do.
    pub role: KeyRole,
    /// The only models it may use; empty is all of them.
    pub models: Vec<String>,
    /// How much it may ask for.
    pub limits: KeyLimits,
    /// Whether it opens the door.
    pub state: KeyState,
    /// What it has used today (UTC).
    pub spent_today: Spent,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: i64,
    /// From when on it is refused.
    pub expires_unix_s: Option<i64>,
    /// When it was revoked.
    pub revoked_unix_s: Option<i64>,
    /// When it was last used, to the minute.
    pub last_used_unix_s: Option<i64>,
}

/// Asks for a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyRequest {
    /// What it is for; 1 to 128 bytes.
    pub label: String,
    /// What it may do.
    pub role: KeyRole,
    /// The only models it may use; empty is all of them.
    #[serde(default)]
    pub models: Vec<String>,
    /// After how many seconds it is refused; `None` is never.
    pub expires_in_s: Option<u64>,
    /// How much it may ask for: 0 is without limit, `None` takes the role's default.
    #[serde(default)]
    pub limits: LimitsRequest,
}

/// Limits as they are asked for: 0 is without limit, `None` takes the role's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsRequest {
    /// Requests that make a model work, per minute.
    pub inference_per_minute: Option<u32>,
    /// Requests that only look, per minute.
    pub reads_per_minute: Option<u32>,
    /// Requests that make a model work, per day (UTC).
    pub requests_per_day: Option<u64>,
    /// Tokens read and written, per day (UTC); an answer that would take more ends where they do.
    pub tokens_per_day: Option<u64>,
}

/// Asks for a new secret for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyRequest {
    /// The key's id.
    pub id: String,
    /// For how many seconds the old secret still opens the door.
    #[serde(default)]
    pub grace_s: u64,
}

/// A key with its secret: shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedKey {
    /// What opens the door.
    pub secret: String,
    /// What it opens it for.
    pub card: KeyCard,
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").field("card", &self.card).finish_non_exhaustive()
    }
}

/// Bad keys per minute that one address may show, at a daemon and at bridges that count together, before it is told to wait.
pub const BAD_KEYS_PER_MINUTE: u32 = 20;

/// Somebody who wants to be let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knock {
    /// What is shown.
    pub proof: Proof,
    /// Where the request comes from, as an IP address.
    pub peer: String,
    /// What it is about.
    pub purpose: Purpose,
    /// Whether somebody else counts the request against the key's limit per minute: nothing is then taken from it here.
    #[serde(default)]
    pub counted_elsewhere: bool,
}

impl fmt::Debug for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knock").field("peer", &self.peer).field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// What somebody shows to be let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// A key's secret.
    Secret(String),
    /// A login that a bridge gave out and has checked.
    Login(Login),
}

/// What a bridge remembers of a secret that was shown once: enough to let its holder in for as long as that secret would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The key's id.
    pub key: String,
    /// Which of the key's secrets was shown; it tells nothing about the secret.
    pub print: u64,
}

/// Which of a key's limits a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// It only looks.
    Read,
    /// It makes a model work.
    Inference,
}

/// Who stands behind a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The key's id, fit for logs.
    pub id: String,
    /// The key's label.
    pub label: String,
    /// What it may do.
    pub role: KeyRole,
    /// How much of its rate is left; `None` if it has no such limit.
    pub rate: Option<Rate>,
    /// Which of the key's secrets stands behind it, as a login names it.
    pub print: u64,
}

/// How much of a limit per minute is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Requests per minute.
    pub limit: u32,
    /// Requests that could come at once now.
    pub remaining: u32,
    /// Milliseconds until all of them could.
    pub reset_ms: u64,
    /// Milliseconds until this request would be let in; 0 lets it in.
    pub wait_ms: u64,
}

impl Rate {
    /// A limit of which nothing is used.
    pub fn unused(limit: u32) -> Self {
        Self { limit, remaining: limit, reset_ms: 0, wait_ms: 0 }
    }
}
