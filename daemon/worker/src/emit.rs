//! What leaves the worker: frames to the daemon, written by a thread of their own from one bounded queue.
//!
//! The heartbeat never waits for the pipe unless the daemon stops reading, and frames that are ready together are written
//! together. Everything that has words for the daemon holds an `Emitter`.

use std::io::{BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use pipe::{FromWorker, PipeError, WorkEvent, WorkId};
use protocol::Error;
use protocol::transcript::Event;

/// The most frames that wait to be written.
const FRAMES_MAX: usize = 8192;

/// The daemon does not listen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon does not read the worker's output any more")]
pub struct Deaf;

/// A way to speak to the daemon.
#[derive(Clone)]
pub struct Emitter {
    /// `None` ends the writer.
    frames: SyncSender<Option<FromWorker>>,
}

impl Emitter {
    /// Starts the writer, which ends when it is told to or the output fails.
    pub fn start(output: impl Write + Send + 'static) -> std::io::Result<(Self, JoinHandle<Result<(), PipeError>>)> {
        let (frames, queue) = sync_channel(FRAMES_MAX);
        let writer = Builder::new().name("writer".to_string()).spawn(move || write_all(&queue, output))?;
        Ok((Self { frames }, writer))
    }

    /// Says something.
    pub fn send(&self, message: FromWorker) -> Result<(), Deaf> {
        self.frames.send(Some(message)).map_err(|_| Deaf)
    }

    /// Ends a request with an error.
    pub fn fail(&self, id: WorkId, error: Error) -> Result<(), Deaf> {
        self.send(FromWorker::Event(WorkEvent { id, tokens: Vec::new(), sampler: None, event: Event::Failed(error) }))
    }

    /// Ends the writer once everything said before is written.
    pub fn close(&self) -> Result<(), Deaf> {
        self.frames.send(None).map_err(|_| Deaf)
    }
}

fn write_all(queue: &Receiver<Option<FromWorker>>, output: impl Write) -> Result<(), PipeError> {
    let mut output = BufWriter::with_capacity(1 << 16, output);
    while let Ok(Some(first)) = queue.recv() {
        output.write_all(&pipe::encode(&first)?)?;
        for message in queue.try_iter() {
            let Some(message) = message else { return Ok(output.flush()?) };
            output.write_all(&pipe::encode(&message)?)?;
        }
        output.flush()?;
    }
    Ok(())
}
