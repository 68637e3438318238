//! Durations, sizes and shares as people write them in a config file. Pure; called by `config` while it reads values.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// An amount of memory, absolute or relative to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Per cent of the machine's memory, 1 to 100.
    Percent(u8),
}

impl Amount {
    /// Returns the bytes this is on a machine with `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (u128::from(total) * u128::from(percent) / 100) as u64,
        }
    }
}

/// A size is written as text, or as a plain number of bytes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer) {
            Ok(Written::Number(bytes)) => Ok(Self::Bytes(bytes)),
            Ok(Written::Text(text)) => {
                amount(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no size; write \"8GB\" or \"75%\"")))
            }
            Err(_) => Err(D::Error::custom("it must be a size; write \"8GB\" or \"75%\"")),
        }
    }
}

/// Reads a size in bytes.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Amount::deserialize(deserializer)? {
        Amount::Bytes(bytes) => Ok(bytes),
        Amount::Percent(percent) => {
            Err(D::Error::custom(format!("\"{percent}%\" makes no sense here; write a size such as \"8MB\"")))
        }
    }
}

/// Reads a duration.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    span(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no duration; write \"250ms\", \"30s\", \"5m\" or \"2h\"")))
}

/// Reads a duration, or `None` for `forever`.
pub fn duration_or_forever<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "forever" {
        return Ok(None);
    }
    let expected = "write \"30s\", \"5m\", \"2h\" or \"forever\"";
    span(&text).map(Some).ok_or_else(|| D::Error::custom(format!("{text:?} is no duration; {expected}")))
}

/// Splits `512MB` into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

fn amount(text: &str) -> Option<Amount> {
    let (number, unit) = split(text)?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "%" => {
            let whole = number.fract() == 0.0 && (1.0..=100.0).contains(&number);
            return whole.then_some(Amount::Percent(number as u8));
        }
        "" | "b" => 1,
        "kb" | "k" => 1_000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        "tb" | "t" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    Some(Amount::Bytes((number * scale as f64) as u64))
}

fn span(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().filter(|span| *span <= Duration::from_secs(366 * 86400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let cases = [
            ("8GB", Some(Amount::Bytes(8_000_000_000))),
            ("8 GiB", Some(Amount::Bytes(8 << 30))),
            ("1.5MB", Some(Amount::Bytes(1_500_000))),
            ("4096", Some(Amount::Bytes(4096))),
            ("75%", Some(Amount::Percent(75))),
            ("0%", None),
            ("101%", None),
            ("much", None),
            ("", None),
            ("-3GB", None),
            ("8QB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(amount(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [
            ("250ms", Some(Duration::from_millis(250))),
            ("5m", Some(Duration::from_secs(300))),
            ("1.5h", Some(Duration::from_secs(5400))),
            ("0s", Some(Duration::ZERO)),
            ("5", None),
            ("5 parsecs", None),
            ("999999999999d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(span(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_share_of_a_large_machine_does_not_overflow() {
        assert_eq!(Amount::Percent(75).of(u64::MAX), (u128::from(u64::MAX) * 75 / 100) as u64);
        assert_eq!(Amount::Percent(50).of(16 << 30), 8 << 30);
    }
}
