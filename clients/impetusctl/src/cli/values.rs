//! How single values are typed: spans of time and percentages. Called by clap, as `cli` says where. What
//! only the daemon can judge is not refused here.

/// Reads a span of time, in seconds.
pub fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and a unit, as in 90s, 15m, 24h or 7d".to_owned();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(wrong)
}

/// Reads how long a model stays, in milliseconds; the largest number is for ever, as in the protocol.
pub fn keep_alive(text: &str) -> Result<u64, String> {
    if text == "forever" {
        return Ok(u64::MAX);
    }
    let seconds = text.parse().or_else(|_| seconds(text)).map_err(|error| format!("{error}, or forever"))?;
    Ok(seconds.saturating_mul(1000))
}

/// Reads a percentage.
pub fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("it is not between 0 and 100".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_stays_for_seconds_for_a_span_or_for_ever() {
        assert_eq!(["0", "90", "15m", "2h"].map(|text| keep_alive(text).unwrap()), [0, 90_000, 900_000, 7_200_000]);
        assert_eq!(keep_alive("forever"), Ok(u64::MAX));
        for text in ["", "-1", "m", "1.5h", "1w", "for ever"] {
            assert!(keep_alive(text).is_err(), "{text:?}");
        }
    }
}
