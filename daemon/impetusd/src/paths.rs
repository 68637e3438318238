//! Where things live: everything is under IMPETUS_HOME, and nobody but its owner may look. It makes folders and
//! computes paths, and reads no file. Used by whoever opens one.

use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The folder of all state.
#[derive(Clone, Debug)]
pub struct Paths {
    home: PathBuf,
}

impl Paths {
    /// Makes the folder, for the owner only.
    pub fn make(home: &Path) -> io::Result<Self> {
        private_folder(home)?;
        set_permissions(home, Permissions::from_mode(0o700))?;
        let paths = Self { home: home.to_owned() };
        private_folder(&paths.logs())?;
        private_folder(&paths.models())?;
        Ok(paths)
    }

    /// The folder itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The configuration file, if the user wrote one.
    pub fn config(home: &Path) -> PathBuf {
        home.join("config.toml")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.home.join("impetus.db")
    }

    /// The first key, readable by the owner only.
    pub fn key(&self) -> PathBuf {
        self.home.join("key")
    }

    /// The folder of log files.
    pub fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// The daemon's log file.
    pub fn log(&self) -> PathBuf {
        self.logs().join("impetusd.log")
    }

    /// The folder of models that Impetus keeps itself.
    pub fn models(&self) -> PathBuf {
        self.home.join("models")
    }

    /// The folder of bundled models.
    pub fn bundled(&self) -> PathBuf {
        self.models().join("bundled")
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
