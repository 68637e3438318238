//! The log of requests: what was asked of which model by which key, what it cost, and never what was said.
//!
//! It is bounded: the oldest entries go when new ones come.

#[cfg(test)]
mod tests;

use rusqlite::{Row, named_params};

use crate::{Result, Store};

/// How many entries are kept.
pub(crate) const KEPT: i64 = 100_000;

/// One answered or refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it came, in milliseconds since 1970.
    pub time_unix_ms: i64,
    /// The verb.
    pub verb: String,
    /// The model it was for.
    pub model: Option<String>,
    /// The key it came with; `None` for the socket.
    pub key_id: Option<String>,
    /// How it ended: `ok`, or the error's kind.
    pub status: String,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// Milliseconds until it ended.
    pub latency_ms: u32,
}

/// What requests have cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many there were.
    pub requests: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// The table of requests.
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a>(pub(crate) &'a Store);

impl Requests<'_> {
    /// Appends requests, all of them or none, and drops the oldest entries past the bound.
    pub fn record(self, requests: Vec<Request>) -> Result<()> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            let insert = "INSERT INTO request_log
                (time_unix_ms, verb, model, key_id, status, prompt_tokens, completion_tokens, latency_ms)
                VALUES (:time, :verb, :model, :key, :status, :prompt, :completion, :latency)";
            let mut statement = transaction.prepare(insert)?;
            for request in requests {
                let values = named_params! {
                    ":time": request.time_unix_ms, ":verb": request.verb, ":model": request.model,
                    ":key": request.key_id, ":status": request.status, ":prompt": request.prompt_tokens,
                    ":completion": request.completion_tokens, ":latency": request.latency_ms,
                };
                statement.execute(values)?;
            }
            drop(statement);
            let trim = "DELETE FROM request_log WHERE id <= (SELECT max(id) FROM request_log) - ?1";
            transaction.execute(trim, [KEPT])?;
            transaction.commit()
        })
    }

    /// Returns the latest requests, newest first, at most `count`.
    pub fn latest(self, count: u32) -> Result<Vec<Request>> {
        self.0.call(move |connection| {
            let select = "SELECT * FROM request_log ORDER BY time_unix_ms DESC, id DESC LIMIT ?1";
            connection.prepare(select)?.query_map([count], read)?.collect()
        })
    }

    /// Returns what a key has spent since a time, in milliseconds since 1970.
    pub fn spent(self, key_id: &str, since_unix_ms: i64) -> Result<Spent> {
        let key_id = key_id.to_owned();
        self.0.call(move |connection| {
            let select = "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)
                FROM request_log WHERE key_id = ?1 AND time_unix_ms >= ?2";
            connection.prepare(select)?.query_row((key_id, since_unix_ms), |row| {
                let count = |index| row.get(index).map(|value: i64| u64::try_from(value).unwrap_or(0));
                Ok(Spent { requests: count(0)?, prompt_tokens: count(1)?, completion_tokens: count(2)? })
            })
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Request> {
    Ok(Request {
        time_unix_ms: row.get("time_unix_ms")?,
        verb: row.get("verb")?,
        model: row.get("model")?,
        key_id: row.get("key_id")?,
        status: row.get("status")?,
        prompt_tokens: row.get("prompt_tokens")?,
        completion_tokens: row.get("completion_tokens")?,
        latency_ms: row.get("latency_ms")?,
    })
}
