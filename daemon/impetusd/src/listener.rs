//! The daemon's door: the socket a service manager hands over, or one of our own; and who may come in. A peer of
//! another user is refused before its first byte is read. It speaks no verb. Called by `main` and `run`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use impetus_launchd::{Activation, ActivationError, SOCKET_NAME};
use protocol::server::{self, Limits, ServeError};
use protocol::socket::{self, Listener, SocketError, Stream};
use protocol::status::StopRequest;
use protocol::{Error, ErrorKind};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::service::{Service, status};
use crate::session::Session;
use crate::time::milliseconds;

/// How long accepting pauses after a failure, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused peer may take to read why.
const REFUSAL: Duration = Duration::from_secs(2);

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The service manager hands over something unusable.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// Our own socket cannot be bound.
    #[error("{0}; {hint}", hint = .0.hint())]
    Socket(#[from] SocketError),
}

/// Takes over the sockets of the service manager, or binds `path`. Needs a tokio runtime.
pub async fn open(path: &Path) -> Result<Vec<Listener>, ListenError> {
    match impetus_launchd::listeners(SOCKET_NAME, &|name| std::env::var_os(name))? {
        Activation::Managed(descriptors) => {
            Ok(descriptors.into_iter().map(|fd| socket::adopt(fd, path)).collect::<Result<_, _>>()?)
        }
        Activation::NotManaged => Ok(vec![socket::bind(path).await?]),
    }
}

/// Lets clients in until `closing`; each connection then ends too, and its work with it.
pub async fn serve(listener: Listener, daemon: Arc<Daemon>, closing: CancellationToken) {
    let places = Arc::new(Semaphore::new(daemon.config.server.connections_max));
    let own_uid = socket::own_uid();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = welcome(&stream, own_uid) {
            tokio::spawn(refuse(stream, error));
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            let message =
                format!("{} clients are connected, the most this daemon takes", daemon.config.server.connections_max);
            tokio::spawn(refuse(stream, Error::new(ErrorKind::Busy, message).retry_after_ms(1_000)));
            continue;
        };
        let (daemon, closing) = (daemon.clone(), closing.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = converse(stream, daemon) => {}
                () = closing.cancelled() => {}
            }
        });
    }
}

/// Only processes of the daemon's own user may speak with it.
fn welcome(stream: &Stream, own_uid: u32) -> Result<(), Error> {
    let forbidden = |message: String| {
        Error::new(ErrorKind::Forbidden, message).hint("use the HTTP bridge with a key, or the user's own daemon")
    };
    match socket::peer_uid(stream) {
        Ok(uid) if uid == own_uid => Ok(()),
        Ok(uid) => Err(forbidden(format!("this daemon serves user {own_uid}, and you are user {uid}"))),
        Err(error) => Err(forbidden(format!("the system does not say who you are: {error}"))),
    }
}

async fn refuse(stream: Stream, error: Error) {
    tracing::warn!(kind = ?error.kind, "a connection is refused: {}", error.message);
    // A peer that does not read its refusal loses nothing else.
    let _ = tokio::time::timeout(REFUSAL, server::refuse_all(stream, &error)).await;
}

async fn converse(stream: Stream, daemon: Arc<Daemon>) {
    let limits = Limits { requests_max: daemon.config.server.in_flight_max, ..Limits::default() };
    let ended = match server::accept(stream, &limits).await {
        Err(ServeError::Stop) => {
            let drain_ms = milliseconds(daemon.config.server.drain);
            status::stop(&daemon, StopRequest { drain_ms }).await.map_err(ServeError::Refused)
        }
        Ok(connection) => {
            let session = Session::open(daemon);
            tracing::debug!(session = session.id, "a client connected");
            connection.serve(Service::new(session)).await
        }
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => tracing::debug!("a client left"),
        Err(error @ ServeError::Io(_)) => tracing::debug!(%error, "a client was lost"),
        Err(error) => tracing::warn!(%error, "a client was let go"),
    }
}
