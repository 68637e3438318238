//! Time in the numbers that the protocol and the database count in. It keeps none; deadlines are counted by tokio's clock, which
//! nobody sets. Used wherever something is dated or told how long it took.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns milliseconds since 1970.
pub fn now_ms() -> i64 {
    i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX)
}

/// Returns seconds since 1970.
pub fn now_s() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the whole milliseconds of a duration.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
