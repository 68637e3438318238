//! Who goes first: one total order over sequences, and nothing else decides.
//!
//! A rank is the moment of arrival, later by ten seconds for each level of priority below `High`. Waiting sequences
//! are admitted in this order, running ones are preempted from its end. Since ranks of new arrivals grow with time,
//! every sequence is first one day: nothing starves, and equals are served first come, first served.

/// Who goes first when the machine is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Batch work.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Interactive work.
    High,
}

/// How many milliseconds of waiting one level of priority is worth.
pub const LEVEL_MS: u64 = 10_000;

/// A place in the order of service; the smaller goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    due_ms: u64,
    /// Breaks ties: the number of the arrival.
    order: u64,
}

impl Rank {
    /// The place of a sequence of `priority` that arrived at `now_ms` as number `order`.
    pub(crate) fn new(priority: Priority, now_ms: u64, order: u64) -> Self {
        let levels = Priority::High as u64 - priority as u64;
        Self { due_ms: now_ms.saturating_add(levels * LEVEL_MS), order }
    }
}
