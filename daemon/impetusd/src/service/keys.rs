//! `first_key`, `authenticate` and the verbs for keys: who may come in over HTTP, and for what.

use protocol::key::{CreateKeyRequest, IssuedKey, KeyCard, Knock, Principal, RotateKeyRequest};
use protocol::{Error, ErrorKind, Result};

use crate::daemon::blocking;
use crate::keys::first;
use crate::session::Session;

pub async fn first_key(session: &Session) -> Result<String> {
    if session.key().is_some() {
        let message = "the first key is shown to the user of the socket only";
        return Err(Error::new(ErrorKind::Forbidden, message).hint("use `impetusctl key show`"));
    }
    first::read(&session.daemon.paths)
}

pub async fn authenticate(session: &Session, knock: &Knock) -> Result<Principal> {
    session.daemon.keys.knock(knock)
}

pub async fn list(session: &Session) -> Result<Vec<KeyCard>> {
    Ok(session.daemon.keys.cards())
}

pub async fn create(session: &Session, request: CreateKeyRequest) -> Result<IssuedKey> {
    let issued = session.daemon.keys.create(&session.actor(), request).await?;
    tracing::info!(key = %issued.card.id, by = %session.actor(), "a key is made");
    Ok(issued)
}

pub async fn rotate(session: &Session, request: RotateKeyRequest) -> Result<IssuedKey> {
    let daemon = &session.daemon;
    let known = daemon.keys.id_of(&first::read(&daemon.paths).unwrap_or_default());
    let (secret, card) = daemon.keys.rotate(&session.actor(), &request).await?;
    if known.as_deref() == Some(card.id.as_str()) {
        let (daemon, secret) = (daemon.clone(), secret.clone());
        let written = blocking(move || first::write(&daemon.paths, &secret)).await;
        if let Err(error) = written {
            // The new secret is in the answer; only `impetusctl key show` is out of date.
            tracing::error!(%error, "the file of the first key still holds its old secret");
        }
    }
    tracing::info!(key = %card.id, by = %session.actor(), "a key is rotated");
    Ok(IssuedKey { secret: secret.reveal().to_owned(), card })
}

pub async fn revoke(session: &Session, id: &str) -> Result<KeyCard> {
    let card = session.daemon.keys.revoke(&session.actor(), id).await?;
    tracing::info!(key = %card.id, by = %session.actor(), "a key is revoked");
    Ok(card)
}
