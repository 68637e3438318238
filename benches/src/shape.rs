//! The engine with a model of Qwen3-0.6B's shape and random weights: what `model` and `peers` time.
//!
//! Whole steps of the model are timed, logits included; nothing is sampled.

use std::time::Instant;

use engine::random::{Recipe, TempFolder};
use engine::{Keep, Model, Options, Precision, Row, Wanted};

use crate::sample::ms;

/// KV blocks: room for 16 streams of 512 tokens.
const BLOCKS: u32 = 256;

const BLOCK_TOKENS: u32 = 32;

/// The longest chunk of a prefill, as the worker's default has it.
const CHUNK: u32 = 512;

/// The recipe of the model that is measured.
pub fn recipe(bits: u32) -> Recipe {
    Recipe::qwen3_600m(1).quantized(bits, 64)
}

/// As many threads as the machine has cores.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The model in memory.
pub struct Shape {
    model: Model,
    logits: Vec<f32>,
}

impl Shape {
    /// Loads a folder; keys and values are kept as `keep` says.
    pub fn open(folder: &TempFolder, keep: Keep) -> Self {
        let options = Options { threads: threads(), blocks: BLOCKS, precision: Precision::Fast, keep };
        Self { model: Model::open(folder.path(), &options, &mut |_, _| {}).unwrap(), logits: Vec::new() }
    }

    /// Reads a prompt in chunks into the stream's own blocks; returns seconds.
    pub fn prefill(&mut self, stream: u32, length: u32) -> f64 {
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

    /// Computes so many tokens of the first stream at once, all their logits too, again and again from a context that is
    /// there; returns the milliseconds of each step.
    pub fn check(&mut self, context: u32, width: u32, steps: u32) -> Vec<f64> {
        let blocks = blocks(0, context + width);
        let tokens: Vec<u32> = (0..width).map(|at| 2000 + at * 3).collect();
        let mut taken = Vec::new();
        for _ in 0..steps {
            let row = Row { tokens: &tokens, start: context, blocks: &blocks, logits: Wanted::Tail(width) };
            let start = Instant::now();
            self.model.forward(&[row], &mut self.logits).unwrap();
            taken.push(ms(start.elapsed()));
        }
        taken
    }

    /// Decodes so many steps of every stream at once, all from the same context; returns the seconds of each step.
    pub fn decode(&mut self, streams: u32, context: u32, steps: u32) -> Vec<f64> {
        for stream in 0..streams {
            self.prefill(stream, context);
        }
        let held: Vec<Vec<u32>> = (0..streams).map(|stream| blocks(stream, context + steps)).collect();
        let mut seconds = Vec::new();
        for step in 0..steps {
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
