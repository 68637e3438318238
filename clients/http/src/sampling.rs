//! Settings of sampling, and limits, that more than one dialect knows under the same name.

use protocol::Error;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

/// The most alternatives beside a token.
const ALTERNATIVES_MAX: u8 = 20;

/// Texts that end an answer.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
pub enum StopStrings {
    /// One alone.
    One(String),
    /// Any of them.
    Many(Vec<String>),
}

impl StopStrings {
    /// Returns all of them.
    pub fn list(self) -> Vec<String> {
        match self {
            Self::One(string) => vec![string],
            Self::Many(strings) => strings,
        }
    }
}

/// Returns whether mirostat is on: of its versions, the second is known here.
pub fn mirostat(name: &str, version: Option<u8>) -> Result<bool, Error> {
    match version {
        None | Some(0) => Ok(false),
        Some(2) => Ok(true),
        Some(other) => {
            let message = format!("'{name}' cannot be {other} here; it is 0 (off) or 2.");
            Err(Error::unsupported(name, message))
        }
    }
}

/// Returns the seed of a request. Its bits serve as well as any; -1 is what clients of other servers write for none.
pub fn seed(given: Option<i64>) -> Option<u64> {
    given.filter(|seed| *seed != -1).map(i64::cast_unsigned)
}

/// Reads how many alternatives each token is to come with.
pub fn alternatives<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u8>, D::Error> {
    let Some(count) = Option::<i64>::deserialize(value)? else { return Ok(None) };
    let fitting = u8::try_from(count).ok().filter(|count| *count <= ALTERNATIVES_MAX);
    let expected = format!("a whole number from 0 to {ALTERNATIVES_MAX}");
    fitting.map(Some).ok_or_else(|| D::Error::invalid_value(Unexpected::Signed(count), &expected.as_str()))
}

/// Reads a count of tokens; one beyond every context is as many as there is room for.
pub fn tokens<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    u64::deserialize(value).map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}
