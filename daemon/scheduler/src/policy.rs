//! Who goes first: the level of a sequence, and its standing among those that run. Nothing here is stored.
//!
//! A level is the priority, one more for every ten seconds of waiting, and never above that of `High`: `Low` counts as
//! `Normal` after ten seconds and as `High` after twenty. The level that a sequence is admitted at stays with it, and grows
//! while its prompt is not read, so two sequences can never take turns at preempting each other. What age has made `High`
//! finds a place as `High` does, but is read beside `Normal`: a short prompt need not wait for all of a long one that had to
//! wait. `clients`, `plan` and `share` ask; time is an argument.

use std::cmp::Reverse;

/// Who goes first when the machine is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Batch work.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Interactive work.
    High,
}

impl Priority {
    /// Every priority.
    pub(crate) const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];
}

/// How many milliseconds of waiting one level of priority is worth.
pub const LEVEL_MS: u64 = 10_000;

/// The level of a sequence that has waited since `since_ms`.
pub fn level(priority: Priority, since_ms: u64, now_ms: u64) -> u8 {
    let aged = now_ms.saturating_sub(since_ms) / LEVEL_MS;
    aged.saturating_add(priority as u64).min(Priority::High as u64) as u8
}

/// Whose prompt is read first in a step: `High`, then what is `Normal` or counts so, then `Low`.
pub(crate) fn rank(priority: Priority, level: u8) -> u8 {
    if priority == Priority::High { level } else { level.min(Priority::Normal as u8) }
}

/// The place of a sequence among those that run; the smaller goes first, the greatest gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    level: Reverse<u8>,
    order: u64,
}

impl Standing {
    /// The standing of arrival number `order`, admitted at `level`.
    pub(crate) fn new(level: u8, order: u64) -> Self {
        Self { level: Reverse(level), order }
    }
}
