//! Embeddings on the shape of nomic-embed-text-v1.5, random weights: tokens a second, in bf16 and in 8 and 4 bits.
//!
//! Whole texts through the network, pooled; one text of 512 tokens, 16 of 32 at once, and one of 8,192. `peers`
//! runs its peer beside it.

use std::time::Instant;

use engine::encoder::Text;
use engine::random::Recipe;
use engine::{Encoder, Precision};

use crate::sample::row;

/// Calls that are measured for a figure.
const CALLS: usize = 7;

/// Runs the measures.
pub async fn run() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let plain = Recipe::nomic_137m(1);
    for (name, recipe) in
        [("8-bit", plain.clone().quantized(8, 64)), ("4-bit", plain.clone().quantized(4, 64)), ("bf16", plain)]
    {
        let folder = recipe.temporary().unwrap();
        let mut encoder = Encoder::open(folder.path(), threads, Precision::Fast, &mut |_, _| {}).unwrap();
        measure(&mut encoder, &format!("{name}, one text of 512 tokens"), &[512], CALLS);
        measure(&mut encoder, &format!("{name}, 16 texts of 32 tokens at once"), &[32; 16], CALLS);
        if name == "8-bit" {
            measure(&mut encoder, &format!("{name}, one text of 8,192 tokens"), &[8192], 3);
        }
    }
}

fn measure(encoder: &mut Encoder, name: &str, lengths: &[u32], calls: usize) {
    let tokens: Vec<Vec<u32>> =
        lengths.iter().map(|length| (0..*length).map(|at| 1000 + at * 7 % 20_000).collect()).collect();
    let texts: Vec<Text<'_>> = tokens.iter().map(|tokens| Text { tokens, segments: &[] }).collect();
    let total = f64::from(lengths.iter().sum::<u32>());
    let mut out = Vec::new();
    encoder.encode(&texts, &mut || {}, &mut out).unwrap();
    let mut rates = Vec::new();
    for _ in 0..calls {
        let start = Instant::now();
        encoder.encode(&texts, &mut || {}, &mut out).unwrap();
        rates.push(total / start.elapsed().as_secs_f64());
    }
    row(name, "tok/s", rates);
}
