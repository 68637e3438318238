//! A connection after its preface, as the transports that tarpc drives: one for each side.
//!
//! The client's ends when the daemon's stream ends or breaks. The daemon's answers what it cannot read with one last
//! error reply and then fails, and it fails at once when the client is gone: a session never outlives its client.
//! Nothing here waits without being polled, and nothing buffers more than one frame in each direction.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::{Sink, Stream, StreamExt as _};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tarpc::{ClientMessage, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{Call, Codec, Reply, WireError};
use crate::service::{ImpetusRequest, ImpetusResponse};
use crate::{Error, ErrorKind};

/// Frames over a byte stream, in one codec.
struct Frames<S> {
    stream: Framed<S, LengthDelimitedCodec>,
    codec: Codec,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<BytesMut>>> {
        self.stream.poll_next_unpin(cx)
    }

    fn sink(&mut self) -> Pin<&mut impl Sink<Bytes, Error = io::Error>> {
        Pin::new(&mut self.stream)
    }

    fn send<T: Serialize>(&mut self, value: &T) -> Result<(), SendError> {
        let body = self.codec.encode(value).map_err(SendError::Wire)?;
        self.sink().start_send(body.into()).map_err(SendError::Io)
    }
}

/// Why a frame was not sent.
enum SendError {
    /// The value does not fit a frame.
    Wire(WireError),
    /// The stream broke.
    Io(io::Error),
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Wire(error) => io::Error::new(io::ErrorKind::InvalidData, error),
            SendError::Io(error) => error,
        }
    }
}

/// The client's side.
pub(crate) struct ClientTransport<S>(Frames<S>);

impl<S> ClientTransport<S> {
    pub(crate) fn new(stream: Framed<S, LengthDelimitedCodec>, codec: Codec) -> Self {
        Self(Frames { stream, codec })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for ClientTransport<S> {
    type Item = io::Result<Response<ImpetusResponse>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = ready!(self.0.poll_body(cx)) else { return Poll::Ready(None) };
        let reply = body.and_then(|body| self.0.codec.decode(&body).map_err(io::Error::other));
        Poll::Ready(Some(reply.map(|reply: Reply<ImpetusResponse>| reply.into_tarpc())))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<ClientMessage<ImpetusRequest>> for ClientTransport<S> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.sink().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<ImpetusRequest>) -> io::Result<()> {
        match Call::from_tarpc(message) {
            Some(call) => Ok(self.0.send(&call)?),
            None => Ok(()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.sink().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.sink().poll_close(cx)
    }
}

/// The daemon's side.
pub(crate) struct ServerTransport<S> {
    frames: Frames<S>,
    in_flight: InFlight,
    /// The last reply, once something unreadable has come.
    farewell: Option<Farewell>,
    /// How long a frame may take that has begun, and when the one is late that has.
    patience: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

/// The requests that have no reply yet, with the moments after which they get none.
#[derive(Default)]
struct InFlight(HashMap<u64, Instant>);

impl InFlight {
    /// More than can be in flight; past this, what has expired is forgotten.
    const KEPT_MAX: usize = 8192;

    /// Notes a call; returns its id if it asks under one whose reply is still to come.
    fn note(&mut self, message: &ClientMessage<ImpetusRequest>, now: Instant) -> Option<u64> {
        match message {
            ClientMessage::Request(request) => {
                if self.0.len() >= Self::KEPT_MAX {
                    self.0.retain(|_, until| *until > now);
                }
                let before = self.0.insert(request.id, request.context.deadline);
                before.filter(|until| *until > now).map(|_| request.id)
            }
            ClientMessage::Cancel { request_id, .. } => {
                self.0.remove(request_id);
                None
            }
            _ => None,
        }
    }
}

/// How far the last reply is.
enum Farewell {
    Waiting(Reply<ImpetusResponse>, io::Error),
    Sent(io::Error),
}

impl<S> ServerTransport<S> {
    /// `patience` is how long the rest of a frame may take.
    pub(crate) fn new(stream: Framed<S, LengthDelimitedCodec>, codec: Codec, patience: Duration) -> Self {
        let frames = Frames { stream, codec };
        Self { frames, in_flight: InFlight::default(), farewell: None, patience, late: None }
    }

    /// Prepares the last reply: to the request that could not be read, if its id can be.
    fn part(&mut self, body: &[u8], message: String) {
        let id = match self.frames.codec {
            Codec::Json => readable_id(body),
            Codec::Bincode => None,
        };
        let error = Error::new(ErrorKind::Invalid, format!("impetusd cannot read this request: {message}"))
            .hint("compare it with protocol/frames of the same version; the connection is closed");
        self.part_with(id.unwrap_or(u64::MAX), error);
    }

    /// Prepares the last reply for a request whose id says nothing, because another with it waits for a reply.
    fn part_from_double(&mut self, id: u64) {
        let error = Error::new(ErrorKind::Invalid, format!("a request with the id {id} is in flight already"))
            .hint("give every request in flight an id of its own; the connection is closed");
        self.part_with(u64::MAX, error);
    }

    fn part_with(&mut self, id: u64, error: Error) {
        let cause = io::Error::new(io::ErrorKind::InvalidData, error.message.clone());
        self.farewell = Some(Farewell::Waiting(Reply { id, result: Err(error) }, cause));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerTransport<S> {
    /// Waits for a body; what has come of one is held in memory, and so for no longer than it may take.
    fn poll_in_time(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<BytesMut>>> {
        let body = self.frames.poll_body(cx);
        if body.is_ready() || self.frames.stream.read_buffer().is_empty() {
            self.late = None;
            return body;
        }
        let patience = self.patience;
        ready!(self.late.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx));
        let message = format!("the rest of a frame did not come within {} s", patience.as_secs_f32());
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, message))))
    }

    /// Sends the last reply and returns why it was the last.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(Farewell::Waiting(..)) = &self.farewell {
            if let Err(error) = ready!(self.frames.sink().poll_ready(cx)) {
                return Poll::Ready(error);
            }
            if let Some(Farewell::Waiting(reply, cause)) = self.farewell.take() {
                if let Err(error) = self.frames.send(&reply) {
                    return Poll::Ready(error.into());
                }
                self.farewell = Some(Farewell::Sent(cause));
            }
        }
        if let Err(error) = ready!(self.frames.sink().poll_flush(cx)) {
            return Poll::Ready(error);
        }
        Poll::Ready(match self.farewell.take() {
            Some(Farewell::Sent(cause) | Farewell::Waiting(_, cause)) => cause,
            None => io::ErrorKind::ConnectionAborted.into(),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for ServerTransport<S> {
    type Item = io::Result<ClientMessage<ImpetusRequest>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.farewell.is_none() {
            match ready!(this.poll_in_time(cx)) {
                // An end is an error here: tarpc would otherwise finish what the client no longer wants.
                None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Some(Ok(body)) => match this.frames.codec.decode::<Call<ImpetusRequest>>(&body) {
                    Ok(call) => {
                        let message = call.into_tarpc();
                        match this.in_flight.note(&message, Instant::now()) {
                            None => return Poll::Ready(Some(Ok(message))),
                            Some(id) => this.part_from_double(id),
                        }
                    }
                    Err(error) => this.part(&body, error.to_string()),
                },
                Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => this.part(&[], error.to_string()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
        let cause = ready!(this.poll_farewell(cx));
        Poll::Ready(Some(Err(cause)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Response<ImpetusResponse>> for ServerTransport<S> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.sink().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, response: Response<ImpetusResponse>) -> io::Result<()> {
        let reply = Reply::from_tarpc(response);
        self.in_flight.0.remove(&reply.id);
        match self.frames.send(&reply) {
            // What does not fit a frame costs its own request, not the connection.
            Err(SendError::Wire(error)) => {
                let error = Error::internal(format!("the answer cannot be sent: {error}"));
                Ok(self.frames.send(&Reply::<ImpetusResponse> { id: reply.id, result: Err(error) })?)
            }
            sent => Ok(sent?),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.sink().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.sink().poll_close(cx)
    }
}

/// Returns the id of a JSON request whose verb cannot be read.
fn readable_id(body: &[u8]) -> Option<u64> {
    match read_json::<Call<IgnoredAny>>(body)? {
        Call::Request { id, .. } | Call::Cancel { id } => Some(id),
    }
}

fn read_json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    Codec::Json.decode(body).ok()
}
