//! Which batches this bridge works on: it looks for those that nobody works on, when it starts and from time to time, and
//! takes a few. So a batch goes on after whichever end of a bridge or of the daemon.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::record::Collection;
use protocol::{ErrorKind, Result};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::object::OPEN;
use super::work::Work;
use crate::app::Bridge;
use crate::openai::files::kept::cards;

/// The most batches that one bridge works on at once.
const AT_ONCE: usize = 4;

/// How often to look, and how soon after something failed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(500);

/// The batches that this bridge works on.
#[derive(Default)]
pub struct Batches {
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By id; notified when somebody else changes the batch.
    running: HashMap<String, Arc<Notify>>,
    /// Those that cannot be worked on, and of which not even that could be written.
    given_up: HashSet<String>,
}

impl Batches {
    /// Has the bridge look at once, because a batch is new or was changed.
    pub fn look_at(&self, id: &str) {
        let mut state = self.lock();
        state.given_up.remove(id);
        if let Some(changed) = state.running.get(id) {
            changed.notify_one();
        }
        self.wake.notify_one();
    }

    /// Forgets those given up that are no longer open.
    fn forget_but(&self, open: &HashSet<&str>) {
        self.lock().given_up.retain(|id| open.contains(id.as_str()));
    }

    fn enter(&self, id: &str) -> Option<Arc<Notify>> {
        let mut state = self.lock();
        if state.running.len() >= AT_ONCE || state.running.contains_key(id) || state.given_up.contains(id) {
            return None;
        }
        let changed = Arc::new(Notify::new());
        state.running.insert(id.to_owned(), changed.clone());
        Some(changed)
    }

    fn leave(&self, id: &str, given_up: bool) {
        let mut state = self.lock();
        state.running.remove(id);
        if given_up {
            state.given_up.insert(id.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on batches for as long as the bridge runs; what it works on ends with it and is taken up again later.
pub async fn work_for_ever(bridge: Arc<Bridge>) {
    let mut works = JoinSet::new();
    loop {
        let pause = match look(&bridge, &mut works).await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                tracing::debug!(%error, "batches cannot be looked for");
                RETRY
            }
        };
        tokio::select! {
            () = bridge.batches.wake.notified() => {}
            Some(_) = works.join_next() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Begins to work on open batches, the oldest first, as far as there is room.
async fn look(bridge: &Arc<Bridge>, works: &mut JoinSet<()>) -> Result<()> {
    let cards = cards(&bridge.daemon.own().await?, Collection::Batches).await?;
    let open: Vec<&str> = cards.iter().rev().filter(|card| card.label == OPEN).map(|card| card.id.as_str()).collect();
    bridge.batches.forget_but(&open.iter().copied().collect());
    for id in open {
        if let Some(changed) = bridge.batches.enter(id) {
            works.spawn(work(bridge.clone(), id.to_owned(), changed));
        }
    }
    Ok(())
}

/// Works on a batch until it has ended, or is another's.
async fn work(bridge: Arc<Bridge>, id: String, changed: Arc<Notify>) {
    let given_up = loop {
        let worked = match Work::take(&bridge, &id).await {
            Ok(Some(work)) => work.run(&changed).await,
            Ok(None) => break false,
            Err(error) => Err(error),
        };
        match worked {
            Ok(()) => break false,
            // It was changed meanwhile, or the daemon is gone for now: what was written is still there.
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::Unreachable) => sleep(RETRY).await,
            Err(error) if error.kind == ErrorKind::NotFound => break false,
            Err(error) => {
                tracing::error!(%error, batch = id, "a batch cannot go on");
                break Work::fail(&bridge, &id, &error).await.is_err();
            }
        }
    };
    bridge.batches.leave(&id, given_up);
}
