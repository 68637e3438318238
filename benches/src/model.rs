//! The engine on the shape of Qwen3-0.6B, 4-bit, random weights: prefill, decode, batches, load.
//!
//! Whole steps of the model are timed, logits included; nothing is sampled. A peer is not run beside it yet, so these
//! rows stand alone. Other work on the machine shows at once: every barrier waits for the slower thread.

use std::time::Instant;

use engine::random::Recipe;
use engine::{Model, Options, Precision, Row, Wanted};

use crate::sample::{ms, row};

/// KV blocks: room for 16 streams of 512 tokens.
const BLOCKS: u32 = 256;

const BLOCK_TOKENS: u32 = 32;

/// Steps that are measured for a decode figure.
const STEPS: u32 = 31;

/// Prefills that are measured.
const PREFILLS: usize = 5;

/// The longest chunk of a prefill, as the worker's default has it.
const CHUNK: u32 = 512;

/// Runs the measures.
pub async fn run() {
    let folder = Recipe::qwen3_600m(1).quantized(4, 64).temporary().unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { threads, blocks: BLOCKS, precision: Precision::Fast };
    let mut loads = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        drop(Model::open(folder.path(), &options, &mut |_, _| {}).unwrap());
        loads.push(ms(start.elapsed()));
    }
    row("folder to ready, page cache warm", "ms", loads);
    let mut bench = Bench { model: Model::open(folder.path(), &options, &mut |_, _| {}).unwrap(), logits: Vec::new() };
    for length in [512, 2000] {
        let rates = (0..PREFILLS).map(|_| f64::from(length) / bench.prefill(0, length)).collect();
        row(&format!("prefill of {length} tokens"), "tok/s", rates);
    }
    for context in [1, 2000] {
        let rates = bench.decode(1, context).into_iter().map(|seconds| 1.0 / seconds).collect();
        row(&format!("decode, 1 stream at a context of {context}"), "tok/s", rates);
    }
    for streams in [4, 8, 16] {
        let rates = bench.decode(streams, 128).into_iter().map(|seconds| f64::from(streams) / seconds).collect();
        row(&format!("decode, {streams} streams at a context of 128, together"), "tok/s", rates);
    }
}

struct Bench {
    model: Model,
    logits: Vec<f32>,
}

impl Bench {
    /// Reads a prompt in chunks into the stream's own blocks; returns seconds.
    fn prefill(&mut self, stream: u32, length: u32) -> f64 {
        let blocks = blocks(stream, length);
        let start = Instant::now();
        let mut at = 0;
        while at < length {
            let count = CHUNK.min(length - at);
            let tokens: Vec<u32> = (at..at + count).map(|position| 1000 + position * 7).collect();
            let logits = if at + count == length { Wanted::Last } else { Wanted::None };
            let row = Row { tokens: &tokens, start: at, blocks: &blocks, logits };
            self.model.forward(&[row], &mut self.logits).unwrap();
            at += count;
        }
        start.elapsed().as_secs_f64()
    }

    /// Decodes some steps of every stream at once, all from the same context; returns the seconds of each step.
    fn decode(&mut self, streams: u32, context: u32) -> Vec<f64> {
        for stream in 0..streams {
            self.prefill(stream, context);
        }
        let held: Vec<Vec<u32>> = (0..streams).map(|stream| blocks(stream, context + STEPS)).collect();
        let mut seconds = Vec::new();
        for step in 0..STEPS {
            let tokens = [1000 + step];
            let row = |blocks| Row { tokens: &tokens, start: context + step, blocks, logits: Wanted::Last };
            let rows: Vec<Row<'_>> = held.iter().map(|blocks| row(blocks)).collect();
            let start = Instant::now();
            self.model.forward(&rows, &mut self.logits).unwrap();
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds
    }
}

/// The blocks of a stream: streams of up to 512 tokens lie side by side, a longer one has the cache to itself.
fn blocks(stream: u32, tokens: u32) -> Vec<u32> {
    let first = stream * 512 / BLOCK_TOKENS;
    (first..first + tokens.div_ceil(BLOCK_TOKENS)).collect()
}
