//! One known model as the supervisor sees it: its card, where it is in its life, and who waits for it.
//! It holds state and answers questions about it; changes of phase are `lifecycle`'s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pipe::{Answer, AskId, Pulse, Ready, WorkId};
use protocol::measures::{Measures, ModelMeasures};
use protocol::model::{ModelCard, ModelState, Residence, Source};
use protocol::transcript::Event;
use protocol::{Error, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::process::Process;
use super::recovery::Deaths;
use super::work::Work;
use crate::residency::Resident;
use crate::time::milliseconds;
use crate::transcript::Transcript;

/// A model that requests may name.
#[derive(Debug)]
pub struct Model {
    /// What clients know of it; its state is made anew by `card`.
    card: ModelCard,
    /// Where it is in its life.
    pub phase: Phase,
    /// Requests that wait until it is loaded.
    pub waiting: VecDeque<Work>,
    /// Transcripts that end when it is loaded.
    pub loaders: Vec<Arc<Transcript>>,
    /// Callers that wait until it is unloaded.
    pub leavers: Vec<oneshot::Sender<Result<()>>>,
    /// How long it stays without work; `None` is for ever.
    pub keep_alive: Option<Duration>,
    /// Whether the configuration keeps it loaded.
    pub preloaded: bool,
    /// When it last had work.
    pub used: Instant,
    /// How its workers fared.
    pub deaths: Deaths,
    /// What the workers counted that are gone.
    pub past: Measures,
    /// How often it was brought into memory.
    pub loads: u64,
    /// How often its worker died.
    pub died: u64,
    /// What those who watch were last told of it.
    pub told: Option<Told>,
}

/// What is news when it changes: the state as clients see it, and whether the model is pinned.
pub type Told = (u8, bool);

/// Where a model is in its life.
#[derive(Debug)]
pub enum Phase {
    /// On disk.
    Absent,
    /// Somebody wants it; it waits for memory.
    Wanted(Instant),
    /// Its worker died; it is wanted again then.
    Backoff(Instant),
    /// A worker reads it.
    Loading(Worker),
    /// A worker serves it.
    Loaded(Worker),
    /// Its worker finishes its work and exits.
    Leaving(Worker),
    /// It cannot be loaded; until then requests are refused without another try.
    Failed(Error, Instant),
}

/// The process that serves a model.
#[derive(Debug)]
pub struct Worker {
    /// Which process of this model.
    pub number: u64,
    /// The process itself.
    pub process: Process,
    /// Bytes it was granted.
    pub bytes: u64,
    /// How many of them are for its KV cache.
    pub kv_bytes: u64,
    /// When it last said something, or was given its first work.
    pub heard: Instant,
    /// How it said it is.
    pub pulse: Pulse,
    /// What it said when it was ready.
    pub ready: Option<Ready>,
    /// Its work.
    pub works: BTreeMap<WorkId, Work>,
    /// Who waits for answers to questions.
    pub questions: BTreeMap<AskId, oneshot::Sender<Result<Answer>>>,
    /// Why it could not load the model.
    pub failure: Option<Error>,
    /// Why the supervisor killed it.
    pub killed: Option<String>,
}

impl Worker {
    /// Gives it a request.
    pub fn submit(&mut self, work: Work, now: Instant) {
        if self.works.is_empty() {
            self.heard = now;
        }
        self.process.send(work.submit());
        self.works.insert(work.id, work);
    }

    /// Bytes it counts with against the budget.
    fn accounted(&self) -> u64 {
        self.bytes.max(self.pulse.memory_bytes)
    }

    /// Kills it, and remembers why.
    pub fn kill(&mut self, why: String) {
        self.killed.get_or_insert(why);
        self.process.kill();
    }
}

impl Model {
    /// Makes a model that is on disk.
    pub fn new(card: ModelCard, keep_alive: Option<Duration>, preloaded: bool, now: Instant) -> Self {
        Self {
            card,
            phase: Phase::Absent,
            waiting: VecDeque::new(),
            loaders: Vec::new(),
            leavers: Vec::new(),
            keep_alive,
            preloaded,
            used: now,
            deaths: Deaths::default(),
            past: Measures::default(),
            loads: 0,
            died: 0,
            told: None,
        }
    }

    /// What all its workers counted.
    pub fn measures(&self) -> ModelMeasures {
        let mut measures = self.past;
        measures.add(&self.worker().map_or(Measures::default(), |worker| worker.pulse.measures));
        ModelMeasures { model: self.card.name.clone(), measures, loads: self.loads, deaths: self.died }
    }

    /// What is known of it, whatever its state.
    pub fn record(&self) -> &ModelCard {
        &self.card
    }

    /// Whether another model of its name may take its place: one of the same folder, or of another commit of the same
    /// repository, or of another build. A worker in memory keeps what it has read.
    pub fn may_become(&self, path: &str, source: &Source) -> bool {
        self.card.path == path
            || match (&self.card.source, source) {
                (Source::Hub { repo: known, .. }, Source::Hub { repo: new, .. }) => known == new,
                (Source::Bundled, Source::Bundled) => true,
                _ => false,
            }
    }

    /// Changes what is known of it.
    pub fn record_mut(&mut self) -> &mut ModelCard {
        &mut self.card
    }

    /// The worker, in whatever phase.
    pub fn worker(&self) -> Option<&Worker> {
        match &self.phase {
            Phase::Loading(worker) | Phase::Loaded(worker) | Phase::Leaving(worker) => Some(worker),
            _ => None,
        }
    }

    /// The worker, in whatever phase.
    pub fn worker_mut(&mut self) -> Option<&mut Worker> {
        match &mut self.phase {
            Phase::Loading(worker) | Phase::Loaded(worker) | Phase::Leaving(worker) => Some(worker),
            _ => None,
        }
    }

    /// Whether it may never be evicted.
    pub fn pinned(&self) -> bool {
        self.card.pinned || self.preloaded
    }

    /// Whether somebody waits for it to be in memory, or it is to be there in any case.
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty() || !self.loaders.is_empty() || self.pinned()
    }

    /// How many requests it answers or keeps waiting.
    pub fn active(&self) -> usize {
        self.waiting.len() + self.worker().map_or(0, |worker| worker.works.len())
    }

    /// What it answers or keeps waiting.
    pub fn works(&self) -> impl Iterator<Item = &Work> {
        self.waiting.iter().chain(self.worker().into_iter().flat_map(|worker| worker.works.values()))
    }

    /// Adds an event to the transcripts of everybody who waits for it to load.
    pub fn tell_waiting(&self, event: &Event) {
        let transcripts = self.waiting.iter().map(|work| &work.transcript).chain(&self.loaders);
        transcripts.for_each(|transcript| transcript.append(event.clone()));
    }

    /// How residency sees it, if it has a worker.
    pub fn resident(&self, started: Instant) -> Option<Resident> {
        let worker = self.worker()?;
        let loading = matches!(self.phase, Phase::Loading(_));
        Some(Resident {
            name: self.card.name.clone(),
            bytes: worker.accounted(),
            busy: loading || self.active() > 0,
            pinned: self.pinned(),
            leaving: matches!(self.phase, Phase::Leaving(_)),
            used_ms: milliseconds(self.used.saturating_duration_since(started)),
            keep_alive_ms: self.keep_alive.map(milliseconds),
        })
    }

    /// What is news when it changes.
    pub fn news(&self) -> Told {
        let state = match self.phase {
            Phase::Absent => 0,
            Phase::Wanted(_) | Phase::Backoff(_) | Phase::Loading(_) => 1,
            Phase::Loaded(_) => 2,
            Phase::Leaving(_) => 3,
            Phase::Failed(..) => 4,
        };
        (state, self.pinned())
    }

    /// Its card, with the state it is in now.
    pub fn card(&self, now: Instant) -> ModelCard {
        let state = match &self.phase {
            Phase::Absent => ModelState::Available,
            Phase::Wanted(_) | Phase::Backoff(_) | Phase::Loading(_) => ModelState::Loading,
            Phase::Loaded(worker) => ModelState::Loaded(self.residence(worker, now)),
            Phase::Leaving(_) => ModelState::Unloading,
            Phase::Failed(error, _) => ModelState::Failed(error.clone()),
        };
        ModelCard { state, pinned: self.pinned(), ..self.card.clone() }
    }

    fn residence(&self, worker: &Worker, now: Instant) -> Residence {
        let pulse = worker.pulse;
        let keep = self.keep_alive.filter(|_| !self.pinned());
        let idle = if self.active() > 0 { Duration::ZERO } else { now.saturating_duration_since(self.used) };
        Residence {
            pid: worker.process.pid(),
            device: worker.ready.as_ref().map(|ready| ready.device.clone()).unwrap_or_default(),
            memory_bytes: pulse.memory_bytes,
            accounted_bytes: worker.accounted(),
            kv_bytes: worker.kv_bytes,
            load_ms: worker.ready.as_ref().map_or(0, |ready| ready.load_ms),
            expires_in_ms: keep.map(|keep| milliseconds(keep.saturating_sub(idle))),
            running: pulse.running,
            waiting: pulse.waiting,
            blocks_used: pulse.blocks_used,
            blocks_total: pulse.blocks_total,
            measures: pulse.measures,
        }
    }
}
