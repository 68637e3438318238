//! Writes a point in time as Python's `strftime` does, in UTC and in English.
//!
//! Templates write today's date into system prompts. Unknown letters are copied, as glibc does. The environment's
//! `strftime_now` calls it.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time of day on a day of the proleptic Gregorian calendar.
struct Moment {
    year: i64,
    /// From 1.
    month: usize,
    day: i64,
    weekday: usize,
    day_of_year: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    fn new(unix_ms: i64) -> Self {
        let seconds = unix_ms.div_euclid(1000);
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Counts in years that begin in March, so that the leap day is the last: Hinnant, "chrono-compatible
        // low-level date algorithms".
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let january_first = if month > 2 { day_of_march_year + 59 + i64::from(leap) } else { day_of_march_year - 306 };
        Self {
            year,
            month: month as usize,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            day_of_year: january_first + 1,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

/// Writes the moment in a format of `%` letters; `%-d` leaves out leading zeros.
pub fn format(format: &str, unix_ms: i64) -> String {
    let moment = Moment::new(unix_ms);
    let mut text = String::with_capacity(format.len());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut rest = letters.clone();
        let unpadded = rest.next() == Some('-');
        if unpadded {
            letters = rest;
        }
        match letters.next() {
            Some(letter) => write(&mut text, letter, unpadded, &moment),
            None => text.push('%'),
        }
    }
    text
}

fn write(text: &mut String, letter: char, unpadded: bool, moment: &Moment) {
    let number = |value: i64, width: usize| {
        if unpadded { value.to_string() } else { format!("{value:0width$}") }
    };
    let (month, day) = (MONTHS[moment.month - 1], DAYS[moment.weekday]);
    let hour_of_12 = (moment.hour + 11) % 12 + 1;
    let word = str::to_string;
    text.push_str(&match letter {
        'Y' => number(moment.year, 4),
        'y' => number(moment.year.rem_euclid(100), 2),
        'm' => number(moment.month as i64, 2),
        'd' => number(moment.day, 2),
        'e' => format!("{:2}", moment.day),
        'j' => number(moment.day_of_year, 3),
        'H' => number(moment.hour, 2),
        'I' => number(hour_of_12, 2),
        'M' => number(moment.minute, 2),
        'S' => number(moment.second, 2),
        'f' => number(0, 6),
        'p' => word(if moment.hour < 12 { "AM" } else { "PM" }),
        'B' => word(month),
        'b' | 'h' => word(&month[..3]),
        'A' => word(day),
        'a' => word(&day[..3]),
        'w' => moment.weekday.to_string(),
        'u' => ((moment.weekday + 6) % 7 + 1).to_string(),
        'Z' => word("UTC"),
        'z' => word("+0000"),
        'F' => format!("{:04}-{:02}-{:02}", moment.year, moment.month, moment.day),
        'D' | 'x' => format!("{:02}/{:02}/{:02}", moment.month, moment.day, moment.year.rem_euclid(100)),
        'T' | 'X' => format!("{:02}:{:02}:{:02}", moment.hour, moment.minute, moment.second),
        'R' => format!("{:02}:{:02}", moment.hour, moment.minute),
        'n' => word("\n"),
        't' => word("\t"),
        '%' => word("%"),
        other => format!("%{other}"),
    });
}
