//! One resident model: the process that reads requests from the daemon's pipe and streams answers back.
//!
//! `serve` is the whole life of it: open the model, say ready, then beat (`runner`) until drained. Prompts become tokens
//! in `prompt`, drawn tokens become answers in `generation` and `output`, frames come and go through `inbox` and `emit`.
//! A model that reads whole texts has a heartbeat of its own, `encode`.
//! It knows no clients, sessions or other models: those are the daemon's. `impetus-worker` is this crate's program.

pub mod bundled;
pub mod emit;
pub mod encode;
pub mod facts;
mod follow;
pub mod generation;
pub mod guard;
pub mod guess;
pub mod import;
pub mod inbox;
pub mod lookout;
pub mod open;
pub mod output;
pub mod prompt;
mod quota;
pub mod render;
pub mod runner;
pub mod shelf;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use pipe::{FromWorker, PipeError, ToWorker};

use crate::emit::{Deaf, Emitter};
use crate::inbox::{INBOX_MESSAGES_MAX, Message};
use crate::lookout::{Lookout, READING_MAX};
use crate::runner::{RunError, Runner};

/// Why a worker ended before it was drained.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The first message was not an open, or there was none.
    #[error("the daemon's first message must open a model")]
    NotOpened,
    /// The model does not load; the daemon has been told.
    #[error("the model cannot be loaded: {0}")]
    Load(protocol::Error),
    /// A thread does not start.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// A step failed, or the daemon is gone.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The last frames were not written.
    #[error(transparent)]
    Pipe(#[from] PipeError),
}

impl From<Deaf> for ServeError {
    fn from(deaf: Deaf) -> Self {
        Self::Run(deaf.into())
    }
}

/// Serves one model from `input` to `output` until it is drained. `program` is this program, which renders chat templates
/// in a process of its own. When the input ends or fails, `at_end` is called on
/// the reading thread, whatever else goes on: a worker must not outlive its daemon, not even during a load.
pub fn serve(
    program: &Path,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    at_end: impl FnOnce() + Send + 'static,
) -> Result<(), ServeError> {
    let (emitter, writer) = Emitter::start(output)?;
    let (sender, inbox) = sync_channel(INBOX_MESSAGES_MAX);
    let (reader_sender, reader_emitter) = (sender.clone(), emitter.clone());
    Builder::new().name("reader".to_string()).spawn(move || {
        if let Err(error) = inbox::read(input, &reader_sender, &reader_emitter) {
            tracing::error!(%error, "reading from the daemon failed");
        }
        drop((reader_sender, reader_emitter));
        at_end();
    })?;
    let Ok(Message::Daemon(ToWorker::Open(open))) = inbox.recv() else { return Err(ServeError::NotOpened) };
    let served = open_and_run(&open, program, inbox, sender, emitter.clone());
    // Every frame is written before the process ends; a writer that has failed cannot be closed, and says why.
    let _ = emitter.close();
    writer.join().unwrap_or(Err(PipeError::Closed))?;
    served
}

fn open_and_run(
    open: &pipe::Open,
    program: &Path,
    inbox: Receiver<Message>,
    sender: SyncSender<Message>,
    emitter: Emitter,
) -> Result<(), ServeError> {
    let facts = match facts::facts(Path::new(&open.path)) {
        Ok(facts) => facts,
        Err(error) => return refuse(&emitter, error),
    };
    if !facts.capabilities.generates() {
        return encode::run(open, facts, inbox, sender, emitter);
    }
    let opened = match open::open(open, facts, program, &emitter) {
        Ok(opened) => opened,
        Err(error) => return refuse(&emitter, error),
    };
    let (prompts, jobs) = sync_channel(opened.places.requests_max());
    let lookout = Lookout::start(READING_MAX, emitter.clone(), sender.clone())?;
    opened.prompter.start(opened.rendering, jobs, &sender, &emitter, &lookout)?;
    let shelf = opened.shelf.and_then(|plan| plan.open(sender));
    let pulse = opened.ready.pulse;
    emitter.send(FromWorker::Ready(opened.ready))?;
    let (model, drafter) = (opened.model, opened.drafter);
    let (scheduler, pace, places) = (opened.scheduler, opened.pace, opened.places);
    Runner::new(runner::Parts { model, drafter, scheduler, pace, places, inbox, prompts, emitter, pulse, shelf })
        .run()?;
    Ok(())
}

/// Tells the daemon why the model does not load.
fn refuse(emitter: &Emitter, error: protocol::Error) -> Result<(), ServeError> {
    emitter.send(FromWorker::LoadFailed(error.clone()))?;
    Err(ServeError::Load(error))
}
