//! The words for what a client asks the daemon to keep: answers that a later request goes on from, named conversations,
//! files and batches.
//!
//! The daemon keeps a document, whose it is and until when; what it means is the client's. A key has names of its own and sees
//! its own documents only; the user of the socket sees all, and of several with one name its own, or what a key wrote last.
//! Collections are bounded: of answers, completions and sessions, what was not
//! written for longest goes first; files and batches are kept until they are forgotten or expire, and when there is no room
//! no new one is taken.

use serde::{Deserialize, Serialize};

use crate::generation::Json;

/// The longest body, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The longest name and the longest label, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The most documents of one list.
pub const LIST_MAX: u16 = 100;

/// Where documents lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Collection {
    /// Answers and what they answered.
    Answers,
    /// Conversations with a name.
    Sessions,
    /// What files are called and how long they are.
    Files,
    /// What files hold, in pieces.
    Pieces,
    /// Requests to be answered one after another, when there is time.
    Batches,
    /// Single answers, each with what it answers.
    Completions,
}

/// Names a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordId {
    /// Where it lies.
    pub collection: Collection,
    /// Its name there.
    pub id: String,
}

/// Asks for a document to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepRequest {
    /// Where it lies.
    pub collection: Collection,
    /// Its name there: letters, digits, `_`, `-` and `.`.
    pub id: String,
    /// What lists show of it.
    #[serde(default)]
    pub label: String,
    /// The document.
    pub body: Json,
    /// The version that it replaces, 0 if there must be none; another version is a conflict. `None` replaces any of one's
    /// own; the user of the socket may change a key's by its version, and it stays the key's.
    pub replaces: Option<u64>,
    /// For how many milliseconds from now it is kept; `None` keeps it until there is no room.
    pub ttl_ms: Option<u64>,
}

/// What is known of a document besides its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCard {
    /// Its name in its collection.
    pub id: String,
    /// What lists show of it.
    pub label: String,
    /// How often it was written, from 1.
    pub version: u64,
    /// When it was first written, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// When it was last written.
    pub updated_unix_ms: i64,
    /// When it goes; `None` when there is no room.
    pub expires_unix_ms: Option<i64>,
    /// Bytes of its body.
    pub bytes: u64,
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What is known of it besides its body.
    pub card: RecordCard,
    /// The document.
    pub body: Json,
}

/// Asks for a list of documents, those written last first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Where they lie.
    pub collection: Collection,
    /// The last name of the page before; `None` begins.
    pub after: Option<String>,
    /// How many at most, 1 to 100.
    pub limit: u16,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordList {
    /// The documents, without their bodies.
    pub cards: Vec<RecordCard>,
    /// Whether there are more after these.
    pub more: bool,
}
