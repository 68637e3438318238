//! Documents that clients keep here: answers that a later request goes on from, conversations with a name, files and batches.
//!
//! A document has an owner, whose name for it is no matter of other owners, a version that counts its changes, and an end. A
//! collection is bounded in number and in bytes: when it is full, whoever holds most loses what it has not touched for longest,
//! or no new one is taken, and then no key may take more than half. Time is an argument. What a body means is its client's.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use crate::{Result, Store};

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is known of it besides its body.
    pub about: About,
    /// The document, JSON.
    pub body: String,
}

/// What is known of a document besides its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its owner's name for it in its collection.
    pub id: String,
    /// The id of the key that it belongs to; `None` is the user of the socket.
    pub owner: Option<String>,
    /// What lists show.
    pub label: String,
    /// How often it was written, from 1.
    pub version: u64,
    /// When it was first written, in milliseconds since 1970.
    pub created_unix_ms: i64,
    /// When it was last written.
    pub updated_unix_ms: i64,
    /// When it goes.
    pub expires_unix_ms: Option<i64>,
    /// The length of its body.
    pub bytes: u64,
}

/// A document to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The collection.
    pub collection: &'static str,
    /// Its name there.
    pub id: String,
    /// Whose it is.
    pub owner: Option<String>,
    /// What lists show.
    pub label: String,
    /// The document, JSON.
    pub body: String,
    /// The version that it replaces: 0 if there must be none, `None` for whichever there is.
    pub replaces: Option<u64>,
    /// When it goes.
    pub expires_unix_ms: Option<i64>,
}

/// What a collection may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Documents.
    pub count: u32,
    /// Bytes of their bodies together.
    pub bytes: u64,
    /// What gives way when there is no more room.
    pub full: Full,
}

/// What gives way when a collection has no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// What was not touched for longest goes, of whoever holds most: one busy key drops nothing of the others.
    Drop,
    /// The new one is not written: something still counts on those that are there. A key has half of the room at most.
    Refuse,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was written.
    Written(About),
    /// The document has another version, and is as it was; `None` if there is none to replace.
    Differs(Option<About>),
    /// There is no room for it, and nothing goes to make some.
    Full,
}

/// Which documents a reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// All of them.
    Anyone,
    /// Those of the key.
    Key(String),
}

/// The table of documents.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(pub(crate) &'a Store);

impl Records<'_> {
    /// Writes a document, drops what has expired, and what does not fit any more; all of it or nothing.
    pub fn keep(self, mut draft: Draft, bounds: Bounds, now_unix_ms: i64) -> Result<Kept> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM records WHERE expires_unix_ms <= ?1", [now_unix_ms])?;
            let asker = draft.owner.clone();
            let mut found = about(&transaction, draft.collection, &draft.id, asker.as_deref())?;
            // The user of the socket may change what belongs to a key, but only knowing what; whose it is stays.
            if asker.is_none() && found.is_none() && draft.replaces.is_some_and(|version| version > 0) {
                found = of_any_key(&transaction, draft.collection, &draft.id)?;
            }
            let version = found.as_ref().map_or(0, |found| found.version);
            if draft.replaces.is_some_and(|replaced| replaced != version) {
                return Ok(Kept::Differs(found));
            }
            let owner = found.map_or(draft.owner.take(), |found| found.owner);
            let (collection, id) = (draft.collection, draft.id.clone());
            write(&transaction, Draft { owner: owner.clone(), ..draft }, version + 1, now_unix_ms)?;
            match bounds.full {
                Full::Drop => trim(&transaction, collection, &id, owner.as_deref(), bounds)?,
                // Nothing was committed.
                Full::Refuse if !fits(&transaction, collection, asker, bounds)? => return Ok(Kept::Full),
                Full::Refuse => {}
            }
            let written = about(&transaction, collection, &id, owner.as_deref())?;
            let written = written.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            transaction.commit()?;
            Ok(Kept::Written(written))
        })
    }

    /// Returns a document that the reader may see and that has not expired: where several owners have one of that name,
    /// the user of the socket is shown its own, or what a key wrote last.
    pub fn find(self, collection: &'static str, id: &str, reader: Reader, now_unix_ms: i64) -> Result<Option<Record>> {
        let id = id.to_owned();
        self.0.call(move |connection| {
            let select =
                format!("SELECT * FROM records WHERE collection = :collection AND id = :id AND {VISIBLE} {FIRST}");
            let values = named_params! {
                ":collection": collection, ":id": id, ":key": key(&reader), ":now": now_unix_ms,
            };
            let read = |row: &Row<'_>| Ok(Record { about: read(row)?, body: row.get("body")? });
            connection.prepare(&select)?.query_row(values, read).optional()
        })
    }

    /// Forgets the document that `find` would return; says whether there was one.
    pub fn forget(self, collection: &'static str, id: &str, reader: Reader, now_unix_ms: i64) -> Result<bool> {
        let id = id.to_owned();
        self.0.call(move |connection| {
            let delete = format!(
                "DELETE FROM records WHERE rowid = (SELECT rowid FROM records
                 WHERE collection = :collection AND id = :id AND {VISIBLE} {FIRST})"
            );
            let values = named_params! {
                ":collection": collection, ":id": id, ":key": key(&reader), ":now": now_unix_ms,
            };
            Ok(connection.execute(&delete, values)? > 0)
        })
    }

    /// Returns what is known of the documents that the reader may see, those written last first, at most `count`, from
    /// after the one named `after` on; of several of that name, after the last.
    pub fn list(
        self,
        collection: &'static str,
        reader: Reader,
        after: Option<String>,
        count: u32,
        now_unix_ms: i64,
    ) -> Result<Vec<About>> {
        self.0.call(move |connection| {
            let select = format!(
                "SELECT {ABOUT} FROM records WHERE collection = :collection AND {VISIBLE}
                 AND (:after IS NULL OR (updated_unix_ms, id) <
                     (SELECT updated_unix_ms, id FROM records
                      WHERE collection = :collection AND id = :after AND {VISIBLE} ORDER BY updated_unix_ms LIMIT 1))
                 ORDER BY updated_unix_ms DESC, id DESC LIMIT :count"
            );
            let values = named_params! {
                ":collection": collection, ":key": key(&reader), ":now": now_unix_ms, ":after": after, ":count": count,
            };
            connection.prepare(&select)?.query_map(values, read)?.collect()
        })
    }
}

/// What a reader may see: of its own, or with no key all, and nothing that has expired.
const VISIBLE: &str = "(:key IS NULL OR owner = :key) AND (expires_unix_ms IS NULL OR expires_unix_ms > :now)";

/// Which of several with one name is meant.
const FIRST: &str = "ORDER BY owner IS NOT NULL, updated_unix_ms DESC, owner LIMIT 1";

/// All columns but the body, which is long.
const ABOUT: &str = "id, owner, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes";

fn key(reader: &Reader) -> Option<&str> {
    match reader {
        Reader::Anyone => None,
        Reader::Key(key) => Some(key),
    }
}

fn about(connection: &Connection, collection: &str, id: &str, owner: Option<&str>) -> rusqlite::Result<Option<About>> {
    let select = format!("SELECT {ABOUT} FROM records WHERE collection = ?1 AND id = ?2 AND owner IS ?3");
    connection.prepare(&select)?.query_row((collection, id, owner), read).optional()
}

fn of_any_key(connection: &Connection, collection: &str, id: &str) -> rusqlite::Result<Option<About>> {
    let select = format!("SELECT {ABOUT} FROM records WHERE collection = ?1 AND id = ?2 {FIRST}");
    connection.prepare(&select)?.query_row((collection, id), read).optional()
}

fn write(connection: &Connection, draft: Draft, version: u64, now_unix_ms: i64) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO records
            (collection, id, owner, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes, body)
        VALUES (:collection, :id, :owner, :label, :version, :now, :now, :expires, :bytes, :body)
        ON CONFLICT (collection, id, coalesce(owner, '')) DO UPDATE SET label = :label, version = :version, updated_unix_ms = :now,
            expires_unix_ms = :expires, bytes = :bytes, body = :body";
    let values = named_params! {
        ":collection": draft.collection, ":id": draft.id, ":owner": draft.owner, ":label": draft.label,
        ":version": version as i64, ":now": now_unix_ms, ":expires": draft.expires_unix_ms,
        ":bytes": draft.body.len() as i64, ":body": draft.body,
    };
    connection.prepare(upsert)?.execute(values).map(drop)
}

/// How many documents there are, and how many bytes: in a collection, or of it what belongs to one key.
fn held(connection: &Connection, collection: &str, owner: Option<&str>) -> rusqlite::Result<(i64, i64)> {
    let held = "SELECT count(*), coalesce(sum(bytes), 0) FROM records
        WHERE collection = ?1 AND (?2 IS NULL OR owner = ?2)";
    connection.prepare(held)?.query_row((collection, owner), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether a collection is within its bounds, and a key within its share.
fn fits(connection: &Connection, collection: &str, owner: Option<String>, bounds: Bounds) -> rusqlite::Result<bool> {
    let (count, bytes) = (i64::from(bounds.count), bounds.bytes as i64);
    let of_all = held(connection, collection, None)?;
    let of_key = owner.map_or(Ok((0, 0)), |owner| held(connection, collection, Some(&owner)))?;
    Ok(of_all.0 <= count && of_all.1 <= bytes && 2 * of_key.0 <= count && 2 * of_key.1 <= bytes)
}

/// Drops documents past a collection's bounds, except the one that was just written: the oldest of whoever holds most.
fn trim(
    connection: &Connection,
    collection: &str,
    written: &str,
    owner: Option<&str>,
    bounds: Bounds,
) -> rusqlite::Result<()> {
    loop {
        let (count, bytes) = held(connection, collection, None)?;
        let most = match (count > i64::from(bounds.count), bytes > bounds.bytes as i64) {
            (true, _) => "count(*)",
            (_, true) => "sum(bytes)",
            _ => return Ok(()),
        };
        let other = "collection = ?1 AND NOT (id = ?2 AND owner IS ?3)";
        let delete = format!(
            "DELETE FROM records WHERE rowid = (
                SELECT rowid FROM records WHERE {other} AND owner IS (
                    SELECT owner FROM records WHERE {other} GROUP BY owner ORDER BY {most} DESC LIMIT 1)
                ORDER BY updated_unix_ms, id LIMIT 1)"
        );
        if connection.prepare(&delete)?.execute((collection, written, owner))? == 0 {
            return Ok(());
        }
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<About> {
    let count = |name: &str| row.get(name).map(|value: i64| u64::try_from(value).unwrap_or(0));
    Ok(About {
        id: row.get("id")?,
        owner: row.get("owner")?,
        label: row.get("label")?,
        version: count("version")?,
        created_unix_ms: row.get("created_unix_ms")?,
        updated_unix_ms: row.get("updated_unix_ms")?,
        expires_unix_ms: row.get("expires_unix_ms")?,
        bytes: count("bytes")?,
    })
}
