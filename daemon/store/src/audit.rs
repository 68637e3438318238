//! The log of changes: who added, removed, pinned or revoked what. Bounded like the log of requests.

use rusqlite::{Row, Transaction};

use crate::requests::KEPT;
use crate::{Result, Store};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, in milliseconds since 1970.
    pub time_unix_ms: i64,
    /// Who: a key's id, or `uid 501` for the socket.
    pub actor: String,
    /// What was done, as in `model.add`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
}

/// The table of changes.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a>(pub(crate) &'a Store);

impl Audit<'_> {
    /// Appends a change and drops the oldest entries past the bound.
    pub fn record(self, change: Change) -> Result<()> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            insert(&transaction, change)?;
            transaction.commit()
        })
    }

    /// Returns changes with their numbers, newest first: at most `count`, and only those before the number `after`.
    pub fn page(self, count: u32, after: Option<i64>) -> Result<Vec<(i64, Change)>> {
        self.0.call(move |connection| {
            let select = "SELECT * FROM audit_log WHERE id < ?2 ORDER BY id DESC LIMIT ?1";
            connection.prepare(select)?.query_map((count, after.unwrap_or(i64::MAX)), read)?.collect()
        })
    }
}

/// Appends a change within a transaction, and drops the oldest entries past the bound.
pub(crate) fn insert(transaction: &Transaction<'_>, change: Change) -> rusqlite::Result<()> {
    let insert = "INSERT INTO audit_log (time_unix_ms, actor, action, subject) VALUES (?1, ?2, ?3, ?4)";
    let values = (change.time_unix_ms, change.actor, change.action, change.subject);
    transaction.execute(insert, values)?;
    let trim = "DELETE FROM audit_log WHERE id <= (SELECT max(id) FROM audit_log) - ?1";
    transaction.execute(trim, [KEPT]).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Change)> {
    let change = Change {
        time_unix_ms: row.get("time_unix_ms")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        subject: row.get("subject")?,
    };
    Ok((row.get("id")?, change))
}
