//! The bridge's connection to the daemon: made when first needed, made again when lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::Result;
use protocol::client::{Client, Patience};
use protocol::status::Bridge as Announcement;
use tokio::sync::Mutex;

use crate::app::Bridge;

/// What the bridge calls itself.
const NAME: &str = concat!("impetus-http/", env!("CARGO_PKG_VERSION"));

/// How long to wait before announcing the bridge again after the daemon could not be reached.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(500);

/// The connection to the daemon.
pub struct Daemon {
    socket: PathBuf,
    client: Mutex<Option<Client>>,
}

impl Daemon {
    /// Will connect to `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, client: Mutex::new(None) }
    }

    /// Returns the open connection, or a new one.
    pub async fn client(&self) -> Result<Client> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Client::connect(&self.socket, NAME, Patience::NONE).await?;
        Ok(slot.insert(client).clone())
    }
}

/// Tells the daemon where this bridge listens, again after every reconnection.
pub async fn announce_for_ever(bridge: Arc<Bridge>) {
    loop {
        let announcement = Announcement { url: bridge.url.clone(), pid: std::process::id() };
        match bridge.daemon.client().await {
            Ok(client) => match client.announce(announcement).await {
                Ok(()) => client.closed().await,
                Err(error) => tracing::warn!(%error, "the daemon did not take the announcement"),
            },
            Err(error) => tracing::debug!(%error, "the daemon is not reachable"),
        }
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
    }
}

/// Returns seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns a fresh id for an answer: `prefix` and 24 hexadecimal digits.
pub fn answer_id(prefix: &str) -> String {
    format!("{prefix}{}", random_hex(24))
}

/// Returns `digits` random hexadecimal digits, at most 32.
pub fn random_hex(digits: usize) -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Each RandomState is keyed anew; ids need to be distinct, not secret.
    let random = || RandomState::new().build_hasher().finish();
    let mut hex = format!("{:016x}{:016x}", random(), random());
    hex.truncate(digits);
    hex
}
