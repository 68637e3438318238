//! Requests that ended, counted by verb, model, key and status since the daemon started. Fed by `journal` when a request
//! ends, read by `service`. Whatever clients send, the number of things counted apart is bounded.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::measures::{Histogram, RequestDurations, RequestTally};

/// Counts kept apart; what comes after is counted together, under `other`.
const SERIES_MAX: usize = 2_000;

/// The model and key of what is counted together.
const OTHER: &str = "other";

/// What is counted of one request.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// What was asked for.
    pub verb: &'a str,
    /// The model that answered; `None` where none was found.
    pub model: Option<&'a str>,
    /// The key's id; `None` for the socket.
    pub key: Option<&'a str>,
    /// How it ended.
    pub status: &'a str,
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub completion_tokens: u32,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<[String; 4], [u64; 3]>,
    durations: BTreeMap<[String; 3], Histogram>,
}

impl Tally {
    /// Counts a request that ended.
    pub fn count(&self, ended: &Ended<'_>) {
        let (model, key) = (ended.model.unwrap_or_default(), ended.key.unwrap_or_default());
        let mut counts = self.lock();
        let series = [ended.verb, model, key, ended.status].map(str::to_owned);
        let series = if counts.requests.len() < SERIES_MAX || counts.requests.contains_key(&series) {
            series
        } else {
            [ended.verb, OTHER, OTHER, ended.status].map(str::to_owned)
        };
        let [requests, prompt, completion] = counts.requests.entry(series).or_default();
        *requests += 1;
        *prompt += u64::from(ended.prompt_tokens);
        *completion += u64::from(ended.completion_tokens);
        if ended.status == "ok" {
            let full = counts.durations.len() >= SERIES_MAX;
            let series = [ended.verb, model, key].map(str::to_owned);
            let series = if full && !counts.durations.contains_key(&series) {
                [ended.verb, OTHER, OTHER].map(str::to_owned)
            } else {
                series
            };
            counts.durations.entry(series).or_default().record(ended.took_us);
        }
    }

    /// Returns the requests, by verb, model, key and status.
    pub fn requests(&self) -> Vec<RequestTally> {
        let counts = self.lock();
        let tally = |([verb, model, key, status], [requests, prompt, completion]): (&[String; 4], &[u64; 3])| {
            let (verb, model, key, status) = (verb.clone(), model.clone(), key.clone(), status.clone());
            RequestTally {
                verb,
                model,
                key,
                status,
                requests: *requests,
                prompt_tokens: *prompt,
                completion_tokens: *completion,
            }
        };
        counts.requests.iter().map(tally).collect()
    }

    /// Returns how long requests took that ended well, by verb, model and key.
    pub fn durations(&self) -> Vec<RequestDurations> {
        let durations = |([verb, model, key], durations): (&[String; 3], &Histogram)| RequestDurations {
            verb: verb.clone(),
            model: model.clone(),
            key: key.clone(),
            durations: *durations,
        };
        self.lock().durations.iter().map(durations).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended<'a>(model: &'a str, key: &'a str, status: &'a str) -> Ended<'a> {
        let (model, key) = (Some(model), Some(key));
        Ended { verb: "generate", model, key, status, prompt_tokens: 5, completion_tokens: 2, took_us: 1_500 }
    }

    #[test]
    fn requests_are_counted_by_verb_model_key_and_status() {
        let tally = Tally::default();
        let requests = [("a", "k", "ok"), ("a", "k", "ok"), ("a", "l", "ok"), ("a", "k", "busy")];
        requests.iter().for_each(|(model, key, status)| tally.count(&ended(model, key, status)));
        let counted: Vec<_> =
            tally.requests().into_iter().map(|of| (of.key, of.status, of.requests, of.completion_tokens)).collect();
        let of = |key: &str, status: &str, requests, tokens| (key.to_owned(), status.to_owned(), requests, tokens);
        assert_eq!(counted, [of("k", "busy", 1, 2), of("k", "ok", 2, 4), of("l", "ok", 1, 2)]);
        let timed: Vec<_> = tally.durations().into_iter().map(|of| (of.key, of.durations.count())).collect();
        assert_eq!(timed, [("k".to_owned(), 2), ("l".to_owned(), 1)], "only what ended well is timed");
    }

    #[test]
    fn whatever_clients_send_the_series_are_bounded_and_nothing_is_lost() {
        let tally = Tally::default();
        (0..SERIES_MAX + 500).for_each(|number| tally.count(&ended(&format!("model-{number}"), "k", "ok")));
        assert!(tally.requests().len() <= SERIES_MAX + 1 && tally.durations().len() <= SERIES_MAX + 1);
        assert_eq!(tally.requests().iter().map(|of| of.requests).sum::<u64>(), SERIES_MAX as u64 + 500);
    }
}
