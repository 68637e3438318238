//! The language of the house: the types, the service and the socket that every client of `impetusd` shares.
//!
//! `service` is the table of contents. `generation`, `encode`, `text`, `record`, `model`, `status`, `key`, `setting`,
//! `journal`, `measures`, `news`, `trace`, `transcript` and `error` are the words;
//! `wire` says how they become bytes, `socket` where those bytes travel, `client` how to ask without ceremony, and
//! `server` how to answer; `memory` is what all its programs do first.
//! It holds no policy, starts nothing, and never reads a model. Every other crate of the house may depend on it;
//! it depends on none of them.

pub mod client;
pub mod encode;
pub mod error;
pub mod generation;
pub mod journal;
pub mod key;
pub mod measures;
pub mod memory;
pub mod model;
pub mod news;
pub mod record;
pub mod server;
pub mod service;
pub mod setting;
pub mod socket;
pub mod status;
pub mod text;
pub mod trace;
pub mod transcript;
pub mod wire;

#[cfg(test)]
mod tests;

pub use error::{Error, ErrorKind, Result};

/// The version both sides must share; any change of a type, a verb or a golden frame raises it.
pub const PROTOCOL_VERSION: u16 = 1;
