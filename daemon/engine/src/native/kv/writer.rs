//! Writes new tokens into a layer's blocks: by runs, which are the tokens of one span in one block.
//!
//! The keys of a token lie on as many cache lines as they have dwords, and are seldom in cache when a token is decoded: while
//! one head is written, the lines of the next are fetched. The tokens of a prompt are turned sixteen at a time instead, so that
//! each line is written once. `KvCache` alone calls this.

use super::{BLOCK_TOKENS, Keep, Span, int8, unit_bytes, values_at};
use crate::native::cpu::versions;
use crate::native::memory::{LINE, Shared, fetch};
use crate::native::tile::{LANES, STEP};
use crate::native::{Isa, pair, pairs, to_bf16};
use std::ops::Range;

/// Tokens, and dwords of each, that are turned together.
const TURNED: usize = 16;

/// Where tokens come from: token t has its heads' keys from `k[t * stride]` on, and its values from `v[t * stride]`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub stride: usize,
}

impl Source<'_> {
    /// What is left from token `tokens` and number `numbers` of each on.
    fn from(self, tokens: usize, numbers: usize) -> Self {
        let at = tokens * self.stride + numbers;
        Source { k: &self.k[at..], v: &self.v[at..], stride: self.stride }
    }
}

/// Blocks that the new tokens of a span are in: one run each.
pub(super) fn runs(span: &Span<'_>) -> usize {
    if span.len == 0 { 0 } else { (span.end() - 1) / BLOCK_TOKENS + 1 - span.start as usize / BLOCK_TOKENS }
}

/// One layer of a cache; threads write different runs.
pub(super) struct Writer {
    pub base: Shared<u8>,
    pub keep: Keep,
    pub isa: Isa,
    pub layer: usize,
    pub layers: usize,
    pub blocks: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Writer {
    /// Writes run `index` of those of all `spans`, whose tokens follow each other in `source`.
    pub fn write(&self, spans: &[Span<'_>], mut index: usize, source: Source<'_>) {
        let mut token = 0;
        for span in spans {
            if index < runs(span) {
                let (start, end) = (span.start as usize, span.end());
                let block = start / BLOCK_TOKENS + index;
                let first = start.max(block * BLOCK_TOKENS);
                let last = end.min((block + 1) * BLOCK_TOKENS);
                let offsets = first - block * BLOCK_TOKENS..last - block * BLOCK_TOKENS;
                return self.run(span.blocks[block], offsets, source.from(token + first - start, 0));
            }
            index -= runs(span);
            token += span.len as usize;
        }
    }

    /// Writes the first tokens of `source` at `offsets` of `block`.
    pub fn run(&self, block: u32, offsets: Range<usize>, source: Source<'_>) {
        let few = offsets.len() < TURNED;
        if few {
            self.fetch(self.unit(block, 0), offsets.start);
        }
        for head in 0..self.kv_heads {
            if few && head + 1 < self.kv_heads {
                self.fetch(self.unit(block, head + 1), offsets.start);
            }
            // SAFETY: the unit lies inside the cache, and only this thread writes this block.
            #[allow(unsafe_code)]
            let unit = unsafe {
                let dwords = unit_bytes(self.keep, self.head_dim) / 4;
                std::slice::from_raw_parts_mut(self.unit(block, head).cast::<u32>(), dwords)
            };
            self.head(unit, offsets.clone(), source.from(0, head * self.head_dim));
        }
    }

    /// Start of what a block keeps of a head.
    fn unit(&self, block: u32, head: usize) -> *mut u8 {
        assert!((block as usize) < self.blocks && head < self.kv_heads, "block {block} of {}", self.blocks);
        let index = (block as usize * self.layers + self.layer) * self.kv_heads + head;
        self.base.get().wrapping_add(index * unit_bytes(self.keep, self.head_dim))
    }

    /// Brings the lines of one token of a unit into cache.
    fn fetch(&self, unit: *const u8, offset: usize) {
        let (values, width) = (values_at(self.keep, self.head_dim), self.keep.width());
        let half = offset / (LINE / 4);
        if self.keep == Keep::Int8 {
            fetch(unit.wrapping_add(half * values / 2).cast(), values / 8);
        } else {
            for step in 0..values / STEP {
                fetch(unit.wrapping_add(step * STEP + half * LINE).cast(), 1);
            }
        }
        for panel in 0..self.head_dim.div_ceil(LANES) {
            fetch(unit.wrapping_add(values + (panel * BLOCK_TOKENS + offset) / width * STEP).cast(), LANES);
        }
    }

    fn head(&self, unit: &mut [u32], offsets: Range<usize>, source: Source<'_>) {
        let dim = self.head_dim;
        if self.keep == Keep::Bf16 {
            let (keys, values) = unit.split_at_mut(values_at(self.keep, dim) / 4);
            return write_bf16(self.isa, keys, values, offsets, source, dim);
        }
        for (token, offset) in offsets.enumerate() {
            let Source { k, v, .. } = source.from(token, 0);
            if self.keep == Keep::Int8 {
                int8::write(self.isa, unit, offset, &k[..dim], &v[..dim]);
                continue;
            }
            let (keys, values) = unit.split_at_mut(values_at(self.keep, dim) / 4);
            for (step, k) in k[..dim].iter().enumerate() {
                keys[step * LANES + offset] = k.to_bits();
            }
            for (panel, v) in values.chunks_exact_mut(LANES * LANES).zip(v[..dim].chunks(LANES)) {
                for (lane, v) in panel[offset * LANES..].iter_mut().zip(v) {
                    *lane = v.to_bits();
                }
            }
        }
    }
}

versions! {
    fn write_bf16(keys: &mut [u32], values: &mut [u32], offsets: Range<usize>, source: Source<'_>, dim: usize) = bf16_body
}

#[inline(always)]
fn bf16_body(keys: &mut [u32], values: &mut [u32], offsets: Range<usize>, source: Source<'_>, dim: usize) {
    let Source { k, v, stride } = source;
    let mut token = 0;
    while offsets.len() - token >= TURNED {
        turn(keys, offsets.start + token, &k[token * stride..], stride, dim);
        token += TURNED;
    }
    for token in token..offsets.len() {
        key(keys, offsets.start + token, &k[token * stride..][..dim]);
    }
    let mut token = 0;
    while token < offsets.len() {
        let (offset, v) = (offsets.start + token, &v[token * stride..]);
        // The first of two tokens clears the second, so that no stale value of the block's last owner, NaN perhaps, meets a
        // probability of zero.
        let both = offset.is_multiple_of(2) && token + 1 < offsets.len();
        let next = if both { &v[stride..][..dim] } else { &[] };
        value(values, offset, &v[..dim], next);
        token += if both { 2 } else { 1 };
    }
}

/// Writes the keys of one token.
#[inline(always)]
fn key(keys: &mut [u32], offset: usize, k: &[f32]) {
    let (runs, rest) = k.as_chunks::<{ 2 * TURNED }>();
    let panels = keys.as_chunks_mut::<{ TURNED * LANES }>().0;
    let offset = offset % BLOCK_TOKENS;
    for (run, panel) in runs.iter().zip(panels.iter_mut()) {
        for (step, dword) in pairs(run).into_iter().enumerate() {
            panel[step * LANES + offset] = dword;
        }
    }
    for (step, values) in rest.chunks(2).enumerate() {
        keys[(TURNED * runs.len() + step) * LANES + offset] = pair(values[0], *values.get(1).unwrap_or(&0.0));
    }
}

/// Writes the keys of `TURNED` tokens from `offset` on.
#[inline(always)]
fn turn(keys: &mut [u32], offset: usize, k: &[f32], stride: usize, dim: usize) {
    let whole = dim / (2 * TURNED);
    for run in 0..whole {
        let mut tokens = [[0; TURNED]; TURNED];
        for (token, dwords) in tokens.iter_mut().enumerate() {
            if let Some(k) = k[token * stride + run * 2 * TURNED..].first_chunk() {
                *dwords = pairs(k);
            }
        }
        for step in 0..TURNED {
            let lanes = &mut keys[(run * TURNED + step) * LANES + offset..][..TURNED];
            for (lane, dwords) in lanes.iter_mut().zip(&tokens) {
                *lane = dwords[step];
            }
        }
    }
    for step in whole * TURNED..dim.div_ceil(2) {
        for token in 0..TURNED {
            let k = &k[token * stride..][..dim];
            keys[step * LANES + offset + token] = pair(k[2 * step], *k.get(2 * step + 1).unwrap_or(&0.0));
        }
    }
}

/// Writes the values of the token at `offset`, and of the next one if there are any.
#[inline(always)]
fn value(values: &mut [u32], offset: usize, v: &[f32], next: &[f32]) {
    let panels = values.chunks_exact_mut(LANES * LANES / 2).zip(v.chunks(LANES));
    for (part, (panel, v)) in panels.enumerate() {
        let lanes = panel[offset / 2 * LANES..].iter_mut().zip(v);
        if let Some(next) = next.get(part * LANES..)
            && !next.is_empty()
        {
            lanes.zip(next).for_each(|((lane, v), next)| *lane = pair(*v, *next));
        } else if offset.is_multiple_of(2) {
            lanes.for_each(|(lane, v)| *lane = u32::from(to_bf16(*v)));
        } else {
            lanes.for_each(|(lane, v)| *lane = *lane & 0xffff | u32::from(to_bf16(*v)) << 16);
        }
    }
}
