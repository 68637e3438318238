//! The bridge's connections to the daemon: made when first needed, made again when lost. One is the bridge's own, which
//! may do everything; each key that asks has one that may do what the key may, so that no handler can forget to look.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::client::{Client, Patience};
use protocol::status::{Bridge as Announcement, Hello};
use protocol::{ErrorKind, Result};
use tokio::sync::Mutex;

use crate::app::Bridge;
use crate::{access, traces};

/// What the bridge calls itself.
pub const NAME: &str = concat!("impetus-http/", env!("CARGO_PKG_VERSION"));

/// How long to wait before announcing the bridge again after the daemon could not be reached.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(500);

/// Keys whose connections are kept; one that is dropped ends when its last request does.
const KEYS_MAX: usize = 128;

/// The connections to the daemon.
pub struct Daemon {
    socket: PathBuf,
    /// By key; none is the bridge's own.
    clients: Mutex<HashMap<Option<String>, Client>>,
}

impl Daemon {
    /// Will connect to `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, clients: Mutex::default() }
    }

    /// Returns a connection with the rights of whoever asks: within a request the key's, and the bridge's own outside.
    /// What goes on after the request keeps the rights by keeping the connection.
    pub async fn client(&self) -> Result<Client> {
        let client = self.connected(access::current().map(|principal| principal.id.clone())).await?;
        Ok(client.traced(traces::current()))
    }

    /// Returns a connection with the rights of a key, for what goes on outside its requests.
    pub async fn of(&self, key: &str) -> Result<Client> {
        self.connected(Some(key.to_owned())).await
    }

    /// Returns the bridge's own connection, which may do everything.
    pub async fn own(&self) -> Result<Client> {
        self.connected(None).await
    }

    async fn connected(&self, key: Option<String>) -> Result<Client> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(&key).filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        clients.retain(|_, client| !client.is_closed());
        if clients.len() > KEYS_MAX
            && let Some(some) = clients.keys().find(|key| key.is_some()).cloned()
        {
            clients.remove(&some);
        }
        let hello = Hello { client: NAME.to_owned(), key: key.clone() };
        let client = Client::connect_as(&self.socket, hello, Patience::NONE).await?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// Tells the daemon where this bridge listens, again after every reconnection; returns when a daemon of another release has
/// come, which this bridge cannot speak with.
pub async fn announce(bridge: Arc<Bridge>) {
    loop {
        let announcement = Announcement { url: bridge.url.clone(), pid: std::process::id() };
        match bridge.daemon.own().await {
            Ok(client) => match begin(&bridge, &client, announcement).await {
                Ok(()) => client.closed().await,
                Err(error) => tracing::warn!(%error, "the daemon did not take the announcement"),
            },
            Err(error) if error.kind == ErrorKind::Incompatible => {
                return tracing::error!("the bridge ends: {}", error.message);
            }
            Err(error) => tracing::debug!(%error, "the daemon is not reachable"),
        }
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
    }
}

async fn begin(bridge: &Bridge, client: &Client, announcement: Announcement) -> Result<()> {
    bridge.traces.note(&client.welcome().capabilities);
    client.announce(announcement).await
}
