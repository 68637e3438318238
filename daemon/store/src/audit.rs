//! The log of changes: who added, removed, pinned or revoked what. Bounded like the log of requests.

use rusqlite::{Row, Transaction};

use crate::requests::KEPT;
use crate::{Result, Store};

/// What ordinary clients do all day, and how many entries of it are kept: it shall not push out who made which key.
const OFTEN: &str = "action IN ('model.load', 'model.unload')";
const OFTEN_KEPT: i64 = 10_000;

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
    for (which, kept) in [(OFTEN, OFTEN_KEPT), ("true", KEPT)] {
        let last = format!("SELECT id FROM audit_log WHERE {which} ORDER BY id DESC LIMIT 1 OFFSET {kept}");
        transaction.execute(&format!("DELETE FROM audit_log WHERE {which} AND id <= ({last})"), [])?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    /// Writes many entries of one kind in one go.
    fn fill(store: &Store, action: &'static str, count: i64) {
        let insert = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
            INSERT INTO audit_log (time_unix_ms, actor, action, subject) SELECT 0, 'key_1', ?1, 'm' FROM n";
        store.call(move |connection| connection.execute(insert, (action, count))).unwrap();
    }

    #[test]
    fn loads_push_out_loads_and_nothing_else() {
        let (_directory, store) = store();
        let change = |action: &str, subject: &str| Change {
            time_unix_ms: 1,
            actor: "uid 1".into(),
            action: action.into(),
            subject: subject.into(),
        };
        store.audit().record(change("key.create", "first")).unwrap();
        for _ in 0..11 {
            fill(&store, "model.load", OFTEN_KEPT);
            store.audit().record(change("model.unload", "m")).unwrap();
        }
        let kept = store.audit().page(200_000, None).unwrap();
        assert_eq!(kept.len() as i64, OFTEN_KEPT + 1);
        assert_eq!(kept.last().unwrap().1, change("key.create", "first"));
        fill(&store, "key.create", KEPT);
        store.audit().record(change("key.revoke", "last")).unwrap();
        let kept = store.audit().page(200_000, None).unwrap();
        assert_eq!((kept.len() as i64, kept[0].1.subject.as_str()), (KEPT, "last"));
    }
}
