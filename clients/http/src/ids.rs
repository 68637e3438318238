//! Ids of what the bridge makes: a prefix that says what it is, and random hexadecimal digits. They are distinct, not secret, and
//! grant nothing.

use std::hash::{BuildHasher, Hasher, RandomState};

/// How many digits an id has.
pub const DIGITS: usize = 24;

/// Returns a new id.
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}{}", random_hex(DIGITS))
}

/// Returns so many random hexadecimal digits, at most 32.
pub fn random_hex(digits: usize) -> String {
    // Each RandomState is keyed anew.
    let random = || RandomState::new().build_hasher().finish();
    let mut hex = format!("{:016x}{:016x}", random(), random());
    hex.truncate(digits);
    hex
}
