//! The models that Impetus ships, written out as folders, in the words that the daemon reads.
//!
//! The engine holds the files; the daemon never links it and asks `impetus-worker bundled DIR` instead.

use std::path::Path;

use protocol::Error;
use serde::Serialize;

/// A bundled model's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundledModel {
    /// The model's name.
    pub name: String,
    /// Its folder.
    pub path: String,
}

/// Writes every bundled model into a folder of its name inside `dir`, unless it is there already.
pub fn install(dir: &Path) -> Result<Vec<BundledModel>, Error> {
    let installed = engine::bundled::install(dir).map_err(|error| {
        Error::internal(format!("the bundled models cannot be written to {}: {error}", dir.display()))
            .hint("make room on the disk, or make the folder writable")
    })?;
    let name = |model: engine::bundled::Installed| BundledModel {
        name: model.name.to_string(),
        path: model.path.to_string_lossy().into_owned(),
    };
    Ok(installed.into_iter().map(name).collect())
}
