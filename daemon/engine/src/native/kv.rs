//! The key-value cache: blocks of 32 tokens, laid out as the panels that attention multiplies.
//!
//! For each block, layer and head there is one run of memory: the keys as one panel (lanes are tokens, steps are
//! dimensions), then the values as one panel per 32 dimensions (lanes are dimensions, steps are tokens), in bf16 or f32;
//! `int8` has a layout of its own. All layers of a block lie together, so memory becomes resident block by block as it is written,
//! even with huge pages (a fifth faster to read). Who owns a block is the scheduler's business.

pub(super) mod int8;

use super::attention::Span;
use super::cpu::versions;
use super::memory::{Memory, Shared};
use super::tile::{Kind, LANES, STEP};
use super::{Isa, Pool, Precision, ShapeError, pair, pairs, to_bf16};
use std::ops::Range;

/// Tokens per block.
pub const BLOCK_TOKENS: usize = 32;
const _: () = assert!(BLOCK_TOKENS == LANES, "a block of keys is one panel");
/// Steps of a panel that are written together: a vector of dwords.
const STEPS: usize = 16;

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

    /// How a column's numbers are kept between scores and weights.
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
        Ok(KvCache { memory, keep, layers, blocks, kv_heads, head_dim })
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
        let range = self.range(block);
        &mut self.memory.bytes_mut()[range]
    }

    /// Makes `to` hold what `from` holds.
    pub fn copy(&mut self, from: u32, to: u32) {
        let (from, to) = (self.range(from), self.range(to));
        self.memory.bytes_mut().copy_within(from, to.start);
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
        let start = offset as u32;
        assert!(offset < BLOCK_TOKENS, "offset {offset} in a block of {BLOCK_TOKENS}");
        let width = self.kv_heads * self.head_dim;
        assert!(k.len() == width && v.len() == width, "k and v must be [kv_heads, head_dim]");
        let span = Span { start, len: 1, blocks: &[block] };
        let writer = self.writer(layer, Isa::detect());
        (0..self.kv_heads).for_each(|head| writer.head(head, &[span], k, v, width));
    }

    /// Stores the new tokens of `spans`, in order: token t has `kv_heads * head_dim` keys at `k[t * stride]` and values
    /// at `v[t * stride]`.
    pub fn append(&mut self, pool: &Pool, layer: usize, spans: &[Span<'_>], k: &[f32], v: &[f32], stride: usize) {
        let tokens: usize = spans.iter().map(|span| span.len as usize).sum();
        let width = self.kv_heads * self.head_dim;
        let needs = tokens.saturating_sub(1) * stride + if tokens == 0 { 0 } else { width };
        assert!(k.len() >= needs && v.len() >= needs, "k and v must hold {tokens} tokens");
        self.check(spans);
        let writer = self.writer(layer, pool.isa());
        let heads = writer.kv_heads;
        if tokens * width < 8 * 1024 {
            (0..heads).for_each(|head| writer.head(head, spans, k, v, stride));
        } else {
            // One thread per head: two tokens share a dword of values.
            pool.deal(heads, &|_, head| writer.head(head, spans, k, v, stride));
        }
    }

    /// Panics unless every span's blocks exist and cover it: reading others would leave the cache.
    pub(super) fn check(&self, spans: &[Span<'_>]) {
        for span in spans {
            let covered = span.blocks.len() * BLOCK_TOKENS;
            assert!(span.end() <= covered, "a span that ends at {} has blocks for {covered}", span.end());
            assert!(span.blocks.iter().all(|&block| (block as usize) < self.blocks), "a block beyond {}", self.blocks);
        }
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

/// One layer of a cache, for writing; threads write different heads.
struct Writer {
    base: Shared<u8>,
    keep: Keep,
    isa: Isa,
    layer: usize,
    layers: usize,
    blocks: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Writer {
    fn head(&self, head: usize, spans: &[Span<'_>], k: &[f32], v: &[f32], stride: usize) {
        let mut token = 0;
        for span in spans {
            for position in span.start as usize..span.end() {
                let block = span.blocks[position / BLOCK_TOKENS] as usize;
                let at = token * stride + head * self.head_dim;
                self.token(
                    (block, head),
                    position % BLOCK_TOKENS,
                    &k[at..at + self.head_dim],
                    &v[at..at + self.head_dim],
                );
                token += 1;
            }
        }
    }

    fn token(&self, (block, head): (usize, usize), offset: usize, k: &[f32], v: &[f32]) {
        assert!(block < self.blocks, "block {block} of {}", self.blocks);
        let unit = unit_bytes(self.keep, self.head_dim);
        // SAFETY: the unit lies inside the cache, and only this thread writes this head.
        #[allow(unsafe_code)]
        let unit = unsafe {
            let at = self.base.get().add(((block * self.layers + self.layer) * self.kv_heads + head) * unit);
            std::slice::from_raw_parts_mut(at.cast::<u32>(), unit / 4)
        };
        let (keys, values) = unit.split_at_mut(values_at(self.keep, self.head_dim) / 4);
        match self.keep {
            Keep::Int8 => int8::write(self.isa, unit, offset, k, v),
            Keep::Bf16 => write_bf16(self.isa, keys, values, offset, k, v),
            Keep::F32 => {
                for (step, k) in k.iter().enumerate() {
                    keys[step * LANES + offset] = k.to_bits();
                }
                for (panel, v) in values.chunks_exact_mut(LANES * LANES).zip(v.chunks(LANES)) {
                    for (lane, v) in panel[offset * LANES..].iter_mut().zip(v) {
                        *lane = v.to_bits();
                    }
                }
            }
        }
    }
}

versions! { fn write_bf16(keys: &mut [u32], values: &mut [u32], offset: usize, k: &[f32], v: &[f32]) = bf16_body }

#[inline(always)]
fn bf16_body(keys: &mut [u32], values: &mut [u32], offset: usize, k: &[f32], v: &[f32]) {
    let (runs, rest) = k.as_chunks::<{ 2 * STEPS }>();
    let panels = keys.as_chunks_mut::<{ STEPS * LANES }>().0;
    let offset = offset % BLOCK_TOKENS;
    for (run, panel) in runs.iter().zip(panels.iter_mut()) {
        for (step, dword) in pairs(run).into_iter().enumerate() {
            panel[step * LANES + offset] = dword;
        }
    }
    for (step, values) in rest.chunks(2).enumerate() {
        keys[(STEPS * runs.len() + step) * LANES + offset] = pair(values[0], *values.get(1).unwrap_or(&0.0));
    }
    for (panel, v) in values.chunks_exact_mut(LANES * LANES / 2).zip(v.chunks(LANES)) {
        for (lane, v) in panel[offset / 2 * LANES..].iter_mut().zip(v) {
            // The first of two tokens clears the second, so that no stale value of the block's last owner, NaN perhaps,
            // meets a probability of zero.
            let bits = u32::from(to_bf16(*v));
            *lane = if offset.is_multiple_of(2) { bits } else { *lane & 0xffff | bits << 16 };
        }
    }
}
