//! The formats of strings that are enforced: those that the grammar engine knows, and those that it lets too much through of,
//! as patterns of our own. `schema` calls this.

/// What the grammar engine enforces by itself.
const ENFORCED: [&str; 6] = ["duration", "email", "ipv4", "ipv6", "uuid", "uri"];

/// A leap second is none of these: when there is one is not known before.
const TIME: &str =
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// Every day that there is: first those of every year, then the 29th of February of leap years.
const DATE: &str = concat!(
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)",
);

/// A part of a host's name: no hyphen at its ends, and none third and fourth, which announces an encoded name that may be none.
const LABEL: &str = concat!(
    "[a-zA-Z0-9](?:[a-zA-Z0-9]|[a-zA-Z0-9-](?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,59}[a-zA-Z0-9]",
    "|-[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,58}[a-zA-Z0-9])?))?",
);

/// The most characters of a host's name.
const HOSTNAME_MAX: u64 = 253;

/// How a format is enforced.
#[derive(Debug, PartialEq)]
pub enum Format {
    /// By the grammar engine.
    Known,
    /// By this pattern, and at most so many characters.
    Pattern(String, Option<u64>),
    /// Not at all.
    Unknown,
}

/// How the format of this name is enforced.
pub fn enforced(name: &str) -> Format {
    let pattern = |pattern: &str| Format::Pattern(format!("^(?:{pattern})$"), None);
    match name {
        "date" => pattern(DATE),
        "time" => pattern(TIME),
        "date-time" => pattern(&format!("{DATE}[tT]{TIME}")),
        "hostname" => Format::Pattern(format!("^{LABEL}(?:\\.{LABEL})*$"), Some(HOSTNAME_MAX)),
        _ if ENFORCED.contains(&name) => Format::Known,
        _ => Format::Unknown,
    }
}
