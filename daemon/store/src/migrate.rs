//! From whatever version a database has to the one this build knows, in one transaction.
//!
//! `user_version` counts the migrations that have run. They are only ever appended. A database with more of them than
//! this build has, or one of another program, is refused and left as it is.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::explain;
use crate::{Result, StoreError};

/// Every migration, oldest first.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_init.sql"),
    include_str!("../migrations/0002_records.sql"),
    include_str!("../migrations/0003_access.sql"),
    include_str!("../migrations/0004_settings.sql"),
    include_str!("../migrations/0005_names.sql"),
    include_str!("../migrations/0006_settings_only.sql"),
];

/// What a database of ours says it is: `IMPT`.
const APPLICATION_ID: i64 = 0x494D_5054;

/// Refuses a database that this build must not touch.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<()> {
    let failed = |source| explain(path, source);
    let application = pragma(connection, "application_id").map_err(failed)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0)).map_err(failed)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let known = MIGRATIONS.len();
    let found = pragma(connection, "user_version").map_err(failed)?;
    match usize::try_from(found) {
        Ok(version) if version <= known => Ok(()),
        _ => Err(StoreError::Newer { path: path.to_owned(), found: found as u32, known: known as u32 }),
    }
}

/// Whether the database is one of ours that not all migrations have seen.
pub(crate) fn is_behind(connection: &Connection) -> rusqlite::Result<bool> {
    let seen = pragma(connection, "user_version")?;
    Ok(0 < seen && seen < MIGRATIONS.len() as i64)
}

/// Runs every migration of `migrations` that the database has not seen; all of them or none.
pub(crate) fn run(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    // Immediate: whoever comes second waits here, then finds the work done.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seen = usize::try_from(pragma(&transaction, "user_version")?).unwrap_or(usize::MAX);
    for migration in migrations.iter().skip(seen) {
        transaction.execute_batch(migration)?;
    }
    if seen < migrations.len() {
        transaction.pragma_update(None, "user_version", migrations.len() as i64)?;
    }
    transaction.commit()
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
