//! The secret half of a key: `imp_` and 43 letters and digits, 256 bits of the system's randomness.
//!
//! It never shows itself in a debug print. What the database keeps of it is `digest`; what logs may show is `id`.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::Digest as Known;
use crate::StoreError;

/// What every secret starts with, so that scanners and people know one when they see it.
const PREFIX: &str = "imp_";

/// How many letters follow: 43 × log2(62) is 256 bits.
const LETTERS: usize = 43;

/// The alphabet; no punctuation, so that a double click selects all of it.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Draws a new secret from the system.
    pub fn new() -> Result<Self, StoreError> {
        let mut secret = String::with_capacity(PREFIX.len() + LETTERS);
        secret.push_str(PREFIX);
        while secret.len() < PREFIX.len() + LETTERS {
            let mut bytes = [0; 64];
            getrandom::fill(&mut bytes).map_err(|error| StoreError::Io {
                what: "cannot draw a key from",
                path: "the system's randomness".into(),
                source: error.into(),
            })?;
            // Bytes past the last whole alphabet are skipped: a remainder of them would favour the first letters.
            let fair = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
            let letters = fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
            secret.extend(letters.take(PREFIX.len() + LETTERS - secret.len()));
        }
        Ok(Self(secret))
    }

    /// Takes what somebody presents as a secret; a wrong one is simply not found.
    pub fn from_text(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Shows the secret, for its owner's eyes.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what the database knows it by.
    pub fn digest(&self) -> Known {
        Known::new(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Returns the key's id, `key_` and twelve hexadecimal digits of the digest: it tells nothing about the secret.
    pub fn id(&self) -> String {
        format!("key_{:012x}", self.digest().prefix() >> 16)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
