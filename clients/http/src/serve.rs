//! The accept loop: connections in, with a bound on everything a client could draw out.
//!
//! `axum::serve` has no limit on how slowly a head arrives, how large it is or how many connections are open; hyper,
//! driven directly, has. Bodies have their own limits in `body`. Called by `run`; `app` puts `check_head` and `drop_rest` before
//! its routes.

mod half;
mod refusal;
mod rest;
mod tls;
mod unread;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::TRANSFER_ENCODING;
use axum::middleware::Next;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use protocol::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::access::Peer;
use crate::dialect::Dialect;
use half::{Halves, Owed};
use refusal::Explained;
pub use rest::{drop_rest, last};
pub use tls::{Tls, TlsFiles};
use unread::{Unread, Watched};

/// How long a request's head may take, and how long an idle connection is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// The largest head, in bytes: a request line and its headers.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The most headers of one request.
const HEADERS_MAX: usize = 100;

/// How many connections may be open; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;

/// How long a client must have read nothing of what waits for it before it may lose its place where none is free.
const UNREAD_PATIENCE: Duration = Duration::from_secs(60);

/// How long open requests may take to finish once the bridge is told to end.
const CLOSING_PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before accepting again after the system refused, for lack of file descriptors perhaps, and how long for a
/// place before somebody loses one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `routes` on `listener`, over TLS if there is any, until `shutdown` resolves, then gives what is open time to finish.
pub async fn serve(
    tls: Option<Tls>,
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_within(Bounds::default(), tls, listener, routes, shutdown).await
}

/// What clients may draw out.
#[derive(Clone, Copy)]
struct Bounds {
    head_patience: Duration,
    connections_max: usize,
    unread_patience: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head_patience: HEAD_PATIENCE, connections_max: CONNECTIONS_MAX, unread_patience: UNREAD_PATIENCE }
    }
}

async fn serve_within(
    bounds: Bounds,
    tls: Option<Tls>,
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head_patience)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let room = Room { places, unread: Unread::default(), patience: bounds.unread_patience };
    let (closing, open) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted?,
        };
        let (http, tls, routes, mut closing) = (http.clone(), tls.clone(), routes.clone(), open.clone());
        tokio::spawn(async move {
            let Some(tls) = tls else { return talk(http, stream, peer, routes, closing, place).await };
            let shaken = tokio::select! {
                shaken = tls.accept(stream, bounds.head_patience) => shaken,
                _ = closing.changed() => return,
            };
            match shaken {
                Ok(stream) => talk(http, stream, peer, routes, closing, place).await,
                Err(error) => tracing::debug!(%error, "no TLS with a client"),
            }
        });
    }
    drop((listener, open));
    closing.send_replace(());
    // Every connection holds an end of the channel.
    if timeout(CLOSING_PATIENCE, closing.closed()).await.is_err() {
        tracing::warn!("some connections were still open and are cut");
    }
    Ok(())
}

/// Answers what comes over a connection until it ends, or until the bridge closes and what is open was answered.
async fn talk(
    http: http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: IpAddr,
    routes: Router,
    mut closing: watch::Receiver<()>,
    place: Place,
) {
    let lost = Arc::new(Notify::new());
    let stream = Watched::new(stream, place.unread, lost.clone());
    let routes = TowerToHyperService::new(routes);
    let owed = Owed::default();
    let stream = Explained::new(Halves::new(stream, owed.clone()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        owed.begin(&request);
        request.extensions_mut().insert(Peer(peer));
        routes.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = lost.notified() => {
            tracing::info!("a client that reads nothing has lost its place: there was none for others");
            Ok(())
        }
        // The one thing that it ever says.
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
    drop(place.permit);
}

/// Refuses a head that is too large. Hyper reads no more once it has read this much, but what it reads at once may go beyond.
///
/// A body in chunks is the last of its connection: a length beside them is not heeded, and where a proxy heeds it instead, what
/// comes next would be taken for somebody else's request.
pub async fn check_head(request: axum::extract::Request, next: Next) -> Response {
    let bytes = head_bytes(&request);
    if bytes <= HEAD_BYTES_MAX {
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let response = next.run(request).await;
        return if chunked { last(response) } else { response };
    }
    let message = format!("The head of the request has {bytes} bytes; it may have {HEAD_BYTES_MAX}.");
    let error = Error::new(ErrorKind::Invalid, message).hint("Send fewer or shorter headers.");
    let dialect = Dialect::of(request.uri().path());
    // A body that nobody reads may follow.
    last(dialect.refuse_as(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, error))
}

/// How long a head was when it came, but for spaces that mean nothing.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let line = request.method().as_str().len() + path + " HTTP/1.1\r\n".len() + 1;
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + headers.sum::<usize>() + "\r\n".len()
}

/// Room for so many connections.
struct Room {
    places: Arc<Semaphore>,
    unread: Unread,
    patience: Duration,
}

/// A connection's place, which whoever does not read may lose.
struct Place {
    unread: Unread,
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Waits for a place; where none gets free, whoever has long read nothing gives one.
    async fn enter(&self) -> io::Result<Place> {
        loop {
            match timeout(ACCEPT_PAUSE, self.places.clone().acquire_owned()).await {
                Ok(permit) => {
                    let permit = permit.map_err(io::Error::other)?;
                    return Ok(Place { unread: self.unread.clone(), permit });
                }
                Err(_) => self.unread.end_longest(self.patience),
            }
        }
    }
}

/// Waits for room and then for a connection.
async fn accept(listener: &TcpListener, room: &Room) -> io::Result<(TcpStream, IpAddr, Place)> {
    let place = room.enter().await?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Tokens are small packets that should leave at once; without the option they merely leave later.
                let _ = stream.set_nodelay(true);
                return Ok((stream, peer.ip(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                room.unread.end_longest(room.patience);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
