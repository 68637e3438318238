//! What reaches the heartbeat: frames from the daemon and prompts that became tokens, in one bounded queue.
//!
//! A thread of its own reads the pipe, so that the end of input is seen during a load or a long step. When the queue is
//! full a new request is answered as busy from here; cancels and drains always get through. It decides nothing else.

use std::io::Read;
use std::sync::mpsc::{SyncSender, TrySendError};

use pipe::{PipeError, ToWorker, WorkId};
use protocol::trace::TraceParent;
use protocol::{Error, ErrorKind};

use crate::emit::Emitter;
use crate::encode;
use crate::prompt::Prepared;
use crate::shelf::Loaded;

/// The most messages that wait for the heartbeat.
pub const INBOX_MESSAGES_MAX: usize = 4096;

/// What the heartbeat is told.
pub enum Message {
    /// The daemon says something.
    Daemon(ToWorker),
    /// A request's prompt became tokens, or was refused.
    Prepared(Prepared),
    /// Blocks came from the disk.
    Loaded(Loaded),
    /// A request's texts became tokens, or were refused.
    Read(encode::Read),
    /// A text does not become tokens, and holds a thread until this process ends.
    Endless,
}

/// Reads frames until the input ends or fails, or nobody listens any more.
pub fn read(mut input: impl Read, inbox: &SyncSender<Message>, emitter: &Emitter) -> Result<(), PipeError> {
    loop {
        let message = match pipe::read::<ToWorker>(&mut input) {
            Ok(message) => message,
            Err(PipeError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some((work, trace)) = standing(&message) {
            tracing::info!("request {} of the trace {} is here", work.0, trace.trace);
        }
        let heard = match message {
            ToWorker::Submit(submit) => try_submit(submit.id, ToWorker::Submit(submit), inbox, emitter),
            ToWorker::Encode(encode) => try_submit(encode.id, ToWorker::Encode(encode), inbox, emitter),
            other => inbox.send(Message::Daemon(other)).is_ok(),
        };
        if !heard {
            return Ok(());
        }
    }
}

/// Where a request stands in a trace, if it stands in one.
fn standing(message: &ToWorker) -> Option<(WorkId, TraceParent)> {
    match message {
        ToWorker::Submit(submit) => Some((submit.id, submit.trace?)),
        ToWorker::Encode(encode) => Some((encode.id, encode.trace?)),
        _ => None,
    }
}

/// Puts a request into the queue, or answers that it is full; false if nobody listens any more.
fn try_submit(work: WorkId, request: ToWorker, inbox: &SyncSender<Message>, emitter: &Emitter) -> bool {
    match inbox.try_send(Message::Daemon(request)) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => emitter.fail(work, busy("the worker's inbox is full")).is_ok(),
        Err(TrySendError::Disconnected(_)) => false,
    }
}

/// A refusal that a retry may get past.
pub fn busy(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Busy, message).hint("retry in a moment, or send fewer requests at once").retry_after_ms(1_000)
}
