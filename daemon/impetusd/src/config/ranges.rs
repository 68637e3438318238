//! Which values a key can hold that no daemon can serve with: numbers and times out of their range. Pure; called by
//! `layers` for every source, so that a mistake is blamed on its own.

use std::time::Duration;

use super::Config;

/// Returns what is wrong with the first value that is out of its range.
pub fn check(config: &Config) -> Result<(), String> {
    counts(config)?;
    let Config { requests, worker, hub, .. } = config;
    let (short, second) = (Duration::from_millis(1), Duration::from_secs(1));
    for (key, value, least) in [
        ("requests.deadline", requests.deadline, second),
        ("worker.step", worker.step, short),
        ("worker.silence", worker.silence, short),
        ("worker.load_silence", worker.load_silence, short),
        ("worker.inspect", worker.inspect, short),
        ("hub.request", hub.request, short),
    ] {
        if value < least {
            return Err(format!("{key} is {value:?}; it may be {least:?} at least, as nothing fits into less"));
        }
    }
    Ok(())
}

fn counts(config: &Config) -> Result<(), String> {
    let Config { log, server, requests, transcripts, memory, worker, hub, .. } = config;
    let whole = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    for (key, value, least, most) in [
        ("log.files_max", log.files_max.into(), 1, 1_000),
        ("server.connections_max", whole(server.connections_max), 1, 1 << 20),
        ("server.in_flight_max", whole(server.in_flight_max), 1, 1 << 20),
        ("requests.active_max", whole(requests.active_max), 1, 1 << 20),
        ("requests.choices_max", requests.choices_max.into(), 1, 128),
        ("transcripts.page_events_max", whole(transcripts.page_events_max), 1, 1 << 20),
        ("transcripts.page_bytes_max", transcripts.page_bytes_max, 1, 1 << 30),
        ("memory.kv_tokens", memory.kv_tokens.into(), 1, u32::MAX.into()),
        ("worker.threads", worker.threads.into(), 0, 1_024),
        ("worker.sequences_max", worker.sequences_max.into(), 1, 4_096),
        ("worker.waiting_max", worker.waiting_max.into(), 1, 1 << 20),
        ("worker.prefill_tokens_max", worker.prefill_tokens_max.into(), 1, 1 << 20),
        ("worker.draft_tokens_max", worker.draft_tokens_max.into(), 0, 1_024),
        ("hub.pulls_max", whole(hub.pulls_max), 1, 1_000),
    ] {
        if !(least..=most).contains(&value) {
            return Err(format!("{key} is {value}; it may be from {least} to {most}"));
        }
    }
    Ok(())
}
