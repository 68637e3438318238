//! How fast the machine is, learnt from the steps it has taken: how much of prompts fits into a step, what guesses cost.
//!
//! The scheduler reads no clock and counts tokens; here milliseconds become tokens. Costs change with the model, the
//! context, the batch and whatever else the machine does, so the newest steps count most. The runner asks before each
//! plan and tells what each step took.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// How much a new step counts.
const NEWEST: f64 = 0.3;
/// Fewer tokens of prompts than this say little about the cost of one.
const TELLING: f64 = 16.0;
/// The least and the first number of prompt tokens in a step.
const TOKENS_MIN: f64 = 16.0;
const TOKENS_FIRST: u32 = 128;
/// Widths of a step, in tokens, and what they usually cost: weights are read once for all tokens, until computing takes
/// longer than reading.
const USUAL: [(f64, f64); 8] =
    [(1.0, 1.0), (2.0, 1.1), (4.0, 1.3), (8.0, 1.7), (16.0, 2.6), (32.0, 4.4), (64.0, 8.0), (128.0, 15.0)];
/// How much what is known of a width gives way to each step of another width.
const FADING: f64 = 0.01;

/// How fast the machine is.
pub struct Pace {
    /// What a step may take, in milliseconds.
    step_ms: f64,
    /// The most tokens of prompts.
    tokens_max: u32,
    /// What a token of a prompt takes at an empty context.
    token_ms: Option<f64>,
    /// What decoding alone took, where the last step had any.
    decode_ms: Option<f64>,
    /// By width, what decoding alone took, in parts of what is usual.
    factors: [Option<f64>; 8],
}

/// What a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Tokens of prompts, those far from the start counted more.
    pub prompt: f64,
    /// Tokens of sequences that decode, guesses among them.
    pub decode: u32,
}

impl Load {
    /// Counts tokens of a prompt from a position on, where attending to `context` positions costs as much as the rest of a
    /// token.
    pub fn read(&mut self, tokens: u32, start: u32, context: u32) {
        self.prompt += f64::from(tokens) * (1.0 + f64::from(start) / f64::from(context));
    }
}

impl Pace {
    /// Knows nothing yet. A step may take so long, and so many tokens of prompts at most, however fast the machine is.
    pub fn new(step_ms: u32, tokens_max: u32) -> Self {
        let step_ms = f64::from(step_ms.max(1));
        Self { step_ms, tokens_max, token_ms: None, decode_ms: None, factors: [None; 8] }
    }

    /// How many tokens of prompts the next step may compute.
    pub fn budget(&self) -> u32 {
        let Some(token_ms) = self.token_ms else { return TOKENS_FIRST.min(self.tokens_max) };
        // However long decoding takes, prompts get half a step, or nobody new would ever begin.
        let left = (self.step_ms - self.decode_ms.unwrap_or(0.0)).max(self.step_ms / 2.0);
        ((left / token_ms).clamp(TOKENS_MIN, f64::from(u32::MAX)) as u32).min(self.tokens_max)
    }

    /// What so much takes, in milliseconds, once it is known what prompts take.
    pub fn expects(&self, load: Load) -> Option<f64> {
        let decode_ms = if load.decode > 0 { self.decode_ms.unwrap_or(0.0) } else { 0.0 };
        Some(load.prompt * self.token_ms? + decode_ms)
    }

    /// What decoding `more` tokens than `width` costs, in parts of `width`.
    pub fn cost(&self, width: u32, more: u32) -> f64 {
        self.expected(width + more) / self.expected(width)
    }

    /// What decoding so many tokens takes, in milliseconds, once anything is known of it.
    pub fn step_ms(&self, width: u32) -> Option<f64> {
        self.factors.iter().any(Option::is_some).then(|| self.expected(width))
    }

    /// What a width is expected to take; of those that nothing is known of, as its neighbours let expect.
    fn expected(&self, width: u32) -> f64 {
        let (below, above) = self.factors.split_at(bucket(width) + 1);
        let nearest = below.iter().rev().chain(above).flatten().next();
        usual(width) * nearest.copied().unwrap_or(1.0)
    }

    /// Learns what a step took.
    pub fn learn(&mut self, load: Load, took: Duration) {
        let ms = took.as_secs_f64() * 1e3;
        if load.prompt == 0.0 {
            mix(&mut self.decode_ms, ms);
            self.learn_width(load.decode, ms);
            return;
        }
        if load.decode == 0 {
            self.decode_ms = None;
        }
        if load.prompt >= TELLING {
            let own = (ms - self.decode_ms.unwrap_or(0.0)).max(ms / 10.0);
            mix(&mut self.token_ms, own / load.prompt);
        }
    }

    fn learn_width(&mut self, width: u32, ms: f64) {
        let own = bucket(width);
        let factor = ms / usual(width);
        for (index, known) in self.factors.iter_mut().enumerate() {
            match known {
                _ if index == own => mix(known, factor),
                // Or one slow step would keep a width from being tried for ever.
                Some(other) => *other += (factor - *other) * FADING,
                None => {}
            }
        }
    }
}

/// What a width usually costs, in parts of the narrowest.
fn usual(width: u32) -> f64 {
    let width = f64::from(width.max(1));
    let next = USUAL.partition_point(|(bound, _)| *bound < width).clamp(1, USUAL.len() - 1);
    let ((low, low_cost), (high, high_cost)) = (USUAL[next - 1], USUAL[next]);
    low_cost + (high_cost - low_cost) * (width - low) / (high - low)
}

/// Which of the widths a width counts as.
fn bucket(width: u32) -> usize {
    USUAL.partition_point(|(bound, _)| *bound < f64::from(width)).min(USUAL.len() - 1)
}

fn mix(known: &mut Option<f64>, newest: f64) {
    *known = Some(known.map_or(newest, |known| known + (newest - known) * NEWEST));
}
