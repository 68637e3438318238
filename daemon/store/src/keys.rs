//! API keys: made from the system's randomness, kept only as SHA-256.
//!
//! Not bcrypt or its like: those slow down the guessing of what people choose, and a key of 256 random bits cannot be
//! guessed at any speed, while every request would pay. A key is never deleted, so that every log line keeps its
//! meaning; it is revoked.

mod digest;
mod secret;

#[cfg(test)]
pub(crate) mod tests;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use crate::{Result, Store};

pub use digest::Digest;
pub use secret::Secret;

/// A key as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id, fit for logs.
    pub id: String,
    /// What it is for, in its owner's words.
    pub label: String,
    /// What it may do.
    pub role: Role,
    /// The only models it may use; empty is all of them.
    pub models: Vec<String>,
    /// How much it may ask for.
    pub limits: Limits,
    /// What its secret is known by.
    pub digest: Digest,
    /// What the secret before the last rotation is known by, and until when it counts, in seconds since 1970.
    pub old: Option<(Digest, i64)>,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: i64,
    /// From when on it is refused.
    pub expires_unix_s: Option<i64>,
    /// When it was revoked.
    pub revoked_unix_s: Option<i64>,
    /// When it was last used, as far as that was written down.
    pub last_used_unix_s: Option<i64>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Readonly,
    /// Look and generate.
    User,
    /// Everything.
    Admin,
}

/// How much a key may ask for; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests that make a model work, per minute.
    pub inference_per_minute: Option<u32>,
    /// Requests that only look, per minute.
    pub reads_per_minute: Option<u32>,
    /// Requests that make a model work, per day.
    pub requests_per_day: Option<u64>,
    /// Tokens read and written, per day.
    pub tokens_per_day: Option<u64>,
}

/// Whether a key opens the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub role: Role,
    /// The only models it may use; empty is all of them.
    pub models: Vec<String>,
    /// How much it may ask for.
    pub limits: Limits,
    /// When it is made, in seconds since 1970.
    pub created_unix_s: i64,
    /// From when on it is refused.
    pub expires_unix_s: Option<i64>,
}

impl Key {
    /// Says whether the key opens the door at `now`, in seconds since 1970.
    pub fn state(&self, now_unix_s: i64) -> KeyState {
        if self.revoked_unix_s.is_some() {
            KeyState::Revoked
        } else if self.expires_unix_s.is_some_and(|expires| expires <= now_unix_s) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Readonly => "readonly",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// Reads a role; the schema lets only these three in, and the least of them is what a doubt would get.
    fn from_name(name: &str) -> Self {
        match name {
            "admin" => Self::Admin,
            "user" => Self::User,
            _ => Self::Readonly,
        }
    }
}

/// The table of keys.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a>(pub(crate) &'a Store);

impl Keys<'_> {
    /// Adds a key for a secret. A secret that is already known keeps the key it has, which is returned.
    pub fn insert(self, secret: &Secret, new: NewKey) -> Result<Key> {
        let (digest, id) = (secret.digest(), secret.id());
        self.0.write(move |connection| {
            let insert = "INSERT INTO api_keys (id, label, role, hash, created_unix_s, expires_unix_s, models,
                    inference_per_minute, reads_per_minute, requests_per_day, tokens_per_day)
                VALUES (:id, :label, :role, :hash, :created, :expires, :models, :inference, :reads, :requests, :tokens)
                ON CONFLICT (hash) DO NOTHING";
            let Limits { inference_per_minute, reads_per_minute, requests_per_day, tokens_per_day } = new.limits;
            let values = named_params! {
                ":id": id, ":label": new.label, ":role": new.role.name(), ":hash": digest.bytes(),
                ":created": new.created_unix_s, ":expires": new.expires_unix_s,
                ":models": serde_json::Value::from(new.models).to_string(),
                ":inference": inference_per_minute, ":reads": reads_per_minute,
                ":requests": requests_per_day.map(signed), ":tokens": tokens_per_day.map(signed),
            };
            connection.execute(insert, values)?;
            connection.query_row("SELECT * FROM api_keys WHERE hash = ?1", [digest.bytes()], read)
        })
    }

    /// Returns all keys, oldest first.
    pub fn list(self) -> Result<Vec<Key>> {
        self.0.call(|connection| {
            let mut statement = connection.prepare("SELECT * FROM api_keys ORDER BY created_unix_s, id")?;
            statement.query_map([], read)?.collect()
        })
    }

    /// Gives a key another secret; the old one counts until `old_until_unix_s`. `None` if there is no key of this id.
    pub fn rotate(self, id: &str, secret: &Secret, old_until_unix_s: i64) -> Result<Option<Key>> {
        let (id, digest) = (id.to_owned(), secret.digest());
        self.0.write(move |connection| {
            let update = "UPDATE api_keys SET old_hash = hash, old_until_unix_s = ?3, hash = ?2 WHERE id = ?1";
            connection.execute(update, (&id, digest.bytes(), old_until_unix_s))?;
            find(connection, &id)
        })
    }

    /// Revokes a key for good; `None` if there is no key of this id. The first time of revoking stays.
    pub fn revoke(self, id: &str, now_unix_s: i64) -> Result<Option<Key>> {
        let id = id.to_owned();
        self.0.write(move |connection| {
            let update = "UPDATE api_keys SET revoked_unix_s = coalesce(revoked_unix_s, ?2) WHERE id = ?1";
            connection.execute(update, (&id, now_unix_s))?;
            find(connection, &id)
        })
    }

    /// Notes when keys were last used: ids and seconds since 1970.
    pub fn used(self, uses: Vec<(String, i64)>) -> Result<()> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            for (id, when) in uses {
                transaction.execute("UPDATE api_keys SET last_used_unix_s = ?2 WHERE id = ?1", (id, when))?;
            }
            transaction.commit()
        })
    }
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Key>> {
    connection.query_row("SELECT * FROM api_keys WHERE id = ?1", [id], read).optional()
}

/// SQLite's integers have a sign; a limit past it is no limit that anybody reaches.
fn signed(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Key> {
    let role: String = row.get("role")?;
    let models: String = row.get("models")?;
    let old: Option<[u8; 32]> = row.get("old_hash")?;
    let until: Option<i64> = row.get("old_until_unix_s")?;
    let count = |name: &str| row.get(name).map(|count: Option<i64>| count.map(i64::unsigned_abs));
    Ok(Key {
        id: row.get("id")?,
        label: row.get("label")?,
        role: Role::from_name(&role),
        // What is no list allows nothing that exists, rather than everything.
        models: serde_json::from_str(&models).unwrap_or_else(|_| vec![String::new()]),
        limits: Limits {
            inference_per_minute: row.get("inference_per_minute")?,
            reads_per_minute: row.get("reads_per_minute")?,
            requests_per_day: count("requests_per_day")?,
            tokens_per_day: count("tokens_per_day")?,
        },
        digest: Digest::new(row.get("hash")?),
        old: old.map(Digest::new).zip(until),
        created_unix_s: row.get("created_unix_s")?,
        expires_unix_s: row.get("expires_unix_s")?,
        revoked_unix_s: row.get("revoked_unix_s")?,
        last_used_unix_s: row.get("last_used_unix_s")?,
    })
}
