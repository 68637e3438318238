//! Random bytes from the operating system, for keys and seeds. It keeps no state and has no fallback: a machine
//! without them cannot make a key.

use std::fs::File;
use std::io::{self, Read};

/// Returns `N` random bytes, fit for secrets.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Returns a seed below 2^53, which every JSON reader keeps exact.
pub fn seed() -> io::Result<u64> {
    Ok(u64::from_le_bytes(bytes()?) >> 11)
}
