//! The two bodies that frames carry, `Call` and `Reply`, and their tarpc twins.
//!
//! The house owns these shapes so that another language needs three fields and no trace contexts, and so that a
//! hostile deadline cannot overflow a clock. Only `transport` translates; nobody else sees a tarpc message.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tarpc::{ClientMessage, Request, Response, ServerError};

use crate::{Error, ErrorKind};

/// The longest deadline a call may have, in milliseconds; a longer one is shortened to it.
pub const DEADLINE_MS_MAX: u64 = 3_600_000;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call<T> {
    /// Asks for something.
    Request {
        /// Names the reply; the client chooses it, unique among its calls in flight.
        id: u64,
        /// After how many milliseconds the daemon gives up, without a reply.
        deadline_ms: u64,
        /// What is asked.
        verb: T,
    },
    /// Takes a request back.
    Cancel {
        /// The request's.
        id: u64,
    },
}

/// What the daemon sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply<T> {
    /// The request's id; `u64::MAX` where the daemon could not read one.
    pub id: u64,
    /// The verb's own result, or why the verb was not even tried.
    pub result: crate::Result<T>,
}

impl<T> Call<T> {
    /// Turns tarpc's message into ours.
    pub(crate) fn from_tarpc(message: ClientMessage<T>) -> Option<Self> {
        match message {
            ClientMessage::Request(request) => {
                let left = request.context.deadline.saturating_duration_since(Instant::now());
                let deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).min(DEADLINE_MS_MAX);
                Some(Self::Request { id: request.id, deadline_ms, verb: request.message })
            }
            ClientMessage::Cancel { request_id, .. } => Some(Self::Cancel { id: request_id }),
            // tarpc's enum is open; a message of a kind it does not have today has no form here.
            _ => None,
        }
    }

    /// Turns our message into tarpc's.
    pub(crate) fn into_tarpc(self) -> ClientMessage<T> {
        match self {
            Self::Request { id, deadline_ms, verb } => {
                let mut context = tarpc::context::current();
                context.deadline = Instant::now() + Duration::from_millis(deadline_ms.min(DEADLINE_MS_MAX));
                ClientMessage::Request(Request { context, id, message: verb })
            }
            Self::Cancel { id } => ClientMessage::Cancel { trace_context: Default::default(), request_id: id },
        }
    }
}

impl<T> Reply<T> {
    /// Turns tarpc's message into ours.
    pub(crate) fn from_tarpc(response: Response<T>) -> Self {
        Self { id: response.request_id, result: response.message.map_err(refusal) }
    }

    /// Turns our message into tarpc's. tarpc has no room for our error, so it travels as JSON inside the detail.
    pub(crate) fn into_tarpc(self) -> Response<T> {
        let message = self.result.map_err(|error| {
            let detail = serde_json::to_string(&error).unwrap_or(error.message);
            ServerError::new(io::ErrorKind::Other, detail)
        });
        Response { request_id: self.id, message }
    }
}

/// Says why tarpc itself refused a request.
fn refusal(error: ServerError) -> Error {
    match error.kind {
        io::ErrorKind::WouldBlock => Error::new(ErrorKind::Busy, "too many requests are in flight on this connection")
            .hint("wait for some of them to be answered, or open another connection")
            .retry_after_ms(100),
        _ => Error::internal(error.detail),
    }
}

/// Returns our error out of tarpc's.
pub(crate) fn unwrap_refusal(error: ServerError) -> Error {
    serde_json::from_str(&error.detail).unwrap_or_else(|_| refusal(error))
}
