//! How the daemon is asked to end: by a signal, by a client, by a test. The first request starts the drain, a later
//! one may only make it shorter. It ends nothing itself: `run` waits for it, `supervisor` drains.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// A wish to end, shared by everybody who may have it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    deadline: watch::Sender<Option<Instant>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: watch::Sender::new(None) }
    }
}

impl Shutdown {
    /// Asks the daemon to end; running work may take this long. Returns when that time is over.
    pub fn request(&self, drain: Duration) -> Instant {
        let asked = Instant::now() + drain.min(Duration::from_secs(3600));
        self.deadline.send_modify(|deadline| *deadline = Some(deadline.map_or(asked, |before| before.min(asked))));
        asked
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Waits until it is asked for.
    pub async fn requested(&self) {
        // The sender lives in self.
        let _ = self.watch().wait_for(Option::is_some).await;
    }

    /// Returns a view that sees each request.
    pub fn watch(&self) -> watch::Receiver<Option<Instant>> {
        self.deadline.subscribe()
    }

    /// Turns signals into requests: the first drains for `drain`, the next one hurries. Needs a tokio runtime.
    pub fn on_signals(&self, drain: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            let mut drain = drain;
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!(drain_ms = drain.as_millis() as u64, "told to end by a signal");
                shutdown.request(drain);
                drain = Duration::ZERO;
            }
        });
        Ok(())
    }
}
