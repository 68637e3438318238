//! API keys: the first one, made at the first start, and who holds the one that a request shows. The database keeps
//! digests only; the first key itself is in a file that nobody but its owner can read. No key is ever logged.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use protocol::status::Principal;
use protocol::{Error, ErrorKind, Result};
use store::Secret;

use crate::catalogue::Catalogue;
use crate::paths::Paths;

/// Longer texts are no keys, and are not looked up.
const KEY_BYTES_MAX: usize = 256;

/// Makes the first key, unless there is one. The file comes first: a key whose file was lost in a crash would be
/// lost for good, because the database only knows its digest. Blocks.
pub fn prepare(paths: &Paths, catalogue: &Catalogue) -> Result<()> {
    let broken = |error: io::Error| Error::internal(format!("{} cannot be used: {error}", paths.key().display()));
    let secret = match fs::read_to_string(paths.key()) {
        Ok(text) => Secret::from_text(&text),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
        // The user put the first key away: the database still knows it.
        Err(_) if catalogue.has_keys()? => return Ok(()),
        Err(_) => {
            let secret = Secret::new().map_err(|error| Error::internal(error.to_string()))?;
            write_private(paths, &secret).map_err(broken)?;
            tracing::info!("the first API key is made; `impetusctl key show` prints it");
            secret
        }
    };
    catalogue.add_first_key(&secret)
}

/// Returns the first key.
pub fn first(paths: &Paths) -> Result<String> {
    let key = fs::read_to_string(paths.key()).map_err(|error| {
        let message = format!("the first key is not in {}: {error}", paths.key().display());
        Error::new(ErrorKind::NotFound, message).hint("use the copy you made of it")
    })?;
    Ok(key.trim().to_owned())
}

/// Says who holds a key.
pub async fn authenticate(catalogue: &Catalogue, key: &str) -> Result<Principal> {
    let unknown = || {
        Error::new(ErrorKind::AuthRequired, "this API key is not known, or is no longer valid")
            .hint("`impetusctl key show` prints the first one")
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(unknown());
    }
    catalogue.holder(Secret::from_text(key)).await?.ok_or_else(unknown)
}

/// Writes the key where only its owner can read it; a crash leaves no half of it.
fn write_private(paths: &Paths, secret: &Secret) -> io::Result<()> {
    let part = paths.key().with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    writeln!(file, "{}", secret.reveal())?;
    file.sync_all()?;
    fs::rename(part, paths.key())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use protocol::status::KeyRole;

    use super::*;

    #[tokio::test]
    async fn the_first_key_is_made_once_kept_private_and_let_in() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::make(home.path()).unwrap();
        let catalogue = Catalogue::open(&paths.database()).unwrap();
        prepare(&paths, &catalogue).unwrap();
        let key = first(&paths).unwrap();
        assert!(key.starts_with("imp_") && key.len() > 40, "a key of {} letters", key.len());
        assert_eq!(fs::metadata(paths.key()).unwrap().permissions().mode() & 0o777, 0o600);
        prepare(&paths, &catalogue).unwrap();
        assert_eq!(first(&paths).unwrap(), key);
        assert_eq!(authenticate(&catalogue, &key).await.unwrap().role, KeyRole::Admin);
        for wrong in ["", "imp_", "imp_00", &key[..key.len() - 1], &"x".repeat(10_000)] {
            assert_eq!(authenticate(&catalogue, wrong).await.unwrap_err().kind, ErrorKind::AuthRequired);
        }
        // A key that its user put away stays valid, and no second one is made behind their back.
        fs::remove_file(paths.key()).unwrap();
        prepare(&paths, &catalogue).unwrap();
        assert_eq!(first(&paths).unwrap_err().kind, ErrorKind::NotFound);
        assert!(authenticate(&catalogue, &key).await.is_ok());
    }

    #[tokio::test]
    async fn a_key_file_makes_its_key_known_to_a_new_database() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::make(home.path()).unwrap();
        fs::write(paths.key(), "imp_mine\n").unwrap();
        let catalogue = Catalogue::open(&paths.database()).unwrap();
        prepare(&paths, &catalogue).unwrap();
        assert!(authenticate(&catalogue, "imp_mine").await.is_ok());
    }
}
