//! `first_key` and `authenticate`: who may come in over HTTP.

use protocol::Result;
use protocol::status::Principal;

use crate::daemon::Daemon;
use crate::keys;

pub async fn first_key(daemon: &Daemon) -> Result<String> {
    keys::first(&daemon.paths)
}

pub async fn authenticate(daemon: &Daemon, key: &str) -> Result<Principal> {
    keys::authenticate(&daemon.catalogue, key).await
}
