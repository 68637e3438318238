//! The truth on disk: one SQLite database that holds models, keys, settings, what clients ask to be kept, and the logs of
//! requests and changes.
//!
//! `Store` is a handle; one thread behind it owns the only connection, so writes need no lock and order themselves.
//! Calls wait for their answer: from async code, call them where blocking is allowed. It depends on no other crate of
//! the house, reads no clock (time is an argument), and keeps no key in clear, and no prompt or answer that its client did not
//! ask it to keep. It is the only crate that names rusqlite.

mod audit;
mod error;
mod keys;
mod migrate;
mod models;
mod records;
mod requests;
mod settings;
mod store;

pub use audit::{Audit, Change};
pub use error::StoreError;
pub use keys::{Digest, Key, KeyState, Keys, Limits, NewKey, Role, Secret};
pub use models::{Model, Models, Source};
pub use records::{About, Bounds, Draft, Full, Kept, Reader, Record, Records};
pub use requests::{Request, RequestFilter, Requests, Spent};
pub use settings::Settings;
pub use store::Store;

/// The result of every call.
pub type Result<T> = std::result::Result<T, StoreError>;
