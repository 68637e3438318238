//! How results look: text for people, one JSON document for programs. Errors go to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use protocol::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::exit;

/// Where and how a command reports.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether programs read it.
    pub json: bool,
}

impl Output {
    /// Prints a result: `value` for programs, `text` for people.
    pub fn result<T: Serialize>(self, value: &T, text: impl Display) -> Result<()> {
        if self.json { self.document(value) } else { line(text) }
    }

    /// Prints what a program that goes on has to say, as a result; whoever closed the pipe has read enough.
    pub fn news<T: Serialize>(self, value: &T, text: impl Display) -> Result<()> {
        let text = if self.json { json(value)? } else { text.to_string() };
        written(format_args!("{text}\n")).map(drop)
    }

    /// Prints one JSON document.
    pub fn document<T: Serialize>(self, value: &T) -> Result<()> {
        line(json(value)?)
    }

    /// Prints an error where errors go and returns its exit code.
    pub fn failure(self, error: &Error) -> ExitCode {
        if self.json {
            note(serde_json::json!({ "error": error }));
        } else {
            let red = if colour(&io::stderr()) { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
            note(format_args!("{}error:{} {}", red.0, red.1, error.message));
            if let Some(hint) = &error.hint {
                note(format_args!(" hint: {hint}"));
            }
        }
        exit::code(error)
    }
}

/// Prints what clap has to say, and ends: help, or a mistake in the command line, as JSON where that was asked for.
pub fn mistake(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let error = Error::new(ErrorKind::Invalid, message).hint("`impetusctl --help` shows how it is used");
        // Its exit code is clap's.
        let _ = Output { json: true }.failure(&error);
    } else {
        // A closed terminal has nobody who could be told.
        let _ = error.print();
    }
    std::process::exit(error.exit_code())
}

/// Prints a line where errors go; whoever closed that wants to hear nothing.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether what goes there may have colours: a person watches, and has not said otherwise.
pub fn colour(to: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    to.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|kind| kind != "dumb")
}

/// Returns text of a stranger without what a terminal would obey.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')).collect()
}

/// Prints a line.
pub fn line(text: impl Display) -> Result<()> {
    print(format_args!("{text}\n"))
}

/// Prints text as it is and flushes it; a closed pipe ends the program quietly.
pub fn print(text: impl Display) -> Result<()> {
    if written(text)? { Ok(()) } else { std::process::exit(0) }
}

/// Writes text in one go, so that whoever reads its first line has all of it; whether anybody still reads.
fn written(text: impl Display) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.to_string().as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::internal(format!("Standard output failed: {error}."))),
    }
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::internal(error.to_string()))
}

/// Returns a byte count as people write it.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Returns a duration as people write it.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Returns a time, in seconds since 1970, as people and programs write it, in UTC.
pub fn when(unix_s: i64) -> String {
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    // Days of the civil calendar, counted from 1 March of year 0, so that leap days come last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Lays out rows under a header, each column as wide as its widest cell.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lay = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![lay(header)];
    lines.extend(rows.iter().map(|row| lay(row.each_ref().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_durations_read_like_people_write_them() {
        assert_eq!([bytes(999), bytes(1000), bytes(4_100_000)], ["999 B", "1.0 KB", "4.1 MB"]);
        assert_eq!([duration(900), duration(61_000), duration(90_061_000)], ["0s", "1m 1s", "1d 1h"]);
    }

    #[test]
    fn times_are_dates_in_utc() {
        assert_eq!(when(0), "1970-01-01 00:00:00Z");
        assert_eq!(when(951_782_399), "2000-02-28 23:59:59Z");
        assert_eq!(when(951_868_800), "2000-03-01 00:00:00Z");
        assert_eq!(when(1_795_252_320), "2026-11-21 09:12:00Z");
    }

    #[test]
    fn a_table_aligns_its_columns() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], &rows), "NAME    N\na       1\nlonger  2");
    }
}
