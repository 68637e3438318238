//! How words become bytes: the preface of a connection, the frames after it, and the codec both sides agree on.
//!
//! A connection opens with eight bytes each way (`Preface`); then come frames, a big-endian u32 length and a body.
//! A body is a `Call` towards the daemon and a `Reply` back, in the codec that the client's preface named. This is the
//! only file that names bincode. It opens no socket and knows no verb. `client`, `server` and the worker's pipe use it.

pub(crate) mod frame;
pub(crate) mod transport;

#[cfg(test)]
mod tests;

use bincode::Options as _;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::codec::LengthDelimitedCodec;

use crate::PROTOCOL_VERSION;

pub use frame::{Call, Reply};

/// The longest body of a frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// The length of a preface, in bytes.
pub const PREFACE_BYTES: usize = 8;

/// The first four bytes of every preface.
pub const MAGIC: [u8; 4] = *b"IMPT";

/// The status of a server's preface that accepts the connection.
pub const ACCEPTED: u8 = 0;

/// The status of a server's preface that is followed by one error frame in JSON and the end of the connection.
pub const REFUSED: u8 = 1;

/// The status of a client's preface that asks for nothing but the daemon's end. Its version does not matter, so that the client
/// of any release can stop the daemon of any other.
pub const STOP: u8 = 2;

/// What went wrong between words and bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A body is longer than a frame may be.
    #[error("a body of {bytes} bytes does not fit a frame of {FRAME_BYTES_MAX} bytes")]
    TooLong {
        /// The body's length.
        bytes: usize,
    },
    /// A value has no form in this codec.
    #[error("a value cannot be written: {0}")]
    Encode(String),
    /// The bytes are not the value that was expected.
    #[error("a body cannot be read: {0}")]
    Decode(String),
}

/// How the bodies of frames are written; chosen by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// bincode 1, fixed-width little-endian integers: for Rust clients.
    Bincode,
    /// JSON: for every other language, and for people.
    Json,
}

impl Codec {
    /// Returns the codec's number in a preface.
    pub fn number(self) -> u8 {
        match self {
            Self::Bincode => 0,
            Self::Json => 1,
        }
    }

    /// Returns the codec that a preface names, if there is one of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Bincode),
            1 => Some(Self::Json),
            _ => None,
        }
    }

    /// Writes the body of a frame.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, WireError> {
        let body = match self {
            Self::Bincode => encode(value)?,
            Self::Json => serde_json::to_vec(value).map_err(|error| WireError::Encode(error.to_string()))?,
        };
        if body.len() > FRAME_BYTES_MAX {
            return Err(WireError::TooLong { bytes: body.len() });
        }
        Ok(body)
    }

    /// Reads the body of a frame; every byte of it must belong to the value.
    pub fn decode<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, WireError> {
        match self {
            Self::Bincode => decode(body),
            Self::Json => serde_json::from_slice(body).map_err(|error| WireError::Decode(error.to_string())),
        }
    }
}

/// Writes a value as bincode.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    bincode_options().serialize(value).map_err(|error| WireError::Encode(error.to_string()))
}

/// Returns how many bytes a value is as bincode, without writing it.
pub fn encoded_bytes<T: Serialize>(value: &T) -> Result<usize, WireError> {
    let bytes = bincode_options().serialized_size(value).map_err(|error| WireError::Encode(error.to_string()))?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Reads a value from bincode; every byte must belong to it, and no length inside may claim more than there is.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    let limit = body.len() as u64;
    bincode_options().with_limit(limit).deserialize(body).map_err(|error| WireError::Decode(error.to_string()))
}

/// Returns the options of every bincode in the house. Fixed widths keep the limit exact and the layout easy to read.
fn bincode_options() -> impl bincode::Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes()
}

/// Returns the framing of both directions: a big-endian u32 length, then the body.
pub(crate) fn framing() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec()
}

/// The first eight bytes of a connection, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// The protocol version the sender speaks.
    pub version: u16,
    /// The codec's number; a server repeats the client's.
    pub codec: u8,
    /// 0 or `STOP` from a client; from a server `ACCEPTED` or `REFUSED`.
    pub status: u8,
}

impl Preface {
    /// Returns the preface of a client that speaks this version.
    pub fn client(codec: Codec) -> Self {
        Self { version: PROTOCOL_VERSION, codec: codec.number(), status: ACCEPTED }
    }

    /// Returns the preface of a server that speaks this version.
    pub fn server(codec: u8, status: u8) -> Self {
        Self { version: PROTOCOL_VERSION, codec, status }
    }

    /// Writes magic, version (little-endian), codec, status.
    pub fn to_bytes(self) -> [u8; PREFACE_BYTES] {
        let [m0, m1, m2, m3] = MAGIC;
        let [low, high] = self.version.to_le_bytes();
        [m0, m1, m2, m3, low, high, self.codec, self.status]
    }

    /// Reads a preface; `None` if the magic is another's.
    pub fn from_bytes(bytes: [u8; PREFACE_BYTES]) -> Option<Self> {
        let [m0, m1, m2, m3, low, high, codec, status] = bytes;
        ([m0, m1, m2, m3] == MAGIC).then_some(Self { version: u16::from_le_bytes([low, high]), codec, status })
    }
}
