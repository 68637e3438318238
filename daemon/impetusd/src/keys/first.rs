//! The first key, made at the first start. The database keeps digests only; the key itself is in a file that nobody but
//! its owner can read. It is never logged. Called by `run` at the start and by `service`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use protocol::{Error, ErrorKind, Result};
use store::{Limits, NewKey, Role, Secret};

use crate::catalogue::Catalogue;
use crate::paths::Paths;
use crate::time::now_s;

/// Makes the first key, unless there are keys. The file comes first: a key whose file was lost in a crash would be
/// lost for good, because the database only knows its digest. Blocks.
pub fn prepare(paths: &Paths, catalogue: &Catalogue) -> Result<()> {
    let text = match fs::read_to_string(paths.key()) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(broken(paths, &error)),
    };
    // A file that names no known key, as after a rotation that a crash cut short, does not make it one again.
    if !catalogue.keys()?.is_empty() {
        return Ok(());
    }
    let secret = match text {
        Some(text) => Secret::from_text(&text),
        None => {
            let secret = Secret::new().map_err(|error| Error::internal(error.to_string()))?;
            write(paths, &secret)?;
            tracing::info!("the first API key is made; `impetusctl key show` prints it");
            secret
        }
    };
    let new = NewKey {
        label: "first key".to_owned(),
        role: Role::Admin,
        models: Vec::new(),
        limits: Limits::default(),
        created_unix_s: now_s(),
        expires_unix_s: None,
    };
    let key = catalogue.add_first_key(&secret, new)?;
    tracing::debug!(key = %key.id, "the first key is known");
    Ok(())
}

/// Returns the first key.
pub fn read(paths: &Paths) -> Result<String> {
    let key = fs::read_to_string(paths.key()).map_err(|error| {
        let message = format!("the first key is not in {}: {error}", paths.key().display());
        Error::new(ErrorKind::NotFound, message).hint("use the copy you made of it, or `impetusctl key create`")
    })?;
    Ok(key.trim().to_owned())
}

/// Writes the first key where only its owner can read it; a crash leaves no half of it. Blocks.
pub fn write(paths: &Paths, secret: &Secret) -> Result<()> {
    let part = paths.key().with_extension("part");
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        writeln!(file, "{}", secret.reveal())?;
        file.sync_all()?;
        fs::rename(&part, paths.key())
    };
    written().map_err(|error| broken(paths, &error))
}

fn broken(paths: &Paths, error: &io::Error) -> Error {
    Error::internal(format!("{} cannot be used: {error}", paths.key().display()))
}
