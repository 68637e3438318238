//! What a model's worker has counted and timed since it started: whole numbers that only grow, fit for any monitor.
//!
//! The worker counts, the daemon passes on, clients subtract two readings. Nothing here is a rate or a mean.

use serde::{Deserialize, Serialize};

/// The upper ends of a histogram's buckets, in microseconds; one more bucket holds what is longer.
pub const BUCKETS_US: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// How often durations fell between which bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// By bucket of `BUCKETS_US`, and last what is longer; not cumulative.
    pub counts: [u64; 16],
    /// The sum of all durations, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, us: u64) {
        self.counts[BUCKETS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Counts everything that another one has counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper end of the bucket in which the given share of all durations is reached, in microseconds; `None` if
    /// nothing was counted or that bucket has no end.
    pub fn quantile_us(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        BUCKETS_US.get(reached?).copied()
    }
}

/// What one worker did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Requests that were taken in.
    pub requests: u64,
    /// Requests that were refused because too many waited.
    pub refused: u64,
    /// Tokens of the prompts that were begun.
    pub prompt_tokens: u64,
    /// How many of those came from the prefix cache.
    pub cached_tokens: u64,
    /// How many of those were brought back from disk for it.
    pub restored_tokens: u64,
    /// Tokens of prefixes that were put away on disk.
    pub stored_tokens: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Steps of the model.
    pub steps: u64,
    /// Sequences in all steps together; divided by `steps`, the mean width of a batch.
    pub rows: u64,
    /// Tokens that were guessed ahead.
    pub drafted: u64,
    /// How many of the guesses were right.
    pub accepted: u64,
    /// Sequences that gave way to others, and went on later.
    pub preemptions: u64,
    /// From a request's arrival to its first step.
    pub queue: Histogram,
    /// From a request's arrival to its first token.
    pub first_token: Histogram,
    /// Between two deliveries of one running answer.
    pub gap: Histogram,
}

impl Measures {
    /// Counts everything that another worker has counted.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.restored_tokens += other.restored_tokens;
        self.stored_tokens += other.stored_tokens;
        self.tokens += other.tokens;
        self.steps += other.steps;
        self.rows += other.rows;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.preemptions += other.preemptions;
        self.queue.add(&other.queue);
        self.first_token.add(&other.first_token);
        self.gap.add(&other.gap);
    }
}

/// What the daemon has counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// By model, whether it is in memory or not.
    pub models: Vec<ModelMeasures>,
    /// By verb, model, key and status: requests that ended.
    pub requests: Vec<RequestTally>,
    /// By verb, model and key: how long requests took that ended well.
    pub durations: Vec<RequestDurations>,
}

/// What all workers of one model did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelMeasures {
    /// The model.
    pub model: String,
    /// What its workers counted, the running one included.
    pub measures: Measures,
    /// How often it was brought into memory.
    pub loads: u64,
    /// How often its worker died.
    pub deaths: u64,
}

/// Requests that ended, and what they read and wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestTally {
    /// What was asked for, as in `generate`.
    pub verb: String,
    /// The model; empty where none was found.
    pub model: String,
    /// The key's id; empty for the socket, `other` once too many were counted apart.
    pub key: String,
    /// How they ended: `ok`, or the error's kind.
    pub status: String,
    /// How many.
    pub requests: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// How long requests took, from their arrival in the daemon to their end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestDurations {
    /// What was asked for.
    pub verb: String,
    /// The model.
    pub model: String,
    /// The key's id; empty for the socket, `other` once too many were counted apart.
    pub key: String,
    /// The durations.
    pub durations: Histogram,
}
