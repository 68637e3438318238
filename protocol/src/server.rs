//! How the daemon answers one connection: its preface, then its requests, until the client goes or breaks a rule.
//!
//! `accept` and `Connection::serve` hide codecs, frames and tarpc from `impetusd`. A connection is one task: its
//! handlers run concurrently inside it, must not block, and end with it, so dropping the future of `serve` drops all
//! of a client's work. It decides nothing about who may connect; `socket::peer_uid` says who it is.

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use tarpc::server::{BaseChannel, Channel as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::bytes::Bytes;
use tokio_util::codec::Framed;

use crate::service::Impetus;
use crate::wire::transport::ServerTransport;
use crate::wire::{ACCEPTED, Codec, PREFACE_BYTES, Preface, REFUSED, STOP, framing};
use crate::{Error, ErrorKind, PROTOCOL_VERSION};

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most requests in flight; one more is refused as busy.
    pub requests_max: usize,
    /// How long the client may take to send its preface, and to take a refusal.
    pub preface: Duration,
    /// How long a frame may take once some of it has come.
    pub frame: Duration,
}

impl Default for Limits {
    /// A thousand requests, so that one bridge can hold as many streams; five seconds, so that a silent peer goes, and thirty
    /// for a frame, which takes milliseconds where nobody has stopped in the middle of it.
    fn default() -> Self {
        Self { requests_max: 1024, preface: Duration::from_secs(5), frame: Duration::from_secs(30) }
    }
}

/// Why a connection did not come about or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client did not send its eight bytes in time.
    #[error("the client sent no preface within {0:?}")]
    Silent(Duration),
    /// The client came only to end the daemon, and was told that it will.
    #[error("the client asks for the daemon's end")]
    Stop,
    /// The client was told why it is refused.
    #[error("the client was refused: {0}")]
    Refused(Error),
    /// The client sent what no client sends, and was told so.
    #[error("the client sent an unreadable request: {0}")]
    Unreadable(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// A client whose preface was accepted.
pub struct Connection<S> {
    transport: ServerTransport<S>,
    requests_max: usize,
}

/// Reads the client's preface and answers it; a client of another version or codec is told so and refused.
pub async fn accept<S>(mut stream: S, limits: &Limits) -> Result<Connection<S>, ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let silent = |_| ServeError::Silent(limits.preface);
    let mut bytes = [0; PREFACE_BYTES];
    tokio::time::timeout(limits.preface, stream.read_exact(&mut bytes)).await.map_err(silent)??;
    if Preface::from_bytes(bytes).is_some_and(|preface| preface.status == STOP) {
        stream.write_all(&Preface::server(bytes[PREFACE_BYTES - 2], ACCEPTED).to_bytes()).await?;
        return Err(ServeError::Stop);
    }
    match check(bytes) {
        Ok(codec) => {
            stream.write_all(&Preface::server(codec.number(), ACCEPTED).to_bytes()).await?;
            let transport = ServerTransport::new(Framed::new(stream, framing()), codec, limits.frame);
            Ok(Connection { transport, requests_max: limits.requests_max })
        }
        Err(error) => {
            let codec = bytes[PREFACE_BYTES - 2];
            tokio::time::timeout(limits.preface, refuse(stream, codec, &error)).await.map_err(silent)??;
            Err(ServeError::Refused(error))
        }
    }
}

/// Refuses a connection before its preface is read: the answer carries `error` and the connection ends.
pub async fn refuse_all<S>(stream: S, error: &Error) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    refuse(stream, Codec::Json.number(), error).await
}

/// Returns the codec that a preface asks for, or what is wrong with it.
fn check(bytes: [u8; PREFACE_BYTES]) -> crate::Result<Codec> {
    let preface = Preface::from_bytes(bytes).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "these are not the first bytes of an Impetus client")
            .hint("this socket speaks the Impetus protocol; for HTTP use the address that `impetusctl status` shows")
    })?;
    if preface.version != PROTOCOL_VERSION {
        let message = format!(
            "this client speaks protocol version {}, and impetusd speaks version {PROTOCOL_VERSION}",
            preface.version
        );
        return Err(Error::new(ErrorKind::Incompatible, message)
            .hint("install client and daemon of one release, then restart the daemon with `impetusctl stop`"));
    }
    Codec::from_number(preface.codec).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("there is no codec {}", preface.codec))
            .hint("codec 0 is bincode, codec 1 is JSON")
    })
}

/// Sends a refusing preface and one error frame, then closes.
async fn refuse<S>(mut stream: S, codec: u8, error: &Error) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&Preface::server(codec, REFUSED).to_bytes()).await?;
    let body = Codec::Json.encode(error).map_err(io::Error::other)?;
    let mut frames = Framed::new(stream, framing());
    frames.send(Bytes::from(body)).await?;
    frames.into_inner().shutdown().await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Answers requests with `service` until the client goes; its clones are all dropped when this returns.
    pub async fn serve<T: Impetus + Clone>(self, service: T) -> Result<(), ServeError> {
        let channel = BaseChannel::with_defaults(self.transport).max_concurrent_requests(self.requests_max);
        let mut requests = Box::pin(channel.requests());
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => running.push(request.execute(service.clone().serve())),
                    Some(Err(error)) => return ended(&error),
                    None => return Ok(()),
                },
                Some(()) = running.next() => {}
            }
        }
    }
}

/// Says whether a connection ended well: a client that goes is no error.
fn ended(error: &tarpc::ChannelError<io::Error>) -> Result<(), ServeError> {
    use tarpc::ChannelError::{Close, Flush, Read, Ready, Write};
    let (Read(cause) | Ready(cause) | Write(cause) | Flush(cause) | Close(cause)) = error;
    match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
        io::ErrorKind::InvalidData => Err(ServeError::Unreadable(cause.to_string())),
        kind => Err(ServeError::Io(io::Error::new(kind, cause.to_string()))),
    }
}
