//! What can go wrong, as every client sees it: a closed kind, a sentence, and what to do next.
//!
//! Programs decide by `kind` alone; `message` and `hint` are for people and never parsed. Kind becomes an HTTP
//! status in `clients/http` and an exit code in `clients/impetusctl`, each in one function.

use serde::{Deserialize, Serialize};

/// The result of every verb of the service.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal or failure, fit to be shown to the person who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What programs decide by.
    pub kind: ErrorKind,
    /// One sentence that names what was wrong, with the value that broke the rule.
    pub message: String,
    /// What to do about it, if something can be done.
    pub hint: Option<String>,
    /// The request field at fault, in this protocol's words, if one is.
    pub param: Option<String>,
    /// After how many milliseconds a retry may succeed, if waiting helps.
    pub retry_after_ms: Option<u64>,
}

/// The closed list of error kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The request is malformed or out of range.
    Invalid,
    /// Prompt and requested tokens exceed the model's context.
    ContextLengthExceeded,
    /// The request is well formed, but this model or build cannot honour it.
    Unsupported,
    /// No key, or a key that is not known.
    AuthRequired,
    /// The key or the peer may not do this.
    Forbidden,
    /// No model has this name.
    ModelNotFound,
    /// The model exists but could not be loaded.
    ModelNotLoaded,
    /// No such transcript, key or other thing.
    NotFound,
    /// A name is taken, or the thing is in use.
    Conflict,
    /// A queue is full; retry later.
    Busy,
    /// The model and its cache do not fit the memory budget.
    NoMemory,
    /// The deadline passed before the work was done.
    DeadlineExceeded,
    /// Somebody cancelled the work.
    Cancelled,
    /// The daemon is shutting down.
    Closing,
    /// The network or a remote hub failed.
    Unreachable,
    /// Client and daemon do not share a protocol version.
    Incompatible,
    /// A defect of Impetus; the log has the cause.
    Internal,
    /// A key has used up a limit per minute or per day.
    RateLimited,
}

impl Error {
    /// Makes an error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, param: None, retry_after_ms: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the request field at fault.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when a retry may succeed.
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Makes an error of kind `Invalid` about the field `param`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message).param(param)
    }

    /// Makes an error of kind `Unsupported` about the field `param`.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message).param(param)
    }

    /// Makes an error of kind `Internal`.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}
