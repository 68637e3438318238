//! Documents that clients keep here: answers that a later request goes on from, conversations with a name.
//!
//! A document has an owner, a version that counts its changes, and an end. A collection is bounded in number and in bytes:
//! when it is full, those that were not touched for longest go, or no new one is taken. Time is an argument. What a body
//! means is its client's.

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
    /// Its name in its collection.
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
    /// Those that were not touched for longest go.
    Drop,
    /// The new one is not written: something still counts on those that are there.
    Refuse,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was written.
    Written(About),
    /// The document has another version, or another owner, and is as it was; `None` if there is none to replace.
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
    pub fn keep(self, draft: Draft, bounds: Bounds, now_unix_ms: i64) -> Result<Kept> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM records WHERE expires_unix_ms <= ?1", [now_unix_ms])?;
            let found = about(&transaction, draft.collection, &draft.id)?;
            let version = found.as_ref().map_or(0, |found| found.version);
            // The user of the socket may change what belongs to a key, but only knowing what; whose it is stays.
            let knows = draft.owner.is_none() && draft.replaces.is_some();
            let stranger = found.as_ref().is_some_and(|found| found.owner != draft.owner && !knows);
            if stranger || draft.replaces.is_some_and(|replaced| replaced != version) {
                return Ok(Kept::Differs(found));
            }
            let (collection, id) = (draft.collection, draft.id.clone());
            write(&transaction, draft, version + 1, now_unix_ms)?;
            if !fits(&transaction, collection, bounds)? {
                match bounds.full {
                    Full::Drop => trim(&transaction, collection, &id, bounds)?,
                    // Nothing was committed.
                    Full::Refuse => return Ok(Kept::Full),
                }
            }
            let written = about(&transaction, collection, &id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            transaction.commit()?;
            Ok(Kept::Written(written))
        })
    }

    /// Returns a document that the reader may see and that has not expired.
    pub fn find(self, collection: &'static str, id: &str, reader: Reader, now_unix_ms: i64) -> Result<Option<Record>> {
        let id = id.to_owned();
        self.0.call(move |connection| {
            let select = format!("SELECT * FROM records WHERE collection = :collection AND id = :id AND {VISIBLE}");
            let values = named_params! {
                ":collection": collection, ":id": id, ":key": key(&reader), ":now": now_unix_ms,
            };
            let read = |row: &Row<'_>| Ok(Record { about: read(row)?, body: row.get("body")? });
            connection.prepare(&select)?.query_row(values, read).optional()
        })
    }

    /// Forgets a document that the reader may see; says whether there was one.
    pub fn forget(self, collection: &'static str, id: &str, reader: Reader, now_unix_ms: i64) -> Result<bool> {
        let id = id.to_owned();
        self.0.call(move |connection| {
            let delete = format!("DELETE FROM records WHERE collection = :collection AND id = :id AND {VISIBLE}");
            let values = named_params! {
                ":collection": collection, ":id": id, ":key": key(&reader), ":now": now_unix_ms,
            };
            Ok(connection.execute(&delete, values)? > 0)
        })
    }

    /// Returns what is known of the documents that the reader may see, those written last first, at most `count`, from
    /// after the one named `after` on.
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
                     (SELECT updated_unix_ms, id FROM records WHERE collection = :collection AND id = :after))
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

/// All columns but the body, which is long.
const ABOUT: &str = "id, owner, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes";

fn key(reader: &Reader) -> Option<&str> {
    match reader {
        Reader::Anyone => None,
        Reader::Key(key) => Some(key),
    }
}

fn about(connection: &Connection, collection: &str, id: &str) -> rusqlite::Result<Option<About>> {
    let select = format!("SELECT {ABOUT} FROM records WHERE collection = ?1 AND id = ?2");
    connection.prepare(&select)?.query_row([collection, id], read).optional()
}

fn write(connection: &Connection, draft: Draft, version: u64, now_unix_ms: i64) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO records
            (collection, id, owner, label, version, created_unix_ms, updated_unix_ms, expires_unix_ms, bytes, body)
        VALUES (:collection, :id, :owner, :label, :version, :now, :now, :expires, :bytes, :body)
        ON CONFLICT (collection, id) DO UPDATE SET label = :label, version = :version, updated_unix_ms = :now,
            expires_unix_ms = :expires, bytes = :bytes, body = :body";
    let values = named_params! {
        ":collection": draft.collection, ":id": draft.id, ":owner": draft.owner, ":label": draft.label,
        ":version": version as i64, ":now": now_unix_ms, ":expires": draft.expires_unix_ms,
        ":bytes": draft.body.len() as i64, ":body": draft.body,
    };
    connection.prepare(upsert)?.execute(values).map(drop)
}

/// Whether a collection is within its bounds.
fn fits(connection: &Connection, collection: &str, bounds: Bounds) -> rusqlite::Result<bool> {
    const HELD: &str = "SELECT count(*), coalesce(sum(bytes), 0) FROM records WHERE collection = ?1";
    let held = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (count, bytes) = connection.query_row(HELD, [collection], held)?;
    Ok(count <= i64::from(bounds.count) && bytes <= bounds.bytes as i64)
}

/// Drops the documents past a collection's bounds, except the one that was just written.
fn trim(connection: &Connection, collection: &str, written: &str, bounds: Bounds) -> rusqlite::Result<()> {
    let delete = "DELETE FROM records WHERE rowid IN (
        SELECT rowid FROM (
            SELECT rowid, id, row_number() OVER newest AS place, sum(bytes) OVER newest AS filled
            FROM records WHERE collection = :collection
            WINDOW newest AS (ORDER BY id = :written DESC, updated_unix_ms DESC, id DESC)
        ) WHERE id <> :written AND (place > :count OR filled > :bytes))";
    let values = named_params! {
        ":collection": collection, ":written": written, ":count": bounds.count, ":bytes": bounds.bytes as i64,
    };
    connection.prepare(delete)?.execute(values).map(drop)
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
