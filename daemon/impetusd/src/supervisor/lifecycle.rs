//! How a model moves from phase to phase: wanted, loading, loaded, leaving, dead, failed. Every change of phase is
//! made here, by the supervisor's one task, and logged once. Policy is not here: `residency` and `recovery` decide.

use std::sync::Arc;

use pipe::{FromWorker, Open, Ready, ToWorker, WorkEvent};
use protocol::generation::Finished;
use protocol::model::{LoadRequest, ModelCard};
use protocol::news::Happening;
use protocol::transcript::{Event, Progress, Stage, Unit};
use protocol::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::State;
use super::ask::QUESTIONS_MAX;
use super::model::{Phase, Worker};
use super::process::{Process, Report, Start, What};
use crate::placement::place;
use crate::prefixes;
use crate::residency::{self, CacheLimits, Decision, Resident, Shortage, Size, Wanted};
use crate::time::milliseconds;
use crate::transcript::Transcript;

/// Callers that may wait for one model to load.
const LOADERS_MAX: usize = 256;

/// The refusal of a model that does not fit, with the arithmetic.
pub(super) fn no_memory(name: &str, shortage: &Shortage) -> Error {
    let hint = "raise memory.budget, unpin or unload another model, or use a smaller or more quantized one";
    Error::new(ErrorKind::NoMemory, shortage.sentence(name)).hint(hint)
}

impl State {
    /// Asks `residency` about a model that is not in memory, beside those that are and what was promised to others.
    pub(super) fn decide(&self, name: &str, promised: &[Resident], now: Instant) -> Decision {
        let Some(wanted) = self.wanted(name, now) else { return Decision::Wait };
        let mut residents = self.residents(Some(name));
        residents.extend_from_slice(promised);
        let patience = milliseconds(self.setting.config.memory.patience);
        residency::decide(&wanted, &residents, self.setting.pools.budget, patience, self.since_start(now))
    }

    /// What is promised to a model that still waits, and has for too long: it is not to go to one that came later.
    fn promise(&self, name: &str, now: Instant) -> Option<Resident> {
        let wanted = self.wanted(name, now).filter(|_| matches!(self.models[name].phase, Phase::Wanted(_)))?;
        let patience = milliseconds(self.setting.config.memory.patience);
        wanted.is_late(patience, self.since_start(now)).then(|| wanted.promise(name))
    }

    /// What a model takes, and since when somebody waits for it.
    fn wanted(&self, name: &str, now: Instant) -> Option<Wanted> {
        let model = self.models.get(name)?;
        let since = if let Phase::Wanted(since) = model.phase { since } else { now };
        let memory = &self.setting.config.memory;
        let limits = CacheLimits {
            tokens: memory.kv_tokens,
            bytes_max: self.setting.pools.kv_max,
            tokens_min: memory.kv_tokens_min,
            keep: memory.kv,
            overhead: memory.overhead,
        };
        let draft = self.draft_of(name).ok().flatten().map(|draft| &draft.facts);
        let size = Size::predict(&model.record().facts, draft, &limits);
        Some(Wanted { size, since_ms: self.since_start(since) })
    }

    fn since_start(&self, instant: Instant) -> u64 {
        milliseconds(instant.saturating_duration_since(self.started))
    }

    /// The model that guesses for another, if the configuration names one.
    fn draft_of(&self, name: &str) -> Result<Option<&ModelCard>> {
        let Some(draft) = self.setting.config.models.draft_model.get(name) else { return Ok(None) };
        match self.models.get(draft) {
            Some(model) => Ok(Some(model.record())),
            None => Err(Error::new(
                ErrorKind::ModelNotFound,
                format!("{draft}, which is to guess for {name} by models.draft_model, is not there"),
            )
            .hint(format!("pull or add {draft}, or take it out of models.draft_model"))),
        }
    }

    /// Marks a model as wanted, unless it is on its way already.
    pub(super) fn want(&mut self, name: &str, now: Instant) {
        if let Some(model) = self.models.get_mut(name)
            && matches!(model.phase, Phase::Absent | Phase::Failed(..))
        {
            model.phase = Phase::Wanted(now);
            self.settle();
        }
    }

    /// Acts on what residency decides about every wanted model, the longest waiting first. One that nobody waits for any more
    /// takes no memory from others.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        for model in self.models.values_mut().filter(|model| !model.is_awaited()) {
            if let Phase::Wanted(_) | Phase::Backoff(_) = model.phase {
                model.phase = Phase::Absent;
            }
        }
        let mut wanted: Vec<(Instant, String)> = self
            .models
            .iter()
            .filter_map(|(name, model)| match model.phase {
                Phase::Wanted(since) => Some((since, name.clone())),
                _ => None,
            })
            .collect();
        wanted.sort();
        let mut promised = Vec::new();
        for (_, name) in wanted {
            match self.decide(&name, &promised, now) {
                Decision::Load { kv } => self.spawn(&name, kv, now),
                Decision::Evict(names) => names.iter().for_each(|evicted| {
                    tracing::info!(model = %evicted, wanted = %name, "evicting");
                    self.leave(evicted, now);
                }),
                Decision::Wait => {}
                Decision::Refuse(shortage) => self.fail(&name, no_memory(&name, &shortage), now),
            }
            promised.extend(self.promise(&name, now));
        }
    }

    /// Starts a worker that loads the model.
    fn spawn(&mut self, name: &str, kv: u64, now: Instant) {
        let draft = match self.draft_of(name) {
            Ok(draft) => draft.cloned(),
            Err(error) => return self.fail(name, error, now),
        };
        let Some(model) = self.models.get_mut(name) else { return };
        self.workers += 1;
        let config = &self.setting.config;
        let facts = &model.record().facts;
        let threads = place(&self.setting.machine, facts, config.worker.threads).threads;
        let open = Open {
            path: model.record().path.clone(),
            name: name.to_owned(),
            threads,
            kv_bytes: kv,
            keep: config.memory.kv,
            sequences_max: config.worker.sequences_max,
            waiting_max: config.worker.waiting_max,
            prefill_tokens_max: config.worker.prefill_tokens_max,
            step_ms: u32::try_from(config.worker.step.as_millis()).unwrap_or(u32::MAX),
            draft: draft.as_ref().map(|draft| draft.path.clone()),
            draft_tokens_max: config.worker.draft_tokens_max,
            shelf: (config.cache.disk > 0).then(|| pipe::Shelf {
                dir: self.setting.prefixes.to_string_lossy().into_owned(),
                model: prefixes::name(&model.record().path),
                bytes_max: config.cache.disk,
                day_bytes_max: config.cache.disk_per_day,
                key: self.setting.prefix_key.clone(),
            }),
            warm_up: config.models.warm_up,
        };
        let of_draft = draft.map_or(0, |draft| draft.facts.weights_in_memory());
        let bytes = facts.weights_in_memory() + of_draft + kv + config.memory.overhead;
        let start = Start {
            program: &self.setting.program,
            model: Arc::from(name),
            worker: self.workers,
            // A submission and a cancellation for everything that can be active, and every question.
            inbox_max: 2 * config.requests.active_max + QUESTIONS_MAX + 16,
        };
        match Process::start(&start, self.reports.clone()) {
            Ok(process) => {
                tracing::info!(model = %name, pid = process.pid(), threads, kv_bytes = kv, bytes, "loading");
                process.send(ToWorker::Open(open));
                model.phase = Phase::Loading(Worker {
                    number: self.workers,
                    process,
                    bytes,
                    kv_bytes: kv,
                    heard: now,
                    pulse: Default::default(),
                    ready: None,
                    works: Default::default(),
                    questions: Default::default(),
                    failure: None,
                    killed: None,
                });
            }
            Err(error) => {
                let message = format!("the worker program {} cannot be started: {error}", start.program.display());
                let hint = "install Impetus again, or set IMPETUS_WORKER to the program";
                self.fail(name, Error::internal(message).hint(hint), now);
            }
        }
    }

    /// Takes in what a worker process reports; reports of a predecessor are stale.
    pub(super) fn hear(&mut self, report: Report) {
        let now = Instant::now();
        let Some(model) = self.models.get_mut(&*report.model) else { return };
        let Some(worker) = model.worker_mut().filter(|worker| worker.number == report.worker) else { return };
        worker.heard = now;
        match report.what {
            What::Said(message) => match *message {
                FromWorker::Loading { done, total } => {
                    let progress = loading(&report.model, done, total);
                    model.tell_waiting(&Event::Progress(progress.clone()));
                    self.setting.newsroom.tell(Happening::Loading(progress));
                }
                FromWorker::Ready(ready) => self.ready(&report.model, ready, now),
                FromWorker::LoadFailed(error) => worker.failure = Some(error),
                FromWorker::Event(event) => self.event(&report.model, event, now),
                FromWorker::Pulse(pulse) => worker.pulse = pulse,
                FromWorker::Answer(id, answer) => self.answered(&report.model, id, answer),
            },
            What::Ended(how) => self.ended_worker(&report.model, &how, now),
        }
    }

    fn ready(&mut self, name: &str, ready: Ready, now: Instant) {
        let Some(model) = self.models.get_mut(name) else { return };
        let phase = std::mem::replace(&mut model.phase, Phase::Absent);
        let Phase::Loading(mut worker) = phase else {
            // It was told to leave while it loaded.
            model.phase = phase;
            return;
        };
        tracing::info!(model = %name, load_ms = ready.load_ms, device = %ready.device, "loaded");
        model.used = now;
        model.loads += 1;
        model.deaths.loaded();
        model.record_mut().facts = ready.facts.clone();
        worker.pulse = ready.pulse;
        worker.ready = Some(ready);
        model.waiting.drain(..).for_each(|work| worker.submit(work, now));
        model.loaders.drain(..).for_each(|transcript| transcript.finish(Finished::default()));
        model.phase = Phase::Loaded(worker);
        self.settle();
    }

    fn event(&mut self, name: &str, event: WorkEvent, now: Instant) {
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(worker) = model.worker_mut() else { return };
        let id = event.id;
        // Events of cancelled work may still be on their way.
        let Some(work) = worker.works.get_mut(&id) else { return };
        let over = matches!(event.event, Event::Finished(_) | Event::Failed(_));
        if work.take(event) {
            worker.works.remove(&id);
            if !over {
                // The transcript was ended by another hand, which the worker cannot know.
                worker.process.send(ToWorker::Cancel(id));
            }
            let idle = worker.works.is_empty();
            model.used = now;
            tracing::info!(request = id.0, model = %name, "generation ended");
            if idle {
                self.settle();
            }
        }
    }

    /// Ends a worker politely: it finishes what it has.
    pub(super) fn leave(&mut self, name: &str, now: Instant) {
        let Some(model) = self.models.get_mut(name) else { return };
        match std::mem::replace(&mut model.phase, Phase::Absent) {
            Phase::Loaded(mut worker) => {
                worker.process.send(ToWorker::Drain);
                worker.heard = now;
                model.phase = Phase::Leaving(worker);
            }
            Phase::Loading(mut worker) => {
                worker.kill("it was no longer wanted".to_owned());
                model.phase = Phase::Leaving(worker);
            }
            other => model.phase = other,
        }
    }

    /// Ends a load that its caller gave up, unless somebody else waits for it.
    pub(super) fn abort_load(&mut self, name: &str) {
        let Some(model) = self.models.get_mut(name) else { return };
        if !model.loaders.is_empty() || !model.waiting.is_empty() || model.preloaded {
            return;
        }
        match model.phase {
            Phase::Wanted(_) | Phase::Backoff(_) => model.phase = Phase::Absent,
            Phase::Loading(_) => self.leave(name, Instant::now()),
            _ => {}
        }
    }

    pub(super) fn may_load(&self, model: &str) -> Result<()> {
        if self.draining.is_some() {
            return Err(Error::new(ErrorKind::Closing, "the daemon is shutting down"));
        }
        self.known(model)?;
        match self.decide(model, &[], Instant::now()) {
            Decision::Refuse(shortage) => Err(no_memory(model, &shortage)),
            _ => Ok(()),
        }
    }

    /// Says whether the model was not in memory, nor on its way there.
    pub(super) fn load(&mut self, transcript: Arc<Transcript>, request: &LoadRequest) -> Result<bool> {
        self.may_load(&request.model)?;
        let now = Instant::now();
        let keep_alive = self.setting.config.models.keep_alive;
        let Some(model) = self.models.get_mut(&request.model) else { return Ok(false) };
        if model.loaders.len() >= LOADERS_MAX {
            let message = format!("{} callers wait for {} already", model.loaders.len(), request.model);
            return Err(Error::new(ErrorKind::Busy, message).retry_after_ms(1_000));
        }
        if let Some(pin) = request.pin {
            model.record_mut().pinned = pin;
        }
        let ends = |ms: &u64| *ms != u64::MAX;
        let absent = matches!(model.phase, Phase::Absent | Phase::Failed(..));
        model.keep_alive = match request.keep_alive_ms {
            Some(ms) => Some(ms).filter(ends).map(std::time::Duration::from_millis),
            None if absent => keep_alive,
            None => model.keep_alive,
        };
        model.used = now;
        if let Phase::Loaded(_) = model.phase {
            transcript.finish(Finished::default());
            return Ok(false);
        }
        model.loaders.push(transcript);
        self.want(&request.model, now);
        Ok(absent)
    }

    pub(super) fn unload(&mut self, name: &str, reply: oneshot::Sender<Result<()>>) {
        if let Err(error) = self.may_unload(name) {
            // A caller that is gone needs no answer.
            return drop(reply.send(Err(error)));
        }
        if let Some(model) = self.models.get_mut(name) {
            let unloaded = || Error::new(ErrorKind::Cancelled, format!("{name} was unloaded before it was in memory"));
            model.loaders.drain(..).for_each(|transcript| transcript.fail(unloaded()));
        }
        self.abort_load(name);
        self.leave(name, Instant::now());
        match self.models.get_mut(name).filter(|model| model.worker().is_some()) {
            Some(model) => model.leavers.push(reply),
            None => drop(reply.send(Ok(()))),
        }
    }

    fn may_unload(&self, name: &str) -> Result<()> {
        let model = self.known(name)?;
        if model.preloaded {
            let message = format!("{name} is preloaded by the configuration, and so stays in memory");
            return Err(Error::new(ErrorKind::Conflict, message).hint("take it out of models.preload and restart"));
        }
        let coming = matches!(model.phase, Phase::Wanted(_) | Phase::Backoff(_) | Phase::Loading(_));
        if coming && !model.waiting.is_empty() {
            let message = format!("requests wait for {name} to load: {}", model.waiting.len());
            return Err(Error::new(ErrorKind::Conflict, message).hint("let them end, or cancel them"));
        }
        Ok(())
    }
}

fn loading(model: &str, done: u64, total: u64) -> Progress {
    let subject = model.to_owned();
    Progress { stage: Stage::Loading, subject, done, total: Some(total), unit: Unit::Bytes }
}
