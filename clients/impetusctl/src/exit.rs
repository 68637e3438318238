//! Error kinds become exit codes, here and nowhere else; `--help` shows the table.

use std::process::ExitCode;

use protocol::{Error, ErrorKind};

/// Returns the exit code for an error.
pub fn code(error: &Error) -> ExitCode {
    ExitCode::from(match error.kind {
        ErrorKind::Internal | ErrorKind::ModelNotLoaded => 1,
        ErrorKind::ModelNotFound | ErrorKind::NotFound => 3,
        ErrorKind::Busy | ErrorKind::NoMemory | ErrorKind::DeadlineExceeded | ErrorKind::RateLimited => 4,
        ErrorKind::AuthRequired | ErrorKind::Forbidden => 5,
        ErrorKind::Unreachable | ErrorKind::Closing | ErrorKind::Incompatible => 6,
        ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::ContextLengthExceeded | ErrorKind::Conflict => 7,
        ErrorKind::Cancelled => 130,
    })
}
