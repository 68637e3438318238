//! Seals files with a key (AES-256-GCM), so that they tell nothing without it and nothing can be put in their place.
//!
//! Each file has a random nonce of its own; its name is sealed along, so that one cannot pass for another. Where the key lies
//! is the daemon's business. Only `file` calls this.

use std::io;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::Digest;

/// Bytes that a seal adds to what it covers.
pub const SEAL_BYTES: usize = NONCE_LEN + 16;

/// A key at work.
pub struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    /// Makes a key ready.
    pub fn new(key: &pipe::ShelfKey) -> io::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| io::Error::other("the key does not fit"))?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Contents as they are written under a name: nonce, sealed contents, tag.
    pub fn close(&self, name: &Digest, contents: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let mut sealed = Vec::with_capacity(contents.len() + SEAL_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(contents);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(name), &mut sealed[NONCE_LEN..]);
        sealed.extend_from_slice(tag.map_err(|_| io::Error::other("the contents cannot be sealed"))?.as_ref());
        Ok(sealed)
    }

    /// What was sealed under a name.
    pub fn open(&self, name: &Digest, mut sealed: Vec<u8>) -> io::Result<Vec<u8>> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "the file was not sealed so with this key");
        if sealed.len() < SEAL_BYTES {
            return Err(broken());
        }
        let rest = sealed.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&sealed).map_err(|_| broken())?;
        let mut contents = rest;
        let length = self.key.open_in_place(nonce, Aad::from(name), &mut contents).map_err(|_| broken())?.len();
        contents.truncate(length);
        Ok(contents)
    }
}
