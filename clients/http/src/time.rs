//! What time it is, dates as RFC 3339 writes them, and durations as Go does: the only place of the bridge where time is text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest duration that is told apart from "for ever": a hundred years.
pub const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

const DAY: u64 = 86_400;

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns seconds since 1970.
pub fn now_s() -> u64 {
    since_1970().as_secs()
}

/// Returns milliseconds since 1970.
pub fn now_ms() -> i64 {
    i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX)
}

/// Returns now and `later`, as in `2026-01-31T12:00:00.5Z`.
pub fn from_now(later: Duration) -> String {
    date(since_1970().saturating_add(later))
}

/// Returns a moment given as the time since 1970.
pub fn date(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / DAY, since_1970.as_secs() % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second, nanos) = (second / 3600, second / 60 % 60, second % 60, since_1970.subsec_nanos());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Returns year, month and day of a day since 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are taken to begin in March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Reads a duration such as `5m`, `1h30m`, `0.5s` or `300` (seconds); a negative one is for ever.
pub fn duration(text: &str) -> Option<Duration> {
    match text.strip_prefix('-') {
        Some(positive) => positive_duration(positive).map(|_| FOR_EVER),
        None => positive_duration(text),
    }
}

fn positive_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|letter| letter.is_ascii_digit() || letter == b'.') {
        return seconds_of(text.parse().ok()?);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total = total.saturating_add(seconds_of(number.parse::<f64>().ok()? * unit_seconds(unit)?)?);
        rest = after;
    }
    Some(total.min(FOR_EVER))
}

/// Returns a duration of so many seconds; a negative one is for ever.
pub fn seconds_of(seconds: f64) -> Option<Duration> {
    if seconds < 0.0 || seconds > FOR_EVER.as_secs_f64() {
        return Some(FOR_EVER);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    match unit {
        "ns" => Some(1e-9),
        "us" | "µs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let check = |seconds, expected: &str| assert_eq!(date(Duration::from_secs(seconds)), expected);
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_400, "2000-02-29T00:00:00.000000000Z");
        check(1_709_251_199, "2024-02-29T23:59:59.000000000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let check = |text, seconds: f64| assert_eq!(duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        check("5m", 300.0);
        check("1h30m", 5400.0);
        check("1.5s", 1.5);
        check("300ms", 0.3);
        check("0", 0.0);
        check("300", 300.0);
        for text in ["-1", "-5m", "99999999h"] {
            assert_eq!(duration(text), Some(FOR_EVER), "{text}");
        }
        for text in ["", "m", "5 minutes", "5q", "1..2s", ".", "NaN", "inf", "-", "--1"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
