//! The heartbeat of a model that reads texts whole: drain the inbox, take the next texts, compute them, emit.
//!
//! One OS thread owns the encoder, as the runner owns a decoder; texts become tokens on a thread of their own (`reader`),
//! and `queue` says whose turn it is. A step holds about as many tokens as a decoder's prefill, so that a cancel or a new
//! request waits for one step at most; a step of one long text may take minutes, so the heart beats inside of it too. Nothing
//! is kept between steps: a worker that dies loses only what it had not sent.

mod queue;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use engine::encoder::{Text, probability, shorten};
use engine::{Encoder, LoadError, Precision};
use pipe::{Ask, Encode, FromWorker, Open, Pulse, Ready, ToWorker, WorkEvent, WorkId};
use protocol::encode::{Embedded, Scored};
use protocol::generation::{Finished, Started, Timing, Usage};
use protocol::measures::Measures;
use protocol::model::ModelFacts;
use protocol::transcript::Event;
use protocol::{Error, ErrorKind};
use scheduler::Stats;

use crate::ServeError;
use crate::emit::{Deaf, Emitter};
use crate::facts::{load_error, resident_bytes};
use crate::inbox::{INBOX_MESSAGES_MAX, Message, busy};
use crate::lookout::{Lookout, READING_MAX};
use crate::runner::{Heart, RunError};
use queue::{Item, Queue};
use reader::{Job, Reader};

pub use reader::Read;

/// The shortest time between two reports of a load's progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The most questions about tokens that wait; the daemon asks no more at once.
const QUESTIONS_MAX: usize = 64;

/// Loads the model and serves it until it is drained.
pub fn run(
    open: &Open,
    facts: ModelFacts,
    inbox: Receiver<Message>,
    sender: SyncSender<Message>,
    emitter: Emitter,
) -> Result<(), ServeError> {
    let started = Instant::now();
    let dir = Path::new(&open.path);
    let loaded = Reader::open(dir, &open.name, &facts).and_then(|reader| Ok((reader, load(dir, open, &emitter)?)));
    let (reader, mut encoder) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return crate::refuse(&emitter, load_error(&error)),
    };
    if open.warm_up {
        // So that the first request does not wait for pages and caches to fill.
        encoder
            .encode(&[Text { tokens: &[0], segments: &[] }], &mut || {}, &mut Vec::new())
            .map_err(RunError::Forward)?;
    }
    let places = open.sequences_max.saturating_add(open.waiting_max).max(1);
    let (texts, jobs) = sync_channel(places as usize + QUESTIONS_MAX);
    let lookout = Lookout::start(READING_MAX, emitter.clone(), sender.clone())?;
    let answers = emitter.clone();
    Builder::new().name("texts".to_string()).spawn(move || reader.run(&jobs, &sender, &answers, &lookout))?;
    let pulse = Pulse { memory_bytes: resident_bytes(), ..Pulse::default() };
    let load_ms = started.elapsed().as_millis() as u64;
    emitter.send(FromWorker::Ready(Ready { facts, device: encoder.device(), load_ms, pulse }))?;
    let heart = Heart::new(emitter.clone(), pulse, Instant::now());
    let runner = Runner {
        name: open.name.clone(),
        tokens_max: open.prefill_tokens_max.max(1) as usize,
        places: places as usize,
        encoder,
        inbox,
        texts,
        emitter,
        heart,
        measures: Measures::default(),
        reading: HashSet::new(),
        queue: Queue::default(),
        draining: false,
        rows: Vec::new(),
    };
    runner.run()?;
    Ok(())
}

fn load(dir: &Path, open: &Open, emitter: &Emitter) -> Result<Encoder, LoadError> {
    let mut told: Option<Instant> = None;
    let mut progress = |done, total| {
        if done == total || told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            told = Some(Instant::now());
            // If the daemon is gone, the reader ends this process.
            let _ = emitter.send(FromWorker::Loading { done, total });
        }
    };
    Encoder::open(dir, open.threads.max(1) as usize, Precision::Fast, &mut progress)
}

/// One encoder at work.
struct Runner {
    name: String,
    /// Tokens of a step, unless one text has more.
    tokens_max: usize,
    /// Requests at once.
    places: usize,
    encoder: Encoder,
    inbox: Receiver<Message>,
    texts: SyncSender<Job>,
    emitter: Emitter,
    heart: Heart,
    measures: Measures,
    /// Whose texts are becoming tokens.
    reading: HashSet<WorkId>,
    queue: Queue,
    draining: bool,
    /// Of the last step, a row per text.
    rows: Vec<f32>,
}

impl Runner {
    /// Works until nobody can send a message, or until a drain has let everything finish.
    fn run(mut self) -> Result<(), RunError> {
        while self.listen()? {
            let batch = self.queue.next(self.tokens_max, Instant::now());
            if !batch.is_empty() {
                self.compute(&batch)?;
            }
        }
        Ok(())
    }

    /// Takes every message that is there, and waits for one if there is nothing to compute. False ends the worker.
    fn listen(&mut self) -> Result<bool, RunError> {
        self.beat()?;
        if self.queue.is_empty() {
            if self.draining && self.reading.is_empty() {
                return Ok(false);
            }
            match self.inbox.recv_timeout(self.heart.pause()) {
                Ok(message) => self.hear(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        for _ in 0..INBOX_MESSAGES_MAX {
            let Ok(message) = self.inbox.try_recv() else { break };
            self.hear(message)?;
        }
        Ok(true)
    }

    fn hear(&mut self, message: Message) -> Result<(), RunError> {
        if matches!(message, Message::Endless) {
            return Err(RunError::Endless);
        }
        Ok(self.take(message)?)
    }

    fn take(&mut self, message: Message) -> Result<(), Deaf> {
        match message {
            Message::Daemon(ToWorker::Encode(encode)) => self.take_in(*encode),
            Message::Daemon(ToWorker::Cancel(work)) => {
                self.reading.remove(&work);
                self.queue.remove(work);
                Ok(())
            }
            Message::Daemon(ToWorker::Drain) => {
                self.draining = true;
                Ok(())
            }
            Message::Daemon(ToWorker::Submit(submit)) => self.emitter.fail(submit.id, self.generates_nothing()),
            Message::Daemon(ToWorker::Ask(ask)) => self.pass_on(ask),
            Message::Daemon(ToWorker::Open(_)) | Message::Prepared(_) | Message::Loaded(_) | Message::Endless => {
                tracing::error!("a message was ignored that no encoder gets");
                Ok(())
            }
            Message::Read(read) => self.admit(read),
        }
    }

    fn generates_nothing(&self) -> Error {
        let message = format!("{} reads whole texts; it generates nothing", self.name);
        Error::new(ErrorKind::Unsupported, message).param("model").hint("use a model that generates text")
    }

    /// Sends a question to the thread that can answer it.
    fn pass_on(&mut self, ask: Ask) -> Result<(), Deaf> {
        let id = ask.id;
        match self.texts.try_send(Job::Ask(ask)) {
            Ok(()) => Ok(()),
            Err(_) => self.emitter.send(FromWorker::Answer(id, Err(busy("other texts wait to become tokens")))),
        }
    }

    /// Sends a request's texts off to become tokens, unless too many wait already.
    fn take_in(&mut self, encode: Encode) -> Result<(), Deaf> {
        let work = encode.id;
        if self.draining {
            return self.emitter.fail(work, Error::new(ErrorKind::Closing, "the model is being unloaded"));
        }
        let waiting = self.reading.len() + self.queue.len();
        let full = || busy(format!("{waiting} requests wait for this model already; the most is {}", self.places));
        if waiting >= self.places || self.texts.try_send(Job::Encode { encode, arrived: Instant::now() }).is_err() {
            self.measures.refused += 1;
            return self.emitter.fail(work, full());
        }
        self.measures.requests += 1;
        self.reading.insert(work);
        Ok(())
    }

    /// Puts a request whose texts became tokens in line.
    fn admit(&mut self, read: Read) -> Result<(), Deaf> {
        let Read { work, result } = read;
        if !self.reading.remove(&work) {
            // It was cancelled meanwhile.
            return Ok(());
        }
        match result {
            Err(error) => self.emitter.fail(work, error),
            Ok(request) => {
                let prompt_tokens = request.tokens();
                self.tell(
                    work,
                    Event::Started(Started { model: self.name.clone(), prompt_tokens, seed: 0, max_tokens: 0 }),
                )?;
                if request.is_done() {
                    // A worker died between its last result and its end.
                    return self.tell(work, Event::Finished(Finished::default()));
                }
                self.queue.add(request);
                Ok(())
            }
        }
    }

    /// Computes one step and sends its results.
    fn compute(&mut self, batch: &[Item]) -> Result<(), RunError> {
        let text = |item: &'_ Item| -> (usize, usize) { (item.tokens.len(), item.segments.len()) };
        debug_assert!(batch.iter().map(text).all(|(tokens, segments)| segments == 0 || segments == tokens));
        let texts: Vec<Text<'_>> =
            batch.iter().map(|item| Text { tokens: &item.tokens, segments: &item.segments }).collect();
        let (counts, mut heard) = (self.counts(), Ok(()));
        let mut between = || {
            if heard.is_ok() {
                heard = self.heart.beat(Stats::default(), counts, &self.measures, Instant::now());
            }
        };
        self.encoder.encode(&texts, &mut between, &mut self.rows)?;
        heard?;
        self.measures.steps += 1;
        self.measures.rows += batch.len() as u64;
        self.measures.prompt_tokens += batch.iter().map(|item| item.tokens.len() as u64).sum::<u64>();
        let (now, width) = (Instant::now(), self.encoder.width());
        for (at, item) in batch.iter().enumerate() {
            let row = &self.rows[at * width..(at + 1) * width];
            if let Some(broken) = row.iter().find(|number| !number.is_finite()) {
                let message = format!("the model computed {broken} for input {}; its weights are broken", item.index);
                self.queue.remove(item.work);
                self.emitter.fail(item.work, Error::internal(message))?;
                continue;
            }
            let Some(done) = self.queue.done(item.work, now) else { continue };
            self.emitter.send(FromWorker::Event(result(item, row, done.dimensions)))?;
            if let Some((waited, worked)) = done.finished {
                let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                let timing = Timing { queue_us: us(waited), prefill_us: us(worked), decode_us: 0 };
                let usage = Usage { prompt_tokens: done.tokens, ..Usage::default() };
                self.measures.queue.record(timing.queue_us);
                let finished = Finished { usage, timing, ..Finished::default() };
                self.tell(item.work, Event::Finished(finished))?;
            }
        }
        Ok(())
    }

    fn tell(&self, id: WorkId, event: Event) -> Result<(), Deaf> {
        self.emitter.send(FromWorker::Event(WorkEvent { id, tokens: Vec::new(), sampler: None, event }))
    }

    fn beat(&mut self) -> Result<(), Deaf> {
        self.heart.beat(Stats::default(), self.counts(), &self.measures, Instant::now())
    }

    /// How many requests run, and how many wait.
    fn counts(&self) -> (u32, u32) {
        let running = self.queue.running();
        (running, (self.reading.len() + self.queue.len()) as u32 - running)
    }
}

/// What a text's numbers are to whoever asked: a unit vector of so many dimensions, or a probability.
fn result(item: &Item, row: &[f32], dimensions: Option<usize>) -> WorkEvent {
    let (index, tokens, cut) = (item.index, item.tokens.len() as u32, item.cut);
    let event = match dimensions {
        Some(dimensions) => Event::Embedded(Embedded { index, tokens, cut, vector: shorten(row, dimensions) }),
        None => Event::Scored(Scored { index, tokens, cut, score: probability(row[0]) }),
    };
    WorkEvent { id: item.work, tokens: Vec::new(), sampler: None, event }
}
