//! The log of requests: what was asked of which model by which key, what it cost, and never what was said.
//!
//! It is bounded: the oldest entries go when new ones come. What keys use is summed by day in a table of its own, because
//! limits must not forget.

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
    /// Whether it counts against the key's limits; only asked when it is recorded.
    pub charged: bool,
}

/// Which requests to return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFilter {
    /// Only those before this number.
    pub after: Option<i64>,
    /// Only those for this model.
    pub model: Option<String>,
    /// Only those of this key.
    pub key_id: Option<String>,
    /// Only those that ended so.
    pub status: Option<String>,
}

/// What a key has used on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many requests.
    pub requests: u64,
    /// Tokens read and written.
    pub tokens: u64,
}

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Days whose usage is kept: two months, for a look back.
const DAYS_KEPT: i64 = 62;

/// The table of requests.
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a>(pub(crate) &'a Store);

impl Requests<'_> {
    /// Appends requests, all of them or none, and drops the oldest entries past the bound; returns their numbers.
    pub fn record(self, requests: Vec<Request>) -> Result<Vec<i64>> {
        self.0.call(move |connection| {
            let transaction = connection.transaction()?;
            let insert = "INSERT INTO request_log
                (time_unix_ms, verb, model, key_id, status, prompt_tokens, completion_tokens, latency_ms)
                VALUES (:time, :verb, :model, :key, :status, :prompt, :completion, :latency)";
            let usage = "INSERT INTO key_usage (key_id, day, requests, tokens) VALUES (?1, ?2, 1, ?3)
                ON CONFLICT DO UPDATE SET requests = requests + 1, tokens = tokens + excluded.tokens";
            let (mut statement, mut usage) = (transaction.prepare(insert)?, transaction.prepare(usage)?);
            let (mut today, mut numbers) = (i64::MIN, Vec::with_capacity(requests.len()));
            for request in requests {
                let day = request.time_unix_ms.div_euclid(DAY_MS);
                today = today.max(day);
                let tokens = i64::from(request.prompt_tokens) + i64::from(request.completion_tokens);
                if let Some(key) = request.key_id.as_ref().filter(|_| request.charged) {
                    usage.execute((key, day, tokens))?;
                }
                let values = named_params! {
                    ":time": request.time_unix_ms, ":verb": request.verb, ":model": request.model,
                    ":key": request.key_id, ":status": request.status, ":prompt": request.prompt_tokens,
                    ":completion": request.completion_tokens, ":latency": request.latency_ms,
                };
                numbers.push(statement.insert(values)?);
            }
            drop((statement, usage));
            let trim = "DELETE FROM request_log WHERE id <= (SELECT max(id) FROM request_log) - ?1";
            transaction.execute(trim, [KEPT])?;
            transaction.execute("DELETE FROM key_usage WHERE day < ?1", [today.saturating_sub(DAYS_KEPT)])?;
            transaction.commit()?;
            Ok(numbers)
        })
    }

    /// Returns requests with their numbers, newest first: at most `count`, and only those that pass the filter.
    pub fn page(self, count: u32, filter: RequestFilter) -> Result<Vec<(i64, Request)>> {
        self.0.call(move |connection| {
            let select = "SELECT * FROM request_log WHERE id < :after AND (:model IS NULL OR model = :model)
                AND (:key IS NULL OR key_id = :key) AND (:status IS NULL OR status = :status)
                ORDER BY id DESC LIMIT :count";
            let values = named_params! {
                ":after": filter.after.unwrap_or(i64::MAX), ":model": filter.model, ":key": filter.key_id,
                ":status": filter.status, ":count": count,
            };
            connection.prepare(select)?.query_map(values, read)?.collect()
        })
    }

    /// Returns what every key has used on the day that holds a time, in milliseconds since 1970.
    pub fn spent(self, time_unix_ms: i64) -> Result<Vec<(String, Spent)>> {
        self.0.call(move |connection| {
            let select = "SELECT key_id, requests, tokens FROM key_usage WHERE day = ?1";
            let mut statement = connection.prepare(select)?;
            let rows = statement.query_map([time_unix_ms.div_euclid(DAY_MS)], |row| {
                let count = |index| row.get(index).map(i64::unsigned_abs);
                Ok((row.get(0)?, Spent { requests: count(1)?, tokens: count(2)? }))
            })?;
            rows.collect()
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<(i64, Request)> {
    let request = Request {
        time_unix_ms: row.get("time_unix_ms")?,
        verb: row.get("verb")?,
        model: row.get("model")?,
        key_id: row.get("key_id")?,
        status: row.get("status")?,
        prompt_tokens: row.get("prompt_tokens")?,
        completion_tokens: row.get("completion_tokens")?,
        latency_ms: row.get("latency_ms")?,
        charged: true,
    };
    Ok((row.get("id")?, request))
}
