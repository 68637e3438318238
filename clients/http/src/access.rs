//! Who may speak to the bridge, and about what: the `Host` must be ours, browsers must come from a page that is trusted,
//! and a key must be known, allowed and within its limits.
//!
//! `host` and `origin` judge the connection, `need` says what a path asks of a key, `key` lets its holder in. All of it
//! comes before the body is read. What a key may do is decided by the daemon, every time: the bridge remembers nothing.

mod host;
mod key;
mod need;
mod origin;

pub use host::{Hosts, Peer, check_host};
pub use key::{Login, check_key, current, judge, on_behalf_of, still_on, within_rate};
pub use need::{is_inference, role_needed};
pub use origin::Origins;

use std::net::SocketAddr;
use std::path::Path;

use protocol::Result;
use protocol::client::{Client, Patience};
use protocol::key::KeyState;
use protocol::{Error, ErrorKind};

/// Refuses to listen where others can reach it while no key would keep them out.
pub async fn may_listen(address: SocketAddr, socket: &Path, name: &str, tls: bool) -> Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let keys = Client::connect(socket, name, Patience::STARTING).await?.keys().await?;
    if keys.iter().any(|key| key.state == KeyState::Active) {
        if !tls {
            let message = "the bridge can be reached from other machines; keys and answers travel in clear without TLS";
            tracing::warn!(%address, "{message}");
        }
        return Ok(());
    }
    Err(Error::new(ErrorKind::Forbidden, format!("{address} can be reached by others, and there is no valid API key"))
        .hint("make one with `impetusctl key create`, or listen on 127.0.0.1"))
}
