//! What can go wrong with the database, and what the reader can do about it.
//!
//! Every SQLite error passes through `explain`, which turns the causes a person can act on into kinds of their own.
//! No error path deletes or replaces a database.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is no readable database.
    #[error("the database {} is damaged: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// A later release has used the file.
    #[error("the database {} has schema version {found}; this release knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The latest this build knows.
        known: u32,
    },
    /// The file is another program's database.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process held the database for too long.
    #[error("the database {} is in use by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// There is no room.
    #[error("the disk of the database {} is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, as in `cannot create`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite failed in another way.
    #[error("the database {} failed: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The store's thread has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Where a database is kept as it was before a later release changed it.
    pub(crate) fn older(path: &Path) -> PathBuf {
        path.with_added_extension("older")
    }

    /// Says what the reader can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Corrupt { path, .. } => format!(
                "stop Impetus, keep a copy of {0}, then put a backup in its place, or move it and its -wal file away to \
                 start empty; nothing was deleted",
                path.display()
            ),
            Self::Newer { path, .. } => format!(
                "install the newer release again, or put {} in its place, which was kept before that release changed it",
                Self::older(path).display()
            ),
            Self::Foreign { .. } => "set IMPETUS_HOME to a folder of its own".into(),
            Self::Locked { .. } => "end the other process that uses this IMPETUS_HOME, then try again".into(),
            Self::Full { .. } => "free some space, then try again; what was saved before is safe".into(),
            Self::Io { path, .. } | Self::Sqlite { path, .. } => {
                format!("check the owner, the permissions and the disk of {}", path.display())
            }
            Self::Closed => "this is a defect of Impetus; please report it".into(),
        }
    }
}

/// Turns an error of SQLite into ours.
pub(crate) fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path, detail: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        _ => StoreError::Sqlite { path, source },
    }
}
