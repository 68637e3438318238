//! The key that prefixes on disk are sealed with: made once, kept in a file of the owner's alone, handed to every worker.
//! Without the file what was sealed is lost, which costs time only. Called by `run` at the start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pipe::ShelfKey;

use crate::random;

/// Reads the key, or makes one where there is none. Blocks.
pub fn key(path: &Path) -> io::Result<ShelfKey> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map(ShelfKey).map_err(|bytes: Vec<u8>| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a key has 32 bytes, and this file {}", bytes.len()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

/// Makes a key; a crash leaves no half of it.
fn make(path: &Path) -> io::Result<ShelfKey> {
    let key = random::bytes()?;
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    Ok(ShelfKey(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_half_of_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.key");
        let made = key(&path).unwrap();
        assert_eq!(key(&path).unwrap(), made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(made.0 != [0; 32] && key(&folder.path().join("other.key")).unwrap() != made);
        fs::write(&path, [1; 31]).unwrap();
        assert!(key(&path).unwrap_err().to_string().contains("31"));
    }
}
