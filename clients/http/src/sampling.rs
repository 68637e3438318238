//! Settings of sampling, and limits, that more than one dialect knows under the same name.

use protocol::{Error, ErrorKind};
use serde::{Deserialize, Deserializer};

/// Returns whether mirostat is on: of its versions, the second is known here.
pub fn mirostat(name: &str, version: Option<u8>) -> Result<bool, Error> {
    match version {
        None | Some(0) => Ok(false),
        Some(2) => Ok(true),
        Some(other) => {
            let message = format!("'{name}' cannot be {other} here; it is 0 (off) or 2.");
            Err(Error::new(ErrorKind::Unsupported, message).param(name))
        }
    }
}

/// Returns the seed of a request. Its bits serve as well as any; -1 is what clients of other servers write for none.
pub fn seed(given: Option<i64>) -> Option<u64> {
    given.filter(|seed| *seed != -1).map(i64::cast_unsigned)
}

/// Reads a count of tokens; one beyond every context is as many as there is room for.
pub fn tokens<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    u64::deserialize(value).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}
