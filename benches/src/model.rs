//! The engine on the shape of Qwen3-0.6B, 4-bit, random weights: prefill, decode, batches, load; with keys and values in bf16
//! and in int8, in turns.
//!
//! No peer runs beside it here; `make bench-peers` does that. Other work on the machine shows at once: every barrier
//! waits for the slower thread.

use std::time::Instant;

use engine::Keep;

use crate::sample::{ms, row};
use crate::shape::{Shape, recipe};

/// Steps that are measured for a decode figure.
const STEPS: u32 = 31;

/// Prefills that are measured.
const PREFILLS: usize = 5;

/// Streams that decode together, and the context of each.
const STREAMS: [(u32, u32); 6] = [(1, 1), (1, 2000), (4, 128), (8, 128), (8, 400), (16, 128)];

/// The model, and how its keys and values are kept.
type Kept = (&'static str, Shape);

/// Runs the measures.
pub async fn run() {
    let folder = recipe(4).temporary().unwrap();
    let mut loads = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        drop(Shape::open(&folder, Keep::Bf16));
        loads.push(ms(start.elapsed()));
    }
    row("folder to ready, page cache warm", "ms", loads);
    let mut kept: [Kept; 2] = [("", Keep::Bf16), (", int8 keys and values", Keep::Int8)]
        .map(|(name, keep)| (name, Shape::open(&folder, keep)));
    for length in [512, 2000] {
        prefill(&mut kept, length);
    }
    for (streams, context) in STREAMS {
        for (name, shape) in &mut kept {
            let seconds = shape.decode(streams, context, STEPS);
            let rates = seconds.into_iter().map(|seconds| f64::from(streams) / seconds).collect();
            row(&format!("decode, {streams} streams at a context of {context}, together{name}"), "tok/s", rates);
        }
    }
}

/// Prompts of this length, in turns.
fn prefill(kept: &mut [Kept], length: u32) {
    let mut rates = vec![Vec::new(); kept.len()];
    for run in 0..=PREFILLS {
        for ((_, shape), rates) in kept.iter_mut().zip(&mut rates) {
            let rate = f64::from(length) / shape.prefill(0, length);
            // The first touches memory that the others find.
            if run > 0 {
                rates.push(rate);
            }
        }
    }
    for ((name, _), rates) in kept.iter().zip(rates) {
        row(&format!("prefill of {length} tokens{name}"), "tok/s", rates);
    }
}
