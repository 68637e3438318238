//! The socket's prefaces and frames, and the frames between the daemon and a worker.

use std::fmt::Debug;

use pipe::{FromWorker, Pulse, Shelf, ToWorker, WorkId};
use protocol::service::{ImpetusRequest, ImpetusResponse};
use protocol::wire::{Call, Codec, PREFACE_BYTES, Preface, Reply};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files;

/// Reads a preface and then a body in either codec, as each side does.
pub fn socket(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk::<PREFACE_BYTES>()
        && let Some(preface) = Preface::from_bytes(*head)
    {
        assert_eq!(preface.to_bytes(), *head, "a preface is its eight bytes");
    }
    for codec in [Codec::Bincode, Codec::Json] {
        again::<Call<ImpetusRequest>>(codec, bytes);
        again::<Reply<ImpetusResponse>>(codec, bytes);
    }
}

/// The golden frames.
pub fn frames() -> Vec<Vec<u8>> {
    files("protocol/frames")
}

/// What can be read can be written, and is then the same.
fn again<T: Serialize + DeserializeOwned + Debug>(codec: Codec, body: &[u8]) {
    let Ok(value) = codec.decode::<T>(body) else { return };
    let written = codec.encode(&value).unwrap();
    match codec.decode::<T>(&written) {
        Ok(read) => assert_eq!(codec.encode(&read).unwrap(), written),
        // bincode carries numbers that JSON has no form for, never the other way round.
        Err(error) => panic!("{value:?} is written and not read: {error}"),
    }
}

/// Small messages of both sides.
pub fn messages() -> Vec<Vec<u8>> {
    let shelf = Shelf { dir: "cache".to_owned(), model: "m".to_owned(), bytes_max: 1, day_bytes_max: 1, key: None };
    let asked = [ToWorker::Cancel(WorkId(7)), ToWorker::Drain];
    let told = [FromWorker::Loading { done: 1, total: 2 }, FromWorker::Pulse(Pulse::default())];
    let mut frames: Vec<_> = asked.iter().map(|message| pipe::encode(message).unwrap()).collect();
    frames.extend(told.iter().map(|message| pipe::encode(message).unwrap()));
    frames.push(pipe::encode(&shelf).unwrap());
    frames
}

/// Reads frames until one is none.
pub fn pipe(bytes: &[u8]) {
    let mut input = bytes;
    while pipe::read::<ToWorker>(&mut input).is_ok() {}
    let mut input = bytes;
    while pipe::read::<FromWorker>(&mut input).is_ok() {}
}
