//! What follows the end of a worker: nothing if it was asked for, else a restart after a while with its unfinished
//! work, or the end of all patience with the model. How often is enough is decided by [`Deaths`], which is pure.
//! Called by `supervisor` when a process reports its end.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::transcript::Event;
use protocol::{Error, ErrorKind};
use tokio::time::Instant;

use super::model::{Model, Phase, Worker};
use super::{FAILED_FOR, State};
use crate::config;

/// The deaths of one model's workers that still count.
#[derive(Debug, Default)]
pub struct Deaths {
    at: VecDeque<Instant>,
    /// Deaths in a row while the model was loaded: one that takes long to die would fit into no window.
    loading: usize,
}

/// What follows a death.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after this long.
    Restart(Duration),
    /// It died so often that something is wrong that a restart does not mend.
    GiveUp(String),
}

impl Deaths {
    /// Counts a death and decides what follows.
    pub fn count(&mut self, loading: bool, now: Instant, config: &config::Worker) -> Verdict {
        self.loading += usize::from(loading);
        self.at.push_back(now);
        self.at.retain(|at| now.saturating_duration_since(*at) <= config.restart_window);
        let (recent, loads) = (self.at.len(), self.loading);
        if recent > config.restarts_max || loads > config.restarts_max {
            *self = Self::default();
            return Verdict::GiveUp(match loads > config.restarts_max {
                true => format!("{loads} times in a row while it loaded"),
                false => format!("{recent} times within {} s", config.restart_window.as_secs()),
            });
        }
        let doublings = u32::try_from(recent - 1).unwrap_or(u32::MAX).min(16);
        Verdict::Restart(config.backoff.saturating_mul(1 << doublings).min(config.backoff_max))
    }

    /// Notes that the model was loaded.
    pub fn loaded(&mut self) {
        self.loading = 0;
    }
}

impl State {
    /// Decides what follows the end of a worker process.
    pub(super) fn ended_worker(&mut self, name: &str, how: &str, now: Instant) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.past = model.measures().measures;
        match std::mem::replace(&mut model.phase, Phase::Absent) {
            Phase::Loading(Worker { failure: Some(error), .. }) => self.fail(name, error, now),
            Phase::Leaving(worker) => {
                tracing::info!(model = %name, "unloaded");
                model.leavers.drain(..).for_each(|leaver| drop(leaver.send(Ok(()))));
                requeue(model, worker, u32::MAX, how);
                if !model.waiting.is_empty() || !model.loaders.is_empty() {
                    model.phase = Phase::Wanted(now);
                }
                self.settle();
            }
            Phase::Loading(worker) => self.died(name, worker, true, how, now),
            Phase::Loaded(worker) => self.died(name, worker, false, how, now),
            other => model.phase = other,
        }
    }

    fn died(&mut self, name: &str, worker: Worker, loading: bool, how: &str, now: Instant) {
        let how = worker.killed.clone().unwrap_or_else(|| how.to_owned());
        let config = &self.setting.config.worker;
        let Some(model) = self.models.get_mut(name) else { return };
        let verdict = model.deaths.count(loading, now, config);
        model.died += 1;
        tracing::warn!(model = %name, pid = worker.process.pid(), works = worker.works.len(), ?verdict, "worker died: {how}");
        requeue(model, worker, config.resubmits_max, &how);
        let wanted = model.is_awaited();
        match verdict {
            Verdict::Restart(after) if wanted => model.phase = Phase::Backoff(now + after),
            Verdict::Restart(_) => self.settle(),
            Verdict::GiveUp(deaths) => {
                let message = format!("the worker of {name} died {deaths}; at last {how}");
                let hint = "see the cause with `impetusctl logs`, then `impetusctl load` tries again";
                self.fail(name, Error::new(ErrorKind::ModelNotLoaded, message).hint(hint), now);
            }
        }
    }

    /// Gives a model up for now: everybody who waits for it is told why.
    pub(super) fn fail(&mut self, name: &str, error: Error, now: Instant) {
        let Some(model) = self.models.get_mut(name) else { return };
        tracing::error!(model = %name, kind = ?error.kind, "not loaded: {}", error.message);
        model.tell_waiting(&Event::Failed(error.clone()));
        model.waiting.clear();
        model.loaders.clear();
        model.leavers.drain(..).for_each(|leaver| drop(leaver.send(Ok(()))));
        model.phase = Phase::Failed(error, now + FAILED_FOR);
        self.settle();
    }
}

/// Puts a dead worker's requests back in line, before those that came later; ones that were there too often fail.
fn requeue(model: &mut Model, worker: Worker, deaths_max: u32, how: &str) {
    for mut work in worker.works.into_values().rev() {
        match work.outlives(deaths_max) {
            Ok(()) => model.waiting.push_front(work),
            Err(deaths) => {
                let message = format!("the worker died {deaths} times while it answered this request; at last {how}");
                work.transcript.fail(Error::internal(message).hint("see the cause with `impetusctl logs`"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_longer_each_time_until_the_model_is_given_up() {
        let config = config::Config::testing("/nowhere".as_ref()).worker;
        let start = Instant::now();
        let mut deaths = Deaths::default();
        let verdicts: Vec<Verdict> =
            (0..6).map(|second| deaths.count(false, start + Duration::from_secs(second), &config)).collect();
        let waits = [100, 200, 400, 800, 1600].map(|ms| Verdict::Restart(Duration::from_millis(ms)));
        assert_eq!(verdicts[..5], waits);
        assert_eq!(verdicts[5], Verdict::GiveUp("6 times within 60 s".to_owned()));
        // A model that was given up starts with a clean slate.
        assert_eq!(deaths.count(false, start + Duration::from_secs(7), &config), Verdict::Restart(config.backoff));
    }

    #[test]
    fn deaths_that_lie_far_apart_are_forgiven() {
        let config = config::Config::testing("/nowhere".as_ref()).worker;
        let start = Instant::now();
        let mut deaths = Deaths::default();
        for minute in 0..100 {
            let verdict = deaths.count(false, start + Duration::from_secs(61 * minute), &config);
            assert_eq!(verdict, Verdict::Restart(config.backoff));
        }
    }

    #[test]
    fn a_model_that_dies_slowly_whenever_it_is_loaded_is_given_up() {
        let config = config::Config::testing("/nowhere".as_ref()).worker;
        let start = Instant::now();
        let mut deaths = Deaths::default();
        let mut slowly = |load: u32| deaths.count(true, start + config.load_silence * load, &config);
        assert!((0..5).all(|load| slowly(load) == Verdict::Restart(config.backoff)));
        assert_eq!(slowly(5), Verdict::GiveUp("6 times in a row while it loaded".to_owned()));
        assert!((6..11).all(|load| slowly(load) == Verdict::Restart(config.backoff)), "a clean slate");
        deaths.loaded();
        assert_eq!(deaths.count(true, start + config.load_silence * 12, &config), Verdict::Restart(config.backoff));
    }
}
