//! The engine on the shape of Qwen3-0.6B, 4-bit, random weights: prefill, decode, batches, load.
//!
//! No peer runs beside it here; `make bench-peers` does that. Other work on the machine shows at once: every barrier
//! waits for the slower thread.

use std::time::Instant;

use crate::sample::{ms, row};
use crate::shape::{Shape, recipe};

/// Steps that are measured for a decode figure.
const STEPS: u32 = 31;

/// Prefills that are measured.
const PREFILLS: usize = 5;

/// Runs the measures.
pub async fn run() {
    let folder = recipe(4).temporary().unwrap();
    let mut loads = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        drop(Shape::open(&folder));
        loads.push(ms(start.elapsed()));
    }
    row("folder to ready, page cache warm", "ms", loads);
    let mut shape = Shape::open(&folder);
    for length in [512, 2000] {
        let rates = (0..PREFILLS).map(|_| f64::from(length) / shape.prefill(0, length)).collect();
        row(&format!("prefill of {length} tokens"), "tok/s", rates);
    }
    for context in [1, 2000] {
        let rates = shape.decode(1, context, STEPS).into_iter().map(|seconds| 1.0 / seconds).collect();
        row(&format!("decode, 1 stream at a context of {context}"), "tok/s", rates);
    }
    for streams in [4, 8, 16] {
        let rates = shape.decode(streams, 128, STEPS).into_iter().map(|seconds| f64::from(streams) / seconds).collect();
        row(&format!("decode, {streams} streams at a context of 128, together"), "tok/s", rates);
    }
}
