//! What time ends: requests past their deadline, workers that say nothing, models nobody uses, the drain itself.
//! Looked at on every tick of the supervisor; how often that is, `supervisor` knows.

use std::time::Duration;

use pipe::ToWorker;
use protocol::transcript::Event;
use protocol::{Error, ErrorKind};
use tokio::time::Instant;

use super::State;
use super::model::{Model, Phase, Worker};
use super::work::Work;
use crate::config;
use crate::residency;
use crate::time::milliseconds;

/// A look that comes this late was held up together with everything else: the machine slept, or the daemon was stopped.
const HELD_UP: Duration = Duration::from_secs(5);

impl State {
    /// Looks at everything that time ends.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        self.forgive(now);
        self.ticked = now;
        for (name, model) in &mut self.models {
            expire_works(model, now);
            watch(name, model, &self.setting.config.worker, now);
            if let Phase::Backoff(until) = model.phase
                && until <= now
            {
                model.phase = Phase::Wanted(now);
            }
        }
        let now_ms = milliseconds(now.saturating_duration_since(self.started));
        for name in residency::expired(&self.residents(None), now_ms) {
            tracing::info!(model = %name, "unloading: it was idle");
            self.leave(&name, now);
        }
        self.settle();
        if let Some(deadline) = self.draining {
            self.drain(deadline <= now, now);
        }
    }

    /// Counts time in which nobody was heard, because nobody could be, against no worker.
    fn forgive(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.ticked);
        if late >= HELD_UP {
            for worker in self.models.values_mut().filter_map(Model::worker_mut) {
                worker.heard = (worker.heard + late).min(now);
            }
        }
    }

    /// Ends what is idle; and, once the time is `over`, what is not.
    fn drain(&mut self, over: bool, now: Instant) {
        let closing =
            || Error::new(ErrorKind::Closing, "the daemon is shutting down").hint("ask again once it is back");
        let names: Vec<String> = self.models.keys().cloned().collect();
        for name in names {
            let Some(model) = self.models.get_mut(&name) else { continue };
            if over {
                model.tell_waiting(&Event::Failed(closing()));
                model.waiting.clear();
                model.loaders.clear();
                if let Some(worker) = model.worker_mut() {
                    for (id, work) in std::mem::take(&mut worker.works) {
                        work.transcript.fail(closing());
                        // It goes on to put away what it has read, which a killed one could not.
                        worker.process.send(ToWorker::Cancel(id));
                    }
                }
            }
            if model.active() == 0 && model.loaders.is_empty() {
                match model.phase {
                    Phase::Wanted(_) | Phase::Backoff(_) => model.phase = Phase::Absent,
                    _ => self.leave(&name, now),
                }
            }
        }
    }
}

/// Ends the requests whose time is over.
fn expire_works(model: &mut Model, now: Instant) {
    let late = |work: &Work| work.deadline <= now;
    model.waiting.retain(|work| {
        if late(work) {
            work.expire("while it waited for the model to load");
        }
        !late(work)
    });
    let Some(Worker { works, process, .. }) = model.worker_mut() else { return };
    let mut expired = false;
    for (id, work) in works.extract_if(.., |_, work| late(work)) {
        process.send(ToWorker::Cancel(id));
        work.expire("while it was answered");
        expired = true;
    }
    if expired {
        model.used = now;
    }
}

/// Kills a worker that should have said something long ago.
fn watch(name: &str, model: &mut Model, config: &config::Worker, now: Instant) {
    let (limit, doing) = match &model.phase {
        Phase::Loading(_) => (config.load_silence, "while it loaded"),
        Phase::Leaving(worker) if worker.works.is_empty() => (config.exit_grace, "instead of exiting"),
        Phase::Loaded(worker) | Phase::Leaving(worker) if !worker.works.is_empty() => {
            (config.silence, "while it had work")
        }
        _ => return,
    };
    let Some(worker) = model.worker_mut() else { return };
    if now.saturating_duration_since(worker.heard) >= limit && worker.killed.is_none() {
        let why = format!("it said nothing for {} s {doing}, and was killed", limit.as_secs_f32());
        tracing::warn!(model = %name, pid = worker.process.pid(), "worker hangs: {why}");
        worker.kill(why);
    }
}
