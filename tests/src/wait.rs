//! Waits for conditions, each with a limit; a condition that never comes true is a failed test with a name.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take. Generous, for machines under load: it is spent only on failure.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; `what` names it in the failure.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "waited {} s in vain until {what}", LIMIT.as_secs());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Waits until `probe` returns something; `what` names it in the failure.
pub async fn for_some<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {} s in vain for {what}", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
