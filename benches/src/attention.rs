//! Attention by itself, in the shape of Qwen3-0.6B: how fast steps of decoding read keys and values.
//!
//! The cache is far larger than the processor's, as it is in service. The figure to compare with is the read bandwidth,
//! which is measured beside it.

use std::time::Instant;

use engine::Keep;
use engine::native::{BLOCK_TOKENS, Bandwidth, KvCache, Pool, Scratch, Shape, Span, attend};

use crate::sample::row;
use crate::shape::threads;

const LAYERS: usize = 28;
const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;

/// Steps that are measured; a step is the attention of every layer.
const STEPS: usize = 31;

/// Runs the measures.
pub async fn run() {
    let pool = Pool::new(threads());
    let memory = Bandwidth::new(&pool).unwrap();
    for (streams, context) in [(1, 2000), (4, 144), (8, 144), (16, 144), (1, 144)] {
        let read = memory.measure(&pool) / 1e9;
        let mut bench = Bench::new(streams, context, &pool);
        let rates = (0..STEPS).map(|_| bench.step(&pool)).collect();
        row(&format!("{streams} streams at {context}, of {read:.0} GB/s"), "GB/s", rates);
    }
}

struct Bench {
    cache: KvCache,
    blocks: Vec<Vec<u32>>,
    context: usize,
    scratch: Scratch,
    queries: Vec<f32>,
    out: Vec<f32>,
}

impl Bench {
    /// Fills the cache for so many streams, their blocks dealt out in turns.
    fn new(streams: usize, context: usize, pool: &Pool) -> Self {
        let each = context.div_ceil(BLOCK_TOKENS);
        let mut cache = KvCache::new(LAYERS, streams * each, KV_HEADS, HEAD_DIM, Keep::Bf16).unwrap();
        let blocks: Vec<Vec<u32>> =
            (0..streams).map(|stream| (0..each).map(|index| (index * streams + stream) as u32).collect()).collect();
        let numbers: Vec<f32> = (0..HEADS * HEAD_DIM * context).map(|i| ((i * 37) % 97) as f32 / 97.0 - 0.5).collect();
        for layer in 0..LAYERS {
            for blocks in &blocks {
                let span = Span { start: 0, len: context as u32, blocks };
                cache.append(pool, layer, &[span], &numbers, &numbers[64..], KV_HEADS * HEAD_DIM);
            }
        }
        let rows = streams * HEADS * HEAD_DIM;
        Self {
            cache,
            blocks,
            context,
            scratch: Scratch::new(),
            queries: numbers[..rows].to_vec(),
            out: vec![0.0; rows],
        }
    }

    /// Gigabytes per second of one step.
    fn step(&mut self, pool: &Pool) -> f64 {
        let start_at = self.context as u32 - 1;
        let spans: Vec<Span<'_>> = self.blocks.iter().map(|blocks| Span { start: start_at, len: 1, blocks }).collect();
        let shape = Shape {
            heads: HEADS,
            stride: HEADS * HEAD_DIM,
            scale: 0.09,
            window: None,
            ahead: 0,
            softcap: None,
            sinks: None,
        };
        let start = Instant::now();
        for layer in 0..LAYERS {
            let layer = self.cache.layer(layer);
            attend(pool, &mut self.scratch, layer, &self.queries, &spans, &shape, &mut self.out);
        }
        let seconds = start.elapsed().as_secs_f64();
        (LAYERS * KV_HEADS * HEAD_DIM * 4 * self.context * self.blocks.len()) as f64 / seconds / 1e9
    }
}
