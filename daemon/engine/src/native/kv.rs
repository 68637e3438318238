//! The key-value cache: blocks of 32 tokens, laid out as the panels that attention multiplies.
//!
//! For each block, layer and head there is one run of memory: the keys as one panel (lanes are tokens, steps are
//! dimensions), then the values as one panel per 32 dimensions (lanes are dimensions, steps are tokens), in bf16 or f32;
//! `int8` has a layout of its own. All layers of a block lie together, so memory becomes resident block by block as it is written,
//! even with huge pages (a fifth faster to read). Who owns a block is the scheduler's business.

pub(super) mod int8;
#[cfg(test)]
mod tests;
mod writer;

use super::attention::Span;
use super::memory::{Memory, Shared};
use super::tile::{Kind, LANES, STEP};
use super::{Isa, Pool, Precision, ShapeError};
use std::ops::Range;
use writer::{Source, Writer, runs};

/// Tokens per block.
pub const BLOCK_TOKENS: usize = 32;
const _: () = assert!(BLOCK_TOKENS == LANES, "a block of keys is one panel");

/// Tokens beyond those written whose room is resident before it is needed.
const AHEAD_TOKENS: usize = 1_024;
/// What the system clears at once, at least.
const PAGE: usize = 4_096;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As they are: the reference.
    F32,
    /// In 16 bits.
    Bf16,
    /// In 8 bits and scales, a little over half of bf16's room and of its reading.
    Int8,
}

impl Keep {
    /// Numbers in a dword of keys.
    pub(super) fn width(self) -> usize {
        match self {
            Keep::F32 => Kind::F32.width(),
            Keep::Bf16 => Kind::Bf16.width(),
            Keep::Int8 => int8::WIDTH,
        }
    }

    /// What a lane of its panels holds, where floats multiply them.
    pub(super) fn kind(self) -> Kind {
        if self == Keep::Bf16 { Kind::Bf16 } else { Kind::F32 }
    }
}

impl From<Precision> for Keep {
    fn from(precision: Precision) -> Keep {
        if precision == Precision::Fast { Keep::Bf16 } else { Keep::F32 }
    }
}

/// Keys and values of every layer.
pub struct KvCache {
    memory: Memory,
    keep: Keep,
    layers: usize,
    blocks: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Blocks up to the last that was written, and up to the last that was touched ahead.
    written: usize,
    touched: usize,
}

/// One layer of a cache, for reading.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    cache: &'a KvCache,
    layer: usize,
}

impl KvCache {
    /// Reserves room for `blocks` blocks in each layer; nothing is resident yet.
    pub fn new(
        layers: usize,
        blocks: usize,
        kv_heads: usize,
        head_dim: usize,
        keep: Keep,
    ) -> Result<KvCache, ShapeError> {
        let named = [
            (layers, "the layers"),
            (blocks, "the blocks"),
            (kv_heads, "the key-value heads"),
            (head_dim, "the head size"),
        ];
        if let Some((_, what)) = named.into_iter().find(|(count, _)| *count == 0) {
            return Err(ShapeError::Empty { what });
        }
        let unit = unit_bytes(keep, head_dim);
        let bytes = [blocks, kv_heads, unit].into_iter().try_fold(layers, usize::checked_mul);
        let memory = Memory::zeroed(bytes.ok_or(ShapeError::Memory { bytes: usize::MAX })?)?;
        Ok(KvCache { memory, keep, layers, blocks, kv_heads, head_dim, written: 0, touched: 0 })
    }

    /// Bytes that one block of every layer takes.
    pub fn block_bytes(layers: usize, kv_heads: usize, head_dim: usize, keep: Keep) -> usize {
        layers * kv_heads * unit_bytes(keep, head_dim)
    }

    /// Blocks of the cache.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Everything that a block holds, of all layers.
    pub fn block(&self, block: u32) -> &[u8] {
        &self.memory.bytes()[self.range(block)]
    }

    /// The same, to be filled with what `block` gave, by this cache or one of the same shape and kind.
    pub fn block_mut(&mut self, block: u32) -> &mut [u8] {
        let range = self.note_written(block);
        &mut self.memory.bytes_mut()[range]
    }

    /// Makes `to` hold what `from` holds.
    pub fn copy(&mut self, from: u32, to: u32) {
        let from = self.range(from);
        let to = self.note_written(to).start;
        self.memory.bytes_mut().copy_within(from, to);
    }

    /// Makes one more block resident that will be written before long, as blocks are taken in their order; false where
    /// enough are. The system clears what is first touched, which took a tenth of a crowd's time inside of steps: time
    /// that is better taken while nobody waits.
    pub fn touch_ahead(&mut self) -> bool {
        let next = self.touched.max(self.written);
        if next >= self.blocks.min(self.written + AHEAD_TOKENS / BLOCK_TOKENS) {
            return false;
        }
        let range = self.range(next as u32);
        // Nothing was written there, so it holds zeros.
        self.memory.bytes_mut()[range].chunks_mut(PAGE).for_each(|page| page[0] = 0);
        self.touched = next + 1;
        true
    }

    /// Where a block lies that is about to be written.
    fn note_written(&mut self, block: u32) -> Range<usize> {
        self.written = self.written.max(block as usize + 1);
        self.range(block)
    }

    fn range(&self, block: u32) -> Range<usize> {
        assert!((block as usize) < self.blocks, "block {block} of {}", self.blocks);
        let bytes = self.layers * self.kv_heads * unit_bytes(self.keep, self.head_dim);
        block as usize * bytes..(block as usize + 1) * bytes
    }

    /// One layer, for `attend`.
    pub fn layer(&self, layer: usize) -> Layer<'_> {
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        Layer { cache: self, layer }
    }

    /// Stores one token at `offset` of `block`: `k` and `v` are `[kv_heads, head_dim]`. Tokens of a block are written
    /// in order.
    pub fn write(&mut self, layer: usize, block: u32, offset: usize, k: &[f32], v: &[f32]) {
        assert!(offset < BLOCK_TOKENS, "offset {offset} in a block of {BLOCK_TOKENS}");
        let width = self.kv_heads * self.head_dim;
        assert!(k.len() == width && v.len() == width, "k and v must be [kv_heads, head_dim]");
        self.note_written(block);
        self.writer(layer, Isa::detect()).run(block, offset..offset + 1, Source { k, v, stride: width });
    }

    /// Stores the new tokens of `spans`, which write different blocks, in order: token t has `kv_heads * head_dim` keys at `k[t * stride]` and values
    /// at `v[t * stride]`.
    pub fn append(&mut self, pool: &Pool, layer: usize, spans: &[Span<'_>], k: &[f32], v: &[f32], stride: usize) {
        let tokens: usize = spans.iter().map(|span| span.len as usize).sum();
        let width = self.kv_heads * self.head_dim;
        let needs = tokens.saturating_sub(1) * stride + if tokens == 0 { 0 } else { width };
        assert!(k.len() >= needs && v.len() >= needs, "k and v must hold {tokens} tokens");
        self.written = self.written.max(self.check(spans));
        let writer = self.writer(layer, pool.isa());
        let source = Source { k, v, stride };
        match spans.iter().map(runs).sum() {
            1 => writer.write(spans, 0, source),
            // A thread per run: two tokens share a dword of values.
            runs => pool.deal(runs, &|_, index| writer.write(spans, index, source)),
        }
    }

    /// Panics unless every span's blocks exist and cover it: reading others would leave the cache. Returns how many blocks
    /// there are up to the last of them.
    pub(super) fn check(&self, spans: &[Span<'_>]) -> usize {
        let mut most = 0;
        for span in spans {
            let covered = span.blocks.len() * BLOCK_TOKENS;
            assert!(span.end() <= covered, "a span that ends at {} has blocks for {covered}", span.end());
            most = span.blocks.iter().fold(most, |most, &block| most.max(block as usize + 1));
        }
        assert!(most <= self.blocks, "a block beyond {}", self.blocks);
        most
    }

    fn writer(&mut self, layer: usize, isa: Isa) -> Writer {
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        let base = Shared::new(self.memory.bytes_mut());
        let (layers, blocks, kv_heads) = (self.layers, self.blocks, self.kv_heads);
        Writer { base, keep: self.keep, isa, layer, layers, blocks, kv_heads, head_dim: self.head_dim }
    }
}

impl Layer<'_> {
    pub(super) fn cache(&self) -> &KvCache {
        self.cache
    }

    pub(super) fn keep(&self) -> Keep {
        self.cache.keep
    }

    pub(super) fn kv_heads(&self) -> usize {
        self.cache.kv_heads
    }

    pub(super) fn head_dim(&self) -> usize {
        self.cache.head_dim
    }

    /// Bytes between the units of a block's heads.
    pub(super) fn unit_bytes(&self) -> usize {
        unit_bytes(self.cache.keep, self.cache.head_dim)
    }

    /// The key panel of a block and head; the value panels follow it at `values_at`.
    pub(super) fn unit(&self, block: u32, head: usize) -> *const u8 {
        let unit = self.unit_bytes();
        let index = (block as usize * self.cache.layers + self.layer) * self.cache.kv_heads + head;
        self.cache.memory.bytes()[index * unit..(index + 1) * unit].as_ptr()
    }
}

/// The head size rounded up to whole value panels; the rest stays zero.
pub(super) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LANES)
}

/// Where the values of a block and head begin in its unit.
pub(super) fn values_at(keep: Keep, head_dim: usize) -> usize {
    if keep == Keep::Int8 { int8::values(head_dim) } else { padded(head_dim) / keep.width() * STEP }
}

fn unit_bytes(keep: Keep, head_dim: usize) -> usize {
    if keep == Keep::Int8 { int8::unit_bytes(head_dim) } else { 2 * values_at(keep, head_dim) }
}
