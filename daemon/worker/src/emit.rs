//! What leaves the worker: frames to the daemon, written by a thread of their own from one bounded queue.
//!
//! The heartbeat never waits for the pipe unless the daemon stops reading, and frames that are said together are written
//! together: a step wakes the writer once, and the daemon once. Everything that has words for the daemon holds an `Emitter`.

use std::io::{BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use pipe::{FromWorker, PipeError, WorkEvent, WorkId};
use protocol::Error;
use protocol::transcript::Event;

/// The most batches of frames that wait to be written; a step says a few frames for each sequence.
const BATCHES_MAX: usize = 1024;

/// The daemon does not listen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon does not read the worker's output any more")]
pub struct Deaf;

/// A way to speak to the daemon.
#[derive(Clone)]
pub struct Emitter {
    /// `None` ends the writer.
    batches: SyncSender<Option<Vec<FromWorker>>>,
}

impl Emitter {
    /// Starts the writer, which ends when it is told to or the output fails.
    pub fn start(output: impl Write + Send + 'static) -> std::io::Result<(Self, JoinHandle<Result<(), PipeError>>)> {
        let (batches, queue) = sync_channel(BATCHES_MAX);
        let writer = Builder::new().name("writer".to_string()).spawn(move || write_all(&queue, output))?;
        Ok((Self { batches }, writer))
    }

    /// Says something.
    pub fn send(&self, message: FromWorker) -> Result<(), Deaf> {
        self.send_all(vec![message])
    }

    /// Says several things at once.
    pub fn send_all(&self, messages: Vec<FromWorker>) -> Result<(), Deaf> {
        if messages.is_empty() {
            return Ok(());
        }
        self.batches.send(Some(messages)).map_err(|_| Deaf)
    }

    /// Ends a request with an error.
    pub fn fail(&self, id: WorkId, error: Error) -> Result<(), Deaf> {
        self.send(FromWorker::Event(WorkEvent { id, tokens: Vec::new(), sampler: None, event: Event::Failed(error) }))
    }

    /// Ends the writer once everything said before is written.
    pub fn close(&self) -> Result<(), Deaf> {
        self.batches.send(None).map_err(|_| Deaf)
    }
}

fn write_all(queue: &Receiver<Option<Vec<FromWorker>>>, output: impl Write) -> Result<(), PipeError> {
    let mut output = BufWriter::with_capacity(1 << 16, output);
    while let Ok(Some(first)) = queue.recv() {
        let mut next = Some(Some(first));
        while let Some(batch) = next {
            let Some(batch) = batch else { return Ok(output.flush()?) };
            batch.iter().try_for_each(|message| Ok::<_, PipeError>(output.write_all(&pipe::encode(message)?)?))?;
            next = queue.try_recv().ok();
        }
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, a piece for each call.
    #[derive(Clone, Default)]
    struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Pieces {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().push(piece.to_vec());
            Ok(piece.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_said_at_once_leaves_in_one_piece_and_in_order() {
        let pieces = Pieces::default();
        let (emitter, writer) = Emitter::start(pieces.clone()).unwrap();
        let loading = |done| FromWorker::Loading { done, total: 3 };
        emitter.send_all((0..3).map(loading).collect()).unwrap();
        emitter.close().unwrap();
        writer.join().unwrap().unwrap();
        let written = pieces.0.lock().unwrap();
        assert_eq!(written.len(), 1);
        let mut heard = written[0].as_slice();
        for nth in 0..3 {
            assert_eq!(pipe::read::<FromWorker>(&mut heard).unwrap(), loading(nth));
        }
        assert!(heard.is_empty());
    }
}
