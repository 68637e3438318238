//! Watches what an input takes while it is read, and ends the process over one that takes too much.
//!
//! Memory that is taken cannot be taken back from code that goes on taking it, and the machine must not suffer for what was
//! found: so the process ends, and who runs it keeps the input where it is found afterwards. What ends by itself within
//! milliseconds is not seen; it cannot take much.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use worker::facts::resident_bytes;

/// The most that an input, of a mebibyte at most, may take.
const BYTES_MAX: u64 = 512 << 20;
/// The most that all inputs may have left behind, what the targets hold themselves included.
const LEFT_BYTES_MAX: u64 = 2 << 30;
/// The longest that an input may take.
const TIME_MAX: Duration = Duration::from_secs(60);
/// How often it looks.
const EVERY: Duration = Duration::from_millis(5);

/// Watches one input after the other.
pub struct Watch {
    under_way: Arc<Mutex<(Option<&'static str>, u64)>>,
}

impl Watch {
    /// Begins to watch.
    pub fn start() -> Self {
        let under_way = Arc::new(Mutex::new((None, 0)));
        let watched = under_way.clone();
        Builder::new().name("watch".to_owned()).spawn(move || watch(&watched)).unwrap();
        Self { under_way }
    }

    /// Reads an input of a target.
    pub fn during<T>(&self, target: &'static str, read: impl FnOnce() -> T) -> T {
        self.set(Some(target));
        let result = read();
        self.set(None);
        result
    }

    fn set(&self, target: Option<&'static str>) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        *under_way = (target, under_way.1 + 1);
    }
}

fn watch(under_way: &Mutex<(Option<&'static str>, u64)>) {
    let (mut known, mut since, mut before) = (0, Instant::now(), resident_bytes());
    loop {
        sleep(EVERY);
        let (target, number) = *under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = target else { continue };
        let bytes = resident_bytes();
        if number != known {
            (known, since, before) = (number, Instant::now(), bytes);
        }
        let fault = if bytes.saturating_sub(before) > BYTES_MAX {
            "takes too much memory"
        } else if bytes > LEFT_BYTES_MAX {
            "comes after others that have left too much memory behind"
        } else if since.elapsed() > TIME_MAX {
            "does not come to an end"
        } else {
            continue;
        };
        eprintln!("{target}: an input {fault} ({} MiB, {:?})", bytes >> 20, since.elapsed());
        std::process::abort();
    }
}
