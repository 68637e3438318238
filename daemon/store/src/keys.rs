//! API keys: made from the system's randomness, kept only as SHA-256, found by it.
//!
//! Not bcrypt or its like: those slow down the guessing of what people choose, and a key of 256 random bits cannot be
//! guessed at any speed, while every request would pay. The lookup by hash is an index search; its timing tells
//! about a hash that nobody can steer, so it needs no constant-time comparison.

mod secret;

#[cfg(test)]
mod tests;

use rusqlite::{OptionalExtension as _, Row, named_params};

use crate::{Result, Store};

pub use secret::Secret;

/// How stale `last_used_unix_s` may get, so that a busy key costs one write a minute and not one a request.
const LAST_USED_S: i64 = 60;

/// A key as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id, fit for logs.
    pub id: String,
    /// What it is for, in its owner's words.
    pub label: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: i64,
    /// From when on it is refused.
    pub expires_unix_s: Option<i64>,
    /// When it was revoked.
    pub revoked_unix_s: Option<i64>,
    /// When it was last used, to the minute.
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
    pub fn insert(
        self,
        secret: &Secret,
        label: &str,
        role: Role,
        expires_unix_s: Option<i64>,
        now_unix_s: i64,
    ) -> Result<Key> {
        let (hash, label, id) = (secret.hash(), label.to_owned(), secret.id());
        self.0.call(move |connection| {
            let insert = "INSERT INTO api_keys (id, label, role, hash, created_unix_s, expires_unix_s)
                VALUES (:id, :label, :role, :hash, :created, :expires) ON CONFLICT (hash) DO NOTHING";
            let values = named_params! {
                ":id": id, ":label": label, ":role": role.name(), ":hash": hash,
                ":created": now_unix_s, ":expires": expires_unix_s,
            };
            connection.execute(insert, values)?;
            connection.query_row("SELECT * FROM api_keys WHERE hash = ?1", [hash], read)
        })
    }

    /// Returns the key of a secret, in whatever state it is, and notes that it was used if it is active.
    pub fn find(self, secret: &Secret, now_unix_s: i64) -> Result<Option<Key>> {
        let hash = secret.hash();
        self.0.call(move |connection| {
            let mut statement = connection.prepare("SELECT * FROM api_keys WHERE hash = ?1")?;
            let Some(mut key) = statement.query_row([hash], read).optional()? else { return Ok(None) };
            let stale = key.last_used_unix_s.is_none_or(|used| now_unix_s >= used.saturating_add(LAST_USED_S));
            if stale && key.state(now_unix_s) == KeyState::Active {
                let update = "UPDATE api_keys SET last_used_unix_s = ?2 WHERE id = ?1";
                connection.execute(update, (&key.id, now_unix_s))?;
                key.last_used_unix_s = Some(now_unix_s);
            }
            Ok(Some(key))
        })
    }

    /// Returns all keys, oldest first.
    pub fn list(self) -> Result<Vec<Key>> {
        self.0.call(|connection| {
            let mut statement = connection.prepare("SELECT * FROM api_keys ORDER BY created_unix_s, id")?;
            statement.query_map([], read)?.collect()
        })
    }

    /// Revokes a key for good; returns false if there is none of this id. The first time of revoking stays.
    pub fn revoke(self, id: &str, now_unix_s: i64) -> Result<bool> {
        let id = id.to_owned();
        self.0.call(move |connection| {
            let update = "UPDATE api_keys SET revoked_unix_s = coalesce(revoked_unix_s, ?2) WHERE id = ?1";
            Ok(connection.execute(update, (id, now_unix_s))? > 0)
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Key> {
    let role: String = row.get("role")?;
    Ok(Key {
        id: row.get("id")?,
        label: row.get("label")?,
        role: Role::from_name(&role),
        created_unix_s: row.get("created_unix_s")?,
        expires_unix_s: row.get("expires_unix_s")?,
        revoked_unix_s: row.get("revoked_unix_s")?,
        last_used_unix_s: row.get("last_used_unix_s")?,
    })
}
