//! The servers that are measured: this house as it is shipped, and the peer as it is shipped and with 16 places.

use engine::random::TempFolder;
use protocol::client::Client;
use protocol::model::ModelState;
use tests::house::House;

use super::stream::Server;
use crate::peers::llama::{self, Llama, resident};
use crate::peers::ours;

/// Positions of all streams together where the peer has 16 places: as many as this house keeps by itself.
const PEER_ROOM: &str = "65536";

/// A server under measure.
pub enum Side {
    /// This house.
    Ours {
        /// Daemon and bridge.
        house: Box<House>,
        /// A way to the daemon.
        client: Client,
        /// Where the bridge listens.
        server: Server,
        /// The model's folder, removed at the end.
        _folder: TempFolder,
    },
    /// llama-server.
    Peer {
        /// Its process.
        process: llama::Server,
        /// Where it listens.
        server: Server,
    },
}

impl Side {
    /// Starts this house with the model loaded. Random weights repeat themselves, so it guesses nothing: a gain that no
    /// real text would show.
    pub async fn ours() -> Self {
        let (mut house, folder) = ours::settle("[worker]\ndraft_tokens_max = 0\n").await;
        let client = house.client().await;
        let http = house.http().await;
        let server =
            Server { authority: http.authority().to_owned(), key: http.key().to_owned(), model: ours::NAME.to_owned() };
        Self::Ours { house: Box::new(house), client, server, _folder: folder }
    }

    /// Starts the peer, with 16 places or as it is by itself.
    pub fn peer(llama: &Llama, places: bool) -> Self {
        let more: &[&str] = if places { &["-np", "16", "-c", PEER_ROOM, "--kv-unified"] } else { &[] };
        let (process, port, _) = llama.serve(4, more);
        let server = Server { authority: format!("127.0.0.1:{port}"), key: String::new(), model: "m".to_owned() };
        Self::Peer { process, server }
    }

    /// Where it listens.
    pub fn server(&self) -> &Server {
        match self {
            Self::Ours { server, .. } | Self::Peer { server, .. } => server,
        }
    }

    /// Ends the process that holds the model and has another one ready, if prefixes can outlive it.
    pub async fn restart(&self) -> bool {
        let Self::Ours { client, server, .. } = self else { return false };
        client.unload(&server.model).await.unwrap();
        server.ask(&[1, 2, 3], 1).await.unwrap();
        true
    }

    /// Megabytes that its processes hold.
    pub async fn megabytes(&self) -> f64 {
        let kilobytes = match self {
            Self::Peer { process, .. } => resident(process.pid()),
            Self::Ours { house, client, .. } => {
                let mut worker = 0;
                for card in client.models().await.unwrap() {
                    if let ModelState::Loaded(residence) = card.state {
                        worker += resident(residence.pid);
                    }
                }
                resident(house.daemon_pid()) + house.bridge_pid().map_or(0, resident) + worker
            }
        };
        f64::from(kilobytes) / 1e3
    }
}
