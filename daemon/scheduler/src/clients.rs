//! Who waits, whose turn is next, and how much of the machine each client has had.
//!
//! A client is whoever sends requests: a key, a connection. Its sequences wait in one line per priority, and only the
//! first of a line competes with those of other clients: by level, then by how little service its client has had, then by
//! how few sequences it runs, then by arrival. So fifty requests of an agent do not stand before one of a chat, and
//! a line ages only while it is not served. Service is counted in tokens at what they cost; a newcomer starts at the mean of
//! those who are here, which moves on with every token, so nobody is overtaken for ever. It knows no blocks: `plan` admits.

use std::collections::BTreeMap;

use crate::policy::{Priority, level};
use crate::sequence::Sequence;

/// Names one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// Parts of a token in which service is counted, so that the mean of many clients moves too.
const PARTS: u64 = 1024;
/// Service is compared in steps of this many tokens; within one, other things decide.
pub(crate) const STEP: u64 = 512;
const QUANTUM: u64 = STEP * PARTS;
/// The most steps that a client can come to be behind the mean: what it did not ask for is not saved up. Who is further
/// ahead of another than that takes no place from it.
pub(crate) const CREDIT_STEPS: u64 = 8;
const CREDIT: u64 = CREDIT_STEPS * QUANTUM;

/// The sequences of one client that wait at one priority, oldest first.
#[derive(Default)]
struct Line {
    waiting: BTreeMap<u64, Sequence>,
    /// When one of them was last admitted.
    served_ms: u64,
}

#[derive(Default)]
struct Client {
    running: u32,
    service: u64,
    lines: [Line; 3],
}

impl Client {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.lines.iter().all(|line| line.waiting.is_empty())
    }
}

/// The first of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) client: ClientId,
    pub(crate) priority: Priority,
    pub(crate) order: u64,
    pub(crate) level: u8,
    /// How many sequences its client runs.
    pub(crate) running: u32,
    pub(crate) service: u64,
}

/// Every client that has a sequence here.
#[derive(Default)]
pub(crate) struct Clients {
    all: BTreeMap<ClientId, Client>,
    waiting: u32,
    /// Grows by each token's share of the clients that are here.
    mean: u64,
}

impl Clients {
    /// How many sequences wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Puts a sequence into its line, at the place of its arrival.
    pub(crate) fn wait(&mut self, sequence: Sequence) {
        let mean = self.mean;
        let client = self.all.entry(sequence.client).or_insert_with(|| Client { service: mean, ..Client::default() });
        client.lines[sequence.priority as usize].waiting.insert(sequence.order, sequence);
        self.waiting += 1;
    }

    /// A sequence that waits.
    pub(crate) fn waiting_at(&self, client: ClientId, priority: Priority, order: u64) -> Option<&Sequence> {
        self.all.get(&client)?.lines[priority as usize].waiting.get(&order)
    }

    /// The same, to be changed.
    pub(crate) fn waiting_at_mut(&mut self, client: ClientId, priority: Priority, order: u64) -> Option<&mut Sequence> {
        self.all.get_mut(&client)?.lines[priority as usize].waiting.get_mut(&order)
    }

    /// Whether any sequence that waits is such.
    pub(crate) fn any_waits(&self, such: impl Fn(&Sequence) -> bool) -> bool {
        self.all.values().flat_map(|client| &client.lines).any(|line| line.waiting.values().any(&such))
    }

    /// The sequences that wait for the prompt of another.
    pub(crate) fn twins_of<'a>(&'a self, leader: &'a Sequence) -> impl Iterator<Item = &'a Sequence> {
        let lines = self.all.get(&leader.client).map(|client| &client.lines[leader.priority as usize]);
        let waiting = lines.into_iter().flat_map(|line| line.waiting.values());
        waiting.filter(|sequence| sequence.twin == Some(leader.id) && sequence.tokens == leader.tokens)
    }

    /// Takes a sequence out of its line to run it.
    pub(crate) fn admit(&mut self, client: ClientId, priority: Priority, order: u64, now_ms: u64) -> Option<Sequence> {
        let entry = self.all.get_mut(&client)?;
        let line = &mut entry.lines[priority as usize];
        let mut sequence = line.waiting.remove(&order)?;
        sequence.aside = false;
        line.served_ms = line.served_ms.max(now_ms);
        entry.running += 1;
        self.waiting -= 1;
        Some(sequence)
    }

    /// Takes a sequence out of its line for good.
    pub(crate) fn withdraw(&mut self, client: ClientId, priority: Priority, order: u64) -> bool {
        let Some(entry) = self.all.get_mut(&client) else { return false };
        let removed = entry.lines[priority as usize].waiting.remove(&order).is_some();
        self.waiting -= u32::from(removed);
        self.forget_idle(client);
        removed
    }

    /// Notes that a sequence does not run any more; one that was preempted is put to wait first.
    pub(crate) fn left(&mut self, client: ClientId) {
        let entry = self.all.get_mut(&client).expect("a client with a running sequence is here");
        entry.running -= 1;
        self.forget_idle(client);
    }

    fn forget_idle(&mut self, client: ClientId) {
        if self.all.get(&client).is_some_and(Client::is_idle) {
            self.all.remove(&client);
        }
    }

    /// Counts tokens as service of a client that is here.
    pub(crate) fn charge(&mut self, client: ClientId, tokens: u32) {
        let parts = u64::from(tokens) * PARTS;
        self.mean += parts / self.all.len().max(1) as u64;
        if let Some(entry) = self.all.get_mut(&client) {
            entry.service = entry.service.max(self.mean.saturating_sub(CREDIT)) + parts;
        }
    }

    /// How much service a client has had, in coarse steps.
    pub(crate) fn service(&self, client: ClientId) -> u64 {
        let least = self.mean.saturating_sub(CREDIT);
        self.all.get(&client).map_or(0, |client| client.service.max(least) / QUANTUM)
    }

    /// The first eligible sequence of every line, in the order of their turns.
    pub(crate) fn heads(&self, now_ms: u64, eligible: impl Fn(&Sequence) -> bool) -> Vec<Head> {
        let mut heads = Vec::new();
        for (id, client) in &self.all {
            for (line, priority) in client.lines.iter().zip(Priority::ALL) {
                let Some(first) = line.waiting.values().find(|sequence| eligible(sequence)) else { continue };
                let since_ms = first.arrived_ms.max(line.served_ms);
                heads.push(Head {
                    client: *id,
                    priority,
                    order: first.order,
                    level: level(priority, since_ms, now_ms).max(first.level),
                    running: client.running,
                    service: self.service(*id),
                });
            }
        }
        heads.sort_unstable_by_key(|head| (std::cmp::Reverse(head.level), head.service, head.running, head.order));
        heads
    }

    /// Panics unless `running` says how many sequences of each client run, and nobody is remembered for nothing.
    #[cfg(test)]
    pub(crate) fn check(&self, running: &BTreeMap<ClientId, u32>) {
        let mut waiting = 0;
        for (id, client) in &self.all {
            assert_eq!(client.running, running.get(id).copied().unwrap_or(0), "running sequences of {id:?}");
            assert!(!client.is_idle(), "{id:?} is remembered for nothing");
            waiting += client.lines.iter().map(|line| line.waiting.len() as u32).sum::<u32>();
        }
        assert!(running.keys().all(|id| self.all.contains_key(id)), "who runs is known");
        assert_eq!(waiting, self.waiting, "waiting sequences are counted");
    }

    /// Every sequence that waits.
    #[cfg(test)]
    pub(crate) fn all_waiting(&self) -> impl Iterator<Item = &Sequence> {
        self.all.values().flat_map(|client| client.lines.iter().flat_map(|line| line.waiting.values()))
    }
}
