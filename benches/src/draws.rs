//! How long it takes to draw a token from the logits of a large vocabulary: what each stream adds to each step, on the one
//! thread that steps the model.

use std::time::Instant;

use engine::text::{Sampler, Sampling};

use crate::sample::{row, us};

/// Tokens of Qwen 3's vocabulary.
const VOCABULARY: u32 = 151_936;

/// Draws that are measured for a figure.
const DRAWS: u32 = 300;

/// Runs the measures.
pub async fn run() {
    let drawn = Sampling { temperature: 1.0, seed: 1, ..Sampling::default() };
    draw("a draw, greedy", Sampling::default());
    draw("a draw, temperature 1", drawn.clone());
    draw("a draw, top_p 0.95", Sampling { top_p: 0.95, ..drawn.clone() });
    draw("a draw, top_k 20 and top_p 0.95", Sampling { top_k: 20, top_p: 0.95, ..drawn.clone() });
    draw("a draw, min_p 0.05", Sampling { min_p: 0.05, ..drawn });
    draw("a draw, greedy, with 5 log-probabilities", Sampling { logprobs: Some(5), ..Sampling::default() });
}

fn draw(name: &str, settings: Sampling) {
    // Sums of uniform numbers: a few tokens stand out, most are unlikely.
    let uniform = |at: u32| f64::from(at.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) - 0.5;
    let logit = |token: u32| (0..6).map(|nth| uniform(token * 6 + nth)).sum::<f64>() as f32 * 6.0;
    let logits: Vec<f32> = (0..VOCABULARY).map(logit).collect();
    let mut sampler = Sampler::new(settings).unwrap();
    let mut changed = logits.clone();
    let samples = (0..DRAWS).map(|position| {
        changed.copy_from_slice(&logits);
        let start = Instant::now();
        sampler.sample(&mut changed, position, None).unwrap();
        us(start.elapsed())
    });
    row(name, "µs", samples.collect());
}
