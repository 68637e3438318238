//! Which of the prefixes that workers put away on disk may stay: those that the configuration would have put away, of models
//! that are known.
//!
//! Every model folder has a folder of prefixes, named after its path, so that what a model leaves can be found without a worker
//! and two names of one model folder share theirs. What is in the files is the workers' business. The daemon calls it at its
//! start, now and then, and when a model was removed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use protocol::model::ModelCard;
use sha2::{Digest as _, Sha256};

use crate::config::Cache;
use crate::paths::Paths;

/// The name of the folder of prefixes of the model in a folder.
pub fn name(model_path: &str) -> String {
    Sha256::digest(model_path)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes the prefixes that this configuration would not have put away: all where there is no cache on disk, else those that
/// are sealed and should not be, or the other way round. Blocks.
pub fn discard(paths: &Paths, cache: &Cache) {
    for sealed in [true, false] {
        if cache.disk == 0 || sealed != cache.encrypt {
            remove(&paths.prefixes(sealed));
        }
    }
}

/// Removes the prefixes of all but these models. Blocks.
pub fn sweep(paths: &Paths, models: &[ModelCard]) {
    let known: HashSet<String> = models.iter().map(|card| name(&card.path)).collect();
    for sealed in [true, false] {
        let entries = fs::read_dir(paths.prefixes(sealed)).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let unknown = folders.filter(|entry| entry.file_name().to_str().is_none_or(|name| !known.contains(name)));
        unknown.for_each(|entry| remove(&entry.path()));
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %folder.display(), "prefixes that should not be kept cannot be removed");
        }
        _ => {}
    }
}
