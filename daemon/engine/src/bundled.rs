//! The models that ship inside the worker, written out as ordinary folders so that everything else treats them as such.
//!
//! [`install`] makes the folders exact: absent ones are written, ones of another release or with damaged files are
//! replaced, each in one rename, so a reader finds a whole folder or none. Files of the user's own are never touched.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file of a bundled model: its name and its bytes.
type Asset = (&'static str, &'static [u8]);

macro_rules! assets {
    ($model:literal: $($file:literal),+) => {
        &[$(($file, include_bytes!(concat!("../assets/", $model, "/", $file)))),+]
    };
}

const MODELS: [(&str, &[Asset]); 2] = [
    (
        "impetus-nano",
        assets!("impetus-nano": "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
            "chat_template.jinja", "model.safetensors"),
    ),
    (
        "impetus-nano-embed",
        assets!("impetus-nano-embed": "config.json", "tokenizer.json", "tokenizer_config.json", "modules.json",
            "1_Pooling/config.json", "model.safetensors"),
    ),
];

/// A bundled model's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The model's name.
    pub name: &'static str,
    /// Its folder.
    pub path: PathBuf,
}

/// Writes every bundled model to a folder of its name inside `dir`, unless the folder is already exact.
pub fn install(dir: &Path) -> io::Result<Vec<Installed>> {
    fs::create_dir_all(dir)?;
    let place = |(name, assets): &(&'static str, &[Asset])| {
        let path = dir.join(name);
        if !is_exact(&path, assets) {
            replace(&path, assets)?;
        }
        Ok(Installed { name, path })
    };
    MODELS.iter().map(place).collect()
}

/// Whether a folder holds these files, byte for byte.
fn is_exact(path: &Path, assets: &[Asset]) -> bool {
    let same = |(name, bytes): &Asset| {
        let file = path.join(name);
        let length = fs::metadata(&file).map(|metadata| metadata.len());
        length.is_ok_and(|length| length == bytes.len() as u64) && fs::read(&file).is_ok_and(|found| found == *bytes)
    };
    assets.iter().all(same)
}

/// Puts a folder of these files in the place of whatever is there.
fn replace(path: &Path, assets: &[Asset]) -> io::Result<()> {
    // Two processes may install at once; each writes beside the other and the last rename wins.
    let beside = |what: &str| path.with_extension(format!("{what}-{}", std::process::id()));
    let (new, old) = (beside("new"), beside("old"));
    remove(&new)?;
    remove(&old)?;
    fs::create_dir(&new)?;
    for (name, bytes) in assets {
        let path = new.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    match fs::rename(path, &old) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::rename(&new, path)?;
    remove(&old)
}

/// Removes a file or a folder, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
