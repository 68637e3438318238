//! The owner of all models and their workers: one task, no locks. Commands and reports flow in, messages to workers
//! and transcript events flow out; every decision is taken here, where the state is. It reads no client and no
//! database. `service` asks it through a [`Supervisor`] handle; `residency`, `placement` and `admission` advise it.

mod ask;
mod clock;
mod configure;
mod encode;
mod lifecycle;
mod model;
mod process;
mod recovery;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::generation::GenerateRequest;
use protocol::measures::ModelMeasures;
use protocol::model::{LoadRequest, ModelCard, Source};
use protocol::news::Happening;
use protocol::trace::TraceParent;
use protocol::transcript::TranscriptId;
use protocol::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::admission::{self, Limits, Occupancy, Whole};
use crate::config::Config;
use crate::news::Newsroom;
use crate::placement;
use crate::random;
use crate::residency::{Decision, Resident};
use crate::time::milliseconds;
use crate::transcript::Transcript;
use model::{Model, Phase};
use process::Report;
use work::{Generation, Task, Work};

pub use ask::Asked;

/// Commands that may wait: more than one a connection means that the loop is stuck.
const COMMANDS_MAX: usize = 1024;
/// Reports that may wait; a full channel slows the workers down, not the daemon.
const REPORTS_MAX: usize = 4096;
/// Reports taken in before commands get their turn.
const REPORTS_AT_ONCE: usize = 64;
/// How often deadlines are looked at while something goes on, and while models only wait to be used.
const TICK_BUSY: Duration = Duration::from_millis(50);
const TICK_IDLE: Duration = Duration::from_secs(1);
/// How long a failed model refuses requests without another try.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// What the supervisor is told about the machine and the installation.
#[derive(Debug)]
pub struct Setting {
    /// The configuration.
    pub config: Config,
    /// What memory they may have.
    pub pools: Pools,
    /// The cores.
    pub machine: placement::Machine,
    /// The worker program.
    pub program: PathBuf,
    /// The folder of prefixes that workers put away.
    pub prefixes: PathBuf,
    /// What those are sealed with, if they are.
    pub prefix_key: Option<pipe::ShelfKey>,
    /// Where it is told what becomes of models.
    pub newsroom: Newsroom,
}

/// How much memory models may have, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pools {
    /// All models together.
    pub budget: u64,
    /// The KV cache of one model.
    pub kv_max: u64,
}

impl Pools {
    /// What the configuration means on a machine with `total` bytes.
    pub fn of(config: &Config, total: u64) -> Self {
        Self { budget: config.memory.budget.of(total), kv_max: config.memory.kv_max.of(total) }
    }
}

/// Who asks for something.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Requests of one client share its turns.
    pub client: u64,
    /// Requests of one salt may reuse each other's prefixes.
    pub salt: u64,
    /// Whose share of the places is bounded; `None` where it is not.
    pub holder: Option<u64>,
    /// How many tokens prompt and answers may take together; `None` sets no limit.
    pub tokens: Option<u64>,
    /// Where the request stands in a trace.
    pub trace: Option<TraceParent>,
}

/// How the models are, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// All models, by name.
    pub models: Vec<ModelCard>,
    /// The one that requests without a name get.
    pub default: Option<String>,
    /// Bytes that models are accounted with.
    pub bytes: u64,
    /// Bytes that they may take.
    pub budget: u64,
}

/// A question to the supervisor, or an order.
#[derive(Debug)]
enum Command {
    Begin(Arc<Transcript>, Box<GenerateRequest>, Asker, oneshot::Sender<Result<()>>),
    Encode(Arc<Transcript>, Box<Whole>, Asker, oneshot::Sender<Result<()>>),
    Cancel(TranscriptId),
    MayLoad(String, oneshot::Sender<Result<()>>),
    Load(Arc<Transcript>, LoadRequest, oneshot::Sender<Result<bool>>),
    Unload(String, oneshot::Sender<Result<()>>),
    MayRegister(String, String, Source, oneshot::Sender<Result<()>>),
    Register(Box<ModelCard>, oneshot::Sender<Result<()>>),
    Remove(String, oneshot::Sender<Result<ModelCard>>),
    Look(oneshot::Sender<Snapshot>),
    Drain(Instant),
    Measure(oneshot::Sender<Vec<ModelMeasures>>),
    Configure(Box<Config>, Pools, oneshot::Sender<()>),
    Ask(Option<String>, Box<pipe::Question>, oneshot::Sender<Result<Asked>>),
}

/// A handle to the supervisor.
#[derive(Clone, Debug)]
pub struct Supervisor {
    commands: mpsc::Sender<Command>,
}

impl Supervisor {
    /// Starts a supervisor that knows `models`; the task ends after `drain`, when the last worker is gone.
    pub fn start(setting: Setting, models: Vec<ModelCard>) -> (Self, tokio::task::JoinHandle<()>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (reports, outbox) = mpsc::channel(REPORTS_MAX);
        let state = State::new(setting, models, reports);
        (Self { commands }, tokio::spawn(state.run(inbox, outbox)))
    }

    /// Admits a generation of a client; its events go to `transcript`.
    pub async fn begin(&self, transcript: Arc<Transcript>, request: GenerateRequest, asker: Asker) -> Result<()> {
        self.ask(|reply| Command::Begin(transcript, Box::new(request), asker, reply)).await?
    }

    /// Admits texts to be read whole; their results go to `transcript`.
    pub async fn encode(&self, transcript: Arc<Transcript>, request: Whole, asker: Asker) -> Result<()> {
        self.ask(|reply| Command::Encode(transcript, Box::new(request), asker, reply)).await?
    }

    /// Ends the work of a transcript, if it goes on.
    pub async fn cancel(&self, id: TranscriptId) {
        // Fails only when the supervisor has ended, and all work with it.
        let _ = self.commands.send(Command::Cancel(id)).await;
    }

    /// Says whether a model could be brought into memory now, and why not.
    pub async fn may_load(&self, model: String) -> Result<()> {
        self.ask(|reply| Command::MayLoad(model, reply)).await?
    }

    /// Brings a model into memory; `transcript` follows it. False if it was there already, or on its way.
    pub async fn load(&self, transcript: Arc<Transcript>, request: LoadRequest) -> Result<bool> {
        self.ask(|reply| Command::Load(transcript, request, reply)).await?
    }

    /// Takes a model out of memory; returns when it is out.
    pub async fn unload(&self, model: String) -> Result<()> {
        self.ask(|reply| Command::Unload(model, reply)).await?
    }

    /// Says whether `register` would take a model of this name, folder and origin, and why not.
    pub async fn may_register(&self, name: String, path: String, source: Source) -> Result<()> {
        self.ask(|reply| Command::MayRegister(name, path, source, reply)).await?
    }

    /// Makes a model known, or known better; one in memory keeps its worker.
    pub async fn register(&self, card: ModelCard) -> Result<()> {
        self.ask(|reply| Command::Register(Box::new(card), reply)).await?
    }

    /// Forgets a model that is not in memory, and returns what was known of it.
    pub async fn remove(&self, model: String) -> Result<ModelCard> {
        self.ask(|reply| Command::Remove(model, reply)).await?
    }

    /// Returns how the models are.
    pub async fn look(&self) -> Result<Snapshot> {
        self.ask(Command::Look).await
    }

    /// Returns what the workers of all models counted, by model.
    pub async fn measures(&self) -> Result<Vec<ModelMeasures>> {
        self.ask(Command::Measure).await
    }

    /// Puts another configuration in force; what only a load reads holds for the loads to come.
    pub async fn configure(&self, config: Config, pools: Pools) -> Result<()> {
        self.ask(|reply| Command::Configure(Box::new(config), pools, reply)).await
    }

    /// Asks the text side of a model, which must be in memory for it.
    pub async fn question(&self, model: Option<String>, question: pipe::Question) -> Result<Asked> {
        self.ask(|reply| Command::Ask(model, Box::new(question), reply)).await?
    }

    /// Takes no more work, and cancels at `deadline` what then still runs.
    pub async fn drain(&self, deadline: Instant) {
        // Fails only when it has ended already.
        let _ = self.commands.send(Command::Drain(deadline)).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let closing = || Error::new(ErrorKind::Closing, "the daemon is shutting down");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())
    }
}

/// Everything the supervisor knows.
struct State {
    setting: Setting,
    models: BTreeMap<String, Model>,
    reports: mpsc::Sender<Report>,
    /// Time zero of the pure functions' milliseconds.
    started: Instant,
    /// When deadlines were last looked at.
    ticked: Instant,
    /// Counts worker processes.
    workers: u64,
    /// Counts questions.
    questions: u64,
    /// Since when, and until when, no more work is taken.
    draining: Option<Instant>,
}

impl State {
    fn new(setting: Setting, cards: Vec<ModelCard>, reports: mpsc::Sender<Report>) -> Self {
        let now = Instant::now();
        let models = BTreeMap::new();
        let mut state =
            Self { setting, models, reports, started: now, ticked: now, workers: 0, questions: 0, draining: None };
        cards.into_iter().for_each(|card| state.insert(card));
        state
    }

    fn insert(&mut self, card: ModelCard) {
        let models = &self.setting.config.models;
        let preloaded = models.preload.contains(&card.name);
        let name = card.name.clone();
        let mut model = Model::new(card, models.keep_alive, preloaded, Instant::now());
        if preloaded {
            model.phase = Phase::Wanted(Instant::now());
        }
        self.models.insert(name, model);
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut outbox: mpsc::Receiver<Report>) {
        self.settle();
        let mut reports = Vec::with_capacity(REPORTS_AT_ONCE);
        while !self.ended() {
            let tick = self.period().map(|period| self.ticked + period);
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    // Every handle is gone: nobody can ask for anything any more.
                    None => return,
                },
                _ = outbox.recv_many(&mut reports, REPORTS_AT_ONCE) => {
                    reports.drain(..).for_each(|report| self.hear(report));
                }
                () = tokio::time::sleep_until(tick.unwrap_or(self.ticked)), if tick.is_some() => self.tick(),
            }
            self.announce();
        }
    }

    /// How often time matters now; `None` if it does not.
    fn period(&self) -> Option<Duration> {
        let busy = |model: &Model| match model.phase {
            Phase::Absent | Phase::Failed(..) => false,
            Phase::Loaded(_) => model.active() > 0,
            _ => true,
        };
        if self.draining.is_some() || self.models.values().any(busy) {
            return Some(TICK_BUSY);
        }
        self.models.values().any(|model| model.worker().is_some()).then_some(TICK_IDLE)
    }

    /// Whether it was told to end, and has.
    fn ended(&self) -> bool {
        self.draining.is_some() && self.models.values().all(|model| model.worker().is_none() && model.active() == 0)
    }

    fn obey(&mut self, command: Command) {
        // A caller that is gone needs no answer; what it began, its session cancels.
        match command {
            Command::Begin(transcript, request, asker, reply) => {
                drop(reply.send(self.begin(transcript, *request, asker)));
            }
            Command::Encode(transcript, request, asker, reply) => {
                drop(reply.send(self.encode(transcript, *request, asker)));
            }
            Command::Cancel(id) => self.cancel(id),
            Command::MayLoad(model, reply) => drop(reply.send(self.may_load(&model))),
            Command::Load(transcript, request, reply) => drop(reply.send(self.load(transcript, &request))),
            Command::Unload(model, reply) => self.unload(&model, reply),
            Command::MayRegister(name, path, source, reply) => {
                drop(reply.send(self.may_register(&name, &path, &source)));
            }
            Command::Register(card, reply) => drop(reply.send(self.register(*card))),
            Command::Remove(model, reply) => drop(reply.send(self.remove(&model))),
            Command::Look(reply) => drop(reply.send(self.look())),
            Command::Measure(reply) => drop(reply.send(self.models.values().map(Model::measures).collect())),
            Command::Configure(config, pools, reply) => {
                self.configure(*config, pools);
                let _ = reply.send(());
            }
            Command::Ask(model, question, reply) => self.put(model.as_deref(), *question, reply),
            Command::Drain(deadline) => {
                self.draining = Some(self.draining.map_or(deadline, |before| before.min(deadline)));
            }
        }
    }

    fn begin(&mut self, transcript: Arc<Transcript>, request: GenerateRequest, asker: Asker) -> Result<()> {
        let limits = self.limits();
        admission::room(&self.occupancy(asker.holder), &limits)?;
        let time = admission::check(&request, &limits)?;
        let name = self.resolve(request.model.as_deref())?.to_owned();
        let model = self.known(&name)?;
        admission::suits(&request, &name, &model.record().facts)?;
        self.refuse_hopeless(&name)?;
        let unseeded = |error| Error::internal(format!("the system gives no random numbers: {error}"));
        let seed = request.sampling.seed.map_or_else(random::seed, Ok).map_err(unseeded)?;
        let now = Instant::now();
        let (id, choices, trace) =
            (transcript.id().0, request.choices, asker.trace.map(|place| place.trace.to_string()));
        tracing::info!(request = id, model = %name, choices, trace, "generation begins");
        let asker = Asker { salt: if self.setting.config.cache.shared { 0 } else { asker.salt }, ..asker };
        let task = Task::Generate(Box::new(Generation::new(request, asker, seed)));
        self.enqueue(&name, Work::new(transcript, task, now + time, &asker), now);
        Ok(())
    }

    /// What one request may ask for.
    fn limits(&self) -> Limits {
        let requests = &self.setting.config.requests;
        Limits { choices_max: requests.choices_max, deadline: requests.deadline, active_max: requests.active_max }
    }

    /// How full the daemon is, for whoever asks.
    fn occupancy(&self, holder: Option<u64>) -> Occupancy {
        let works = || self.models.values().flat_map(Model::works);
        Occupancy {
            active: self.models.values().map(Model::active).sum(),
            bytes: works().map(|work| work.bytes).sum(),
            held: holder.map(|_| works().filter(|work| work.holder == holder).count()),
            draining: self.draining.is_some(),
        }
    }

    /// Finds the model that a request for text means; without a name, only models that generate are meant.
    fn resolve(&self, asked: Option<&str>) -> Result<&str> {
        let generates = |(_, model): &(&String, &Model)| model.record().facts.capabilities.generates();
        let meant = self.models.iter().filter(|entry| asked.is_some() || generates(entry));
        admission::resolve(asked, &self.setting.config.models.default, meant.map(|(name, _)| name.as_str()))
    }

    /// Refuses at once what waiting would not mend.
    fn refuse_hopeless(&self, name: &str) -> Result<()> {
        let model = self.known(name)?;
        match &model.phase {
            Phase::Failed(error, until) if Instant::now() < *until => {
                let error = Error { kind: ErrorKind::ModelNotLoaded, ..error.clone() };
                Err(error.retry_after_ms(milliseconds(FAILED_FOR)))
            }
            Phase::Absent | Phase::Failed(..) => match self.decide(name, &[], Instant::now()) {
                Decision::Refuse(shortage) => Err(lifecycle::no_memory(name, &shortage)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn enqueue(&mut self, name: &str, work: Work, now: Instant) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.used = now;
        if let Phase::Loaded(worker) = &mut model.phase {
            worker.submit(work, now);
            return;
        }
        work.say_queued(name);
        model.waiting.push_back(work);
        self.want(name, now);
    }

    fn cancel(&mut self, id: TranscriptId) {
        let work_id = pipe::WorkId(id.0);
        let mut aborted = None;
        for (name, model) in &mut self.models {
            if let Some(index) = model.waiting.iter().position(|work| work.id == work_id) {
                model.waiting.remove(index).iter().for_each(Work::cancel);
            }
            if let Some(work) = model.worker_mut().and_then(|worker| {
                let work = worker.works.remove(&work_id)?;
                worker.process.send(pipe::ToWorker::Cancel(work_id));
                Some(work)
            }) {
                work.cancel();
                model.used = Instant::now();
                tracing::info!(request = id.0, model = %name, "generation cancelled");
            }
            if let Some(index) = model.loaders.iter().position(|transcript| transcript.id() == id) {
                let transcript = model.loaders.remove(index);
                transcript.fail(Error::new(ErrorKind::Cancelled, "the load was cancelled"));
                aborted = Some(name.clone());
            }
        }
        if let Some(name) = aborted {
            self.abort_load(&name);
        }
        self.settle();
    }

    fn may_register(&self, name: &str, path: &str, source: &Source) -> Result<()> {
        match self.models.get(name) {
            Some(model) if !model.may_become(path, source) => {
                let message = format!("the name {name:?} is taken by {}", model.record().path);
                let hint = "give another name, or remove that model first";
                Err(Error::new(ErrorKind::Conflict, message).param("name").hint(hint))
            }
            _ => Ok(()),
        }
    }

    fn register(&mut self, card: ModelCard) -> Result<()> {
        self.may_register(&card.name, &card.path, &card.source)?;
        match self.models.get_mut(&card.name) {
            None => self.insert(card),
            Some(model) => {
                let pinned = model.record().pinned;
                *model.record_mut() = ModelCard { pinned, ..card };
                if let Phase::Failed(..) = model.phase {
                    model.phase = Phase::Absent;
                }
            }
        }
        self.settle();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<ModelCard> {
        let model = self.known(name)?;
        if !matches!(model.phase, Phase::Absent | Phase::Failed(..)) {
            let worker = if model.worker().is_some() { ", and a worker in memory" } else { "" };
            let message = format!("{name} is in use: {} requests{worker}", model.active());
            return Err(Error::new(ErrorKind::Conflict, message).hint("unload it first, and let its work end"));
        }
        let card = model.card(Instant::now());
        self.models.remove(name);
        self.setting.newsroom.tell(Happening::Forgotten(name.to_owned()));
        Ok(card)
    }

    fn look(&self) -> Snapshot {
        let now = Instant::now();
        let default = self.resolve(None).ok().map(str::to_owned);
        let models = self.models.values().map(|model| model.card(now)).collect();
        let bytes = self.residents(None).iter().map(|resident| resident.bytes).sum();
        Snapshot { models, default, bytes, budget: self.setting.pools.budget }
    }

    fn known(&self, name: &str) -> Result<&Model> {
        let names = || self.models.keys().map(String::as_str);
        self.models.get(name).ok_or_else(|| admission::unknown_model(name, names()))
    }

    /// What has a worker, except one.
    fn residents(&self, except: Option<&str>) -> Vec<Resident> {
        let others = self.models.iter().filter(|(name, _)| Some(name.as_str()) != except);
        others.filter_map(|(_, model)| model.resident(self.started)).collect()
    }
}
