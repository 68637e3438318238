//! How much was written to the shelf today, by all workers together: one line in one file, which each adds to.
//!
//! A count that cannot be read counts as nothing, so a day's share may be written once more, and no more. Only the keeper
//! calls this.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::PAUSE;

/// The file, in the folder of all models.
const NAME: &str = "written-today";
/// How long it is waited for: a worker that was stopped with it must not stop others.
const LOCK_MAX: Duration = Duration::from_secs(2);

/// Bytes written today.
pub fn written(root: &Path) -> u64 {
    of_today(&fs::read_to_string(root.join(NAME)).unwrap_or_default())
}

/// Adds to them; one worker at a time reads the file and writes it again.
pub fn add(root: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(root.join(NAME))?;
    let end = Instant::now() + LOCK_MAX;
    while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && Instant::now() < end {
        sleep(PAUSE);
    }
    let mut line = String::new();
    // What is no text counts as nothing.
    let _ = file.read_to_string(&mut line);
    let line = format!("{} {:020}\n", today(), of_today(&line).saturating_add(bytes));
    file.rewind()?;
    // Over what was there, so that whoever reads it meanwhile finds a number.
    file.write_all(line.as_bytes())?;
    file.set_len(line.len() as u64)
}

/// The bytes that a line tells, if it is of today.
fn of_today(line: &str) -> u64 {
    let mut numbers = line.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(day), Some(bytes)) if day == today() => bytes,
        _ => 0,
    }
}

/// Days since 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_write_at_once_is_all_counted_and_what_is_no_count_is_nothing() {
        let root = std::env::temp_dir().join(format!("impetus-wear-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join(NAME), b"\xff of something longer than a line that tells a day and a count").unwrap();
        assert_eq!(written(&root), 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| add(&root, 3).unwrap()));
            }
        });
        let counted = written(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(counted, 4 * 500 * 3);
    }
}
