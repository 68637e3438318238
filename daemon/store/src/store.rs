//! The handle and the thread behind it: jobs go in through a bounded queue, each is run on the one connection.
//!
//! It opens, checks, migrates and backs up. What the tables mean is said by `models`, `keys`, `settings`, `records`, `requests`
//! and `audit`.

#[cfg(test)]
pub(crate) mod tests;

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction};

use crate::error::explain;
use crate::{Audit, Change, Keys, Models, Records, Requests, Result, Settings, StoreError, audit, migrate};

/// How long to wait for another process that holds the database.
const BUSY: Duration = Duration::from_secs(5);

/// How many jobs may wait; the next caller waits for room.
const QUEUE: usize = 64;

/// Something to do with the connection.
type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the database. Clones share one connection; it closes after the last of them.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: SyncSender<Job>,
    path: Arc<Path>,
    /// What is written down along with what this handle changes.
    noted: Option<Change>,
}

impl Store {
    /// Opens the database, makes it if there is none, and brings it to this build's schema. Its folder must exist.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = connect(path)?;
        let (jobs, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || work(connection, &queue))
            .map_err(|source| StoreError::Io { what: "cannot start the thread for", path: path.to_owned(), source })?;
        Ok(Self { jobs, path: path.into(), noted: None })
    }

    /// A handle whose changes of models and keys go into the log of changes, as `change`: both are on disk, or neither.
    pub fn noting(&self, change: Change) -> Self {
        Self { noted: Some(change), ..self.clone() }
    }

    /// The models.
    pub fn models(&self) -> Models<'_> {
        Models(self)
    }

    /// The API keys.
    pub fn keys(&self) -> Keys<'_> {
        Keys(self)
    }

    /// The log of requests.
    pub fn requests(&self) -> Requests<'_> {
        Requests(self)
    }

    /// What clients asked to be kept.
    pub fn records(&self) -> Records<'_> {
        Records(self)
    }

    /// What was changed of the configuration.
    pub fn settings(&self) -> Settings<'_> {
        Settings(self)
    }

    /// The log of changes.
    pub fn audit(&self) -> Audit<'_> {
        Audit(self)
    }

    /// Returns the database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole database, refuses it if it is damaged, and writes a compact copy to a new file, mode 0600.
    pub fn backup(&self, to: &Path) -> Result<()> {
        let failed = |source| explain(&self.path, source);
        // A connection of its own: the store is used meanwhile.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if found != "ok" {
            return Err(StoreError::Corrupt { path: self.path.to_path_buf(), detail: found });
        }
        copy(to, |name| connection.execute("VACUUM INTO ?1", [name]).map_err(|source| explain(to, source)))
    }

    /// Runs a job that changes something, all of it or nothing, and writes down what this handle notes.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let noted = self.noted.clone();
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let done = job(&transaction)?;
            noted.map_or(Ok(()), |change| audit::insert(&transaction, change))?;
            transaction.commit().map(|()| done)
        })
    }

    /// Runs a job on the store's thread and waits for its result.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = sync_channel(1);
        let job: Job = Box::new(move |connection| {
            // A caller that has gone needs no answer.
            let _ = answer.send(job(connection));
        });
        self.jobs.send(job).map_err(|_| StoreError::Closed)?;
        let result = answered.recv().map_err(|_| StoreError::Closed)?;
        result.map_err(|source| explain(&self.path, source))
    }
}

/// Runs jobs until the last handle is gone.
fn work(mut connection: Connection, queue: &Receiver<Job>) {
    for job in queue {
        job(&mut connection);
    }
}

/// Opens the connection, and refuses what must not be touched before anything is written.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    match create_private(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
        created => created?,
    }
    let failed = |source| explain(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    migrate::check(&connection, path)?;
    configure(&connection).map_err(failed)?;
    keep_older(&connection, path)?;
    migrate::run(&mut connection, migrate::MIGRATIONS).map_err(failed)?;
    protect(path)?;
    Ok(connection)
}

/// Keeps a copy of a database that is about to be changed so that older releases cannot read it any more; one at a time.
fn keep_older(connection: &Connection, path: &Path) -> Result<()> {
    let failed = |source| explain(path, source);
    if !migrate::is_behind(connection).map_err(failed)? {
        return Ok(());
    }
    let (kept, part) = (StoreError::older(path), path.with_added_extension("part"));
    let io = |what| move |source| StoreError::Io { what, path: path.to_owned(), source };
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("cannot copy")(error)),
        _ => {}
    }
    copy(&part, |name| connection.execute("VACUUM INTO ?1", [name]).map_err(failed))?;
    std::fs::rename(part, kept).map_err(io("cannot copy"))
}

/// Writes a copy of a database to a new file that only its owner can read, by `write`, which is told its name.
fn copy(to: &Path, write: impl FnOnce(String) -> Result<usize>) -> Result<()> {
    create_private(to)?;
    let name = to.to_str().map(str::to_owned).ok_or_else(|| StoreError::Io {
        what: "cannot back up to",
        path: to.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"),
    });
    let failed = |source| StoreError::Io { what: "cannot write", path: to.to_owned(), source };
    let copied = name.and_then(write).and_then(|_| File::open(to).and_then(|file| file.sync_all()).map_err(failed));
    if copied.is_err() {
        // Half a copy is worse than none; the file was made by this call.
        let _ = std::fs::remove_file(to);
    }
    copied
}

/// Sets what SQLite does not remember or does not default to.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Write-ahead logging: readers of other processes never wait, and kill -9 loses nothing that was committed.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // FULL, because a key that was shown must survive a power cut as well; writes are rare enough to afford it.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Makes an empty file that only its owner can read; SQLite gives its -wal and -shm files the same mode.
fn create_private(path: &Path) -> Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map(drop).map_err(|source| StoreError::Io { what: "cannot create", path: path.to_owned(), source })
}

/// Takes others' access to a database that was restored or copied by hand.
fn protect(path: &Path) -> Result<()> {
    let failed = |source| StoreError::Io { what: "cannot protect", path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)
}
