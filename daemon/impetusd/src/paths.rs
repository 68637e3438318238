//! Where things live: everything is under IMPETUS_HOME, and nobody but its owner may look. It makes folders and
//! computes paths, and reads no file. One daemon at a time holds the folder's lock. Used by whoever opens a file of it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long to wait for the lock: a child of a daemon that was just killed may hold it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How often the lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

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

    /// Takes the folder for this process; it is free again when the file is closed. `WouldBlock` if another daemon has it.
    pub fn lock(&self) -> io::Result<File> {
        let path = self.home.join("lock");
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)?;
        let end = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(LOCK_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
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

    /// The folder of prefixes that workers put away, sealed or not.
    pub fn prefixes(&self, sealed: bool) -> PathBuf {
        self.home.join("cache").join(if sealed { "sealed" } else { "prefixes" })
    }

    /// The folder of models that were made of GGUF files.
    pub fn imported(&self) -> PathBuf {
        self.models().join("imported")
    }

    /// The lists of what was fetched into the cache that all tools of the hub share.
    pub fn fetched(&self) -> PathBuf {
        self.models().join("fetched")
    }

    /// The key that those prefixes are sealed with, readable by the owner only.
    pub fn prefix_key(&self) -> PathBuf {
        self.home.join("cache.key")
    }

    /// The folder of bundled models.
    pub fn bundled(&self) -> PathBuf {
        self.models().join("bundled")
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
