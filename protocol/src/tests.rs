//! What the whole crate is tested with: a small daemon without models, and the golden frames.

pub(crate) mod daemon;
mod golden;
mod samples;

use std::path::PathBuf;

/// Returns a fresh directory with a name short enough for sockets.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("impetus-").tempdir().unwrap()
}

/// Returns a path inside this crate's folder.
pub(crate) fn crate_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}
