//! The start of a client's connection: patience, preface, handshake.
//!
//! A daemon that is starting is waited for; one that refuses is believed at once. Every step has the patience's time
//! limit, so a peer that accepts and then says nothing cannot hold a client.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tarpc::client::NewClient;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::codec::Framed;

use super::{Client, QUICK, call};
use crate::service::ImpetusClient;
use crate::status::Hello;
use crate::wire::transport::ClientTransport;
use crate::wire::{ACCEPTED, Codec, PREFACE_BYTES, Preface, STOP, framing};
use crate::{Error, ErrorKind, PROTOCOL_VERSION, Result, socket};

/// The first pause between two attempts; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Requests in flight on one connection: more than a daemon takes, as it refuses with a reason what would only wait here.
const IN_FLIGHT_MAX: usize = 1 << 16;

/// How long to wait for a daemon that does not answer yet.
#[derive(Clone, Copy, Debug)]
pub struct Patience(
    /// The time after which no new attempt is made.
    pub Duration,
);

impl Patience {
    /// Tries once: for asking whether a daemon runs.
    pub const NONE: Self = Self(Duration::ZERO);
    /// Waits for a daemon that somebody just started.
    pub const STARTING: Self = Self(Duration::from_secs(10));
}

impl Client {
    /// Connects to the daemon on `path` as the program `name`, as in `impetusctl/0.1.0`.
    pub async fn connect(path: &Path, name: &str, patience: Patience) -> Result<Self> {
        Self::connect_as(path, Hello { client: name.to_owned(), key: None }, patience).await
    }

    /// Connects to the daemon on `path` as `hello` says, perhaps for a key and with its rights only.
    pub async fn connect_as(path: &Path, hello: Hello, patience: Patience) -> Result<Self> {
        let start = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let error = match try_connect(path, hello.clone()).await {
                Ok(client) => return Ok(client),
                Err(error) if error.kind != ErrorKind::Unreachable => return Err(error),
                Err(error) => error,
            };
            let left = patience.0.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(error);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks the daemon on `path` to end, whatever version of the protocol it speaks; returns when it has said that it will.
    pub async fn end(path: &Path) -> Result<()> {
        let mut stream = socket::connect(path).await.map_err(|error| unreachable(path, &error))?;
        let preface = Preface { status: STOP, ..Preface::client(Codec::Json) };
        let asked = async {
            stream.write_all(&preface.to_bytes()).await?;
            let mut bytes = [0; PREFACE_BYTES];
            stream.read_exact(&mut bytes).await.map(|_| bytes)
        };
        let answer = tokio::time::timeout(QUICK, asked).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        match Preface::from_bytes(answer.map_err(|error| lost(&error))?) {
            Some(preface) if preface.status == ACCEPTED => Ok(()),
            _ => Err(Error::new(ErrorKind::Incompatible, "whatever answers on this socket does not end when asked to")
                .hint("end its process by hand, or check IMPETUS_SOCKET")),
        }
    }

    /// Speaks over an open byte stream: preface, then handshake as the program `name`.
    pub async fn over<S>(stream: S, codec: Codec, name: &str) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::begin_over(stream, codec, Hello { client: name.to_owned(), key: None }).await
    }

    async fn begin_over<S>(stream: S, codec: Codec, hello: Hello) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let transport = tokio::time::timeout(QUICK, open(stream, codec)).await.map_err(|_| {
            let message = format!("impetusd did not answer the preface within {} s", QUICK.as_secs());
            Error::new(ErrorKind::DeadlineExceeded, message).hint("look into its log with `impetusctl logs`")
        })??;
        let mut config = tarpc::client::Config::default();
        config.max_in_flight_requests = IN_FLIGHT_MAX;
        let NewClient { client: rpc, dispatch } = ImpetusClient::new(config, transport);
        let (open, closed) = watch::channel(());
        tokio::spawn(async move {
            // An error of the transport reaches every waiting caller; here it only ends the connection.
            let _ = dispatch.await;
            drop(open);
        });
        let welcome = call("handshake", QUICK, |context| rpc.handshake(context, hello)).await?;
        Ok(Self { rpc, trace: None, welcome: Arc::new(welcome), closed })
    }
}

/// Tries once to connect.
async fn try_connect(path: &Path, hello: Hello) -> Result<Client> {
    let stream = socket::connect(path).await.map_err(|error| unreachable(path, &error))?;
    Client::begin_over(stream, Codec::Bincode, hello).await
}

/// Exchanges prefaces and returns the transport behind them.
async fn open<S>(mut stream: S, codec: Codec) -> Result<ClientTransport<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let written = stream.write_all(&Preface::client(codec).to_bytes()).await;
    let mut bytes = [0; PREFACE_BYTES];
    // A peer that is refused before it speaks cannot write, but the refusal is there to be read.
    let read = stream.read_exact(&mut bytes).await;
    read.map_err(|error| lost(&written.err().unwrap_or(error)))?;
    let preface = Preface::from_bytes(bytes).ok_or_else(|| {
        Error::new(ErrorKind::Incompatible, "whatever answers on this socket is not impetusd")
            .hint("check IMPETUS_SOCKET; `impetusctl status` shows the daemon's socket")
    })?;
    let mut frames = Framed::new(stream, framing());
    if preface.status == ACCEPTED {
        return Ok(ClientTransport::new(frames, codec));
    }
    let body = frames.next().await;
    let error = body.and_then(|body| body.ok()).and_then(|body| Codec::Json.decode::<Error>(&body).ok());
    Err(error.unwrap_or_else(|| {
        let message =
            format!("impetusd speaks protocol version {}; this client speaks {PROTOCOL_VERSION}", preface.version);
        Error::new(ErrorKind::Incompatible, message).hint("install client and daemon of one release")
    }))
}

/// Says that a connection broke before it was one: a daemon in the middle of its end or of its start.
fn lost(error: &io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, format!("impetusd closed the connection: {error}"))
        .hint("it may be stopping; try again")
}

/// Says why nobody answers on the socket.
fn unreachable(path: &Path, error: &io::Error) -> Error {
    let socket = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::new(ErrorKind::Unreachable, format!("impetusd is not running on {socket}"))
                .hint("start it with `impetusctl serve --detach`")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::new(ErrorKind::Unreachable, format!("impetusd accepts no connection on {socket}: {error}"))
                .hint("it is overloaded or stuck; look into its log with `impetusctl logs`")
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::Forbidden, format!("the socket {socket} belongs to another user"))
                .hint("run as the user who started the daemon, or set IMPETUS_SOCKET to your own")
        }
        io::ErrorKind::InvalidInput => {
            Error::invalid("socket", error.to_string()).hint("set IMPETUS_SOCKET to a shorter path")
        }
        _ => Error::new(ErrorKind::Unreachable, format!("cannot connect to {socket}: {error}"))
            .hint("check IMPETUS_SOCKET and the permissions of its directory"),
    }
}
