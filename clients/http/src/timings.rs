//! How long an answer took and how fast it came, as llama-server tells it. Pure; called by the dialects that say so.

use protocol::generation::{Timing, Usage};
use serde::Serialize;
use utoipa::ToSchema;

/// How long reading the prompt and writing the answer took, in milliseconds, and how many tokens a second that is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Timings {
    /// Tokens of the prompt that came from the prefix cache.
    cache_n: u32,
    /// Those that were read.
    prompt_n: u32,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    /// Tokens of the answer. The first comes with the end of the prompt, so the time is that of the others.
    predicted_n: u32,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl Timings {
    /// Tells of a whole answer.
    pub fn of(usage: Usage, timing: Timing) -> Self {
        let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let (prompt_ms, predicted_ms) = (timing.prefill_us as f64 / 1e3, timing.decode_us as f64 / 1e3);
        let (prompt_per_token_ms, prompt_per_second) = pace(read, prompt_ms);
        let (predicted_per_token_ms, predicted_per_second) =
            pace(usage.completion_tokens.saturating_sub(1), predicted_ms);
        Self {
            cache_n: usage.cached_tokens,
            prompt_n: read,
            prompt_ms,
            prompt_per_token_ms,
            prompt_per_second,
            predicted_n: usage.completion_tokens,
            predicted_ms,
            predicted_per_token_ms,
            predicted_per_second,
        }
    }
}

/// Milliseconds a token, and tokens a second; 0 where nothing is known of either.
fn pace(tokens: u32, ms: f64) -> (f64, f64) {
    if tokens == 0 || ms <= 0.0 { (0.0, 0.0) } else { (ms / f64::from(tokens), f64::from(tokens) * 1e3 / ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_the_cache_and_the_first_token_took_none_of_the_time() {
        let usage = Usage { prompt_tokens: 30, cached_tokens: 10, completion_tokens: 5, reasoning_tokens: 0 };
        let told = Timings::of(usage, Timing { queue_us: 7, prefill_us: 40_000, decode_us: 8_000 });
        assert_eq!((told.cache_n, told.prompt_n, told.predicted_n), (10, 20, 5));
        assert_eq!((told.prompt_per_token_ms, told.prompt_per_second), (2.0, 500.0));
        assert_eq!((told.predicted_per_token_ms, told.predicted_per_second), (2.0, 500.0));
    }

    #[test]
    fn no_figure_is_infinite() {
        let one = Usage { prompt_tokens: 3, cached_tokens: 3, completion_tokens: 1, reasoning_tokens: 0 };
        let told = serde_json::to_value(Timings::of(one, Timing::default())).unwrap();
        assert!(told.as_object().unwrap().values().all(serde_json::Value::is_number), "{told}");
    }
}
