//! Attention over the block-wise cache, causal or both ways: grouped queries, online softmax, optional window and softcap.
//!
//! Work is cut into items: a few *columns*, which are (token, query head) pairs, that walk the same blocks together.
//! The many tokens of a prompt share one key-value head; a token that is decoded takes several heads at once, so that
//! a thread reads long runs of memory. Each column walks the blocks in ascending order and closes a partial sum every
//! `CHUNK` blocks, counted from position 0. What a column sees depends on its place in its sequence alone, and a fully
//! masked block changes nothing, so a token's result is the same in every batch, prompt chunk and thread count.

mod int8;
mod item;
mod room;
mod softmax;

#[cfg(test)]
mod tests;

use super::Pool;
use super::kv::Layer;
use super::memory::{Scratch, Shared, share};
use item::{CHUNK, Item};
use room::Room;

/// New tokens of one sequence: positions `start..start + len`, with the blocks that cover `0..start + len`.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Position of the first token.
    pub start: u32,
    /// Number of tokens.
    pub len: u32,
    /// Block ids in order of position.
    pub blocks: &'a [u32],
}

impl Span<'_> {
    /// The last `len` tokens of it.
    pub fn last(self, len: u32) -> Self {
        Self { start: self.start + self.len - len, len, ..self }
    }

    /// The position after the last token.
    pub(super) fn end(&self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// The form of one layer's attention.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Query heads; a multiple of the cache's key-value heads.
    pub heads: usize,
    /// f32 between the queries of consecutive tokens; `heads * head_dim` when they are alone.
    pub stride: usize,
    /// Factor of the scores, usually 1 / sqrt(head_dim).
    pub scale: f32,
    /// A token sees itself and the `window - 1` tokens before it ...
    pub window: Option<u32>,
    /// ... and so many after it, as far as its span goes: 0 is causal, `u32::MAX` is all.
    pub ahead: u32,
    /// Scores become softcap * tanh(score / softcap).
    pub softcap: Option<f32>,
    /// For each query head a score that takes its share of attention and gives nothing for it.
    pub sinks: Option<&'a [f32]>,
}

/// Attention of the new tokens of `spans`, whose keys and values are already in the cache. Token t's queries are
/// `[heads, head_dim]` at `q[t * stride]`; `out` is `[tokens, heads, head_dim]`.
pub fn attend(
    pool: &Pool,
    scratch: &mut Scratch,
    layer: Layer<'_>,
    q: &[f32],
    spans: &[Span<'_>],
    shape: &Shape<'_>,
    out: &mut [f32],
) {
    let width = shape.heads * layer.head_dim();
    let tokens: usize = spans.iter().map(|span| span.len as usize).sum();
    assert!(shape.heads > 0 && shape.heads.is_multiple_of(layer.kv_heads()), "query heads must divide into groups");
    assert!(shape.sinks.is_none_or(|sinks| sinks.len() == shape.heads), "one sink per query head");
    assert_eq!(out.len(), tokens * width, "out must be [tokens, heads, head_dim]");
    if tokens == 0 {
        return;
    }
    assert!(shape.stride >= width && q.len() >= (tokens - 1) * shape.stride + width, "q must hold {tokens} tokens");
    layer.cache().check(spans);
    let longest = spans.iter().map(Span::end).max().unwrap_or(0);
    let chunks = longest.div_ceil(CHUNK * super::BLOCK_TOKENS);
    let (group, columns) = (shape.heads / layer.kv_heads(), room::columns(pool.isa(), layer.keep()));
    // Enough items for every thread come before long runs.
    let together = (spans.len() * layer.kv_heads() * chunks / (4 * pool.threads())).max(1);
    let job = Job { layer, q, spans, shape, group, columns, together };
    let plan = Plan { items: spans.iter().map(|span| job.items(span)).sum(), chunks, job };
    plan.run(pool, scratch, Shared::new(out));
}

/// One call of `attend`.
struct Job<'a> {
    layer: Layer<'a>,
    q: &'a [f32],
    spans: &'a [Span<'a>],
    shape: &'a Shape<'a>,
    /// Query heads per key-value head.
    group: usize,
    /// Columns per item at most.
    columns: usize,
    /// Key-value heads per item at most.
    together: usize,
}

impl<'a> Job<'a> {
    /// Items per head, or heads, of a span.
    fn tiles(&self, span: &Span<'_>) -> usize {
        (span.len as usize * self.group).div_ceil(self.columns)
    }

    /// Key-value heads of an item: as many as fit, and divide them all.
    fn heads(&self, span: &Span<'_>) -> usize {
        let fit = (self.columns / (span.len as usize * self.group)).clamp(1, self.together);
        (1..=fit).rev().find(|heads| self.layer.kv_heads().is_multiple_of(*heads)).unwrap_or(1)
    }

    fn items(&self, span: &Span<'_>) -> usize {
        self.tiles(span) * (self.layer.kv_heads() / self.heads(span))
    }

    /// Item `index`; of one head, the last tokens come first, because they take longest.
    fn item(&self, mut index: usize) -> Item<'_> {
        let (mut at, mut token) = (0, 0);
        loop {
            let span = &self.spans[at];
            let (tiles, heads, len) = (self.tiles(span), self.heads(span), span.len as usize);
            if index < self.items(span) {
                let (first, tile) = (index / tiles * heads, tiles - 1 - index % tiles);
                return Item::new(self, span, token, first..first + heads, share(len * self.group, tile, tiles));
            }
            index -= self.items(span);
            token += len;
            at += 1;
        }
    }
}

/// How a call is divided among the threads.
struct Plan<'a> {
    job: Job<'a>,
    items: usize,
    /// Chunks of the longest span.
    chunks: usize,
}

impl Plan<'_> {
    /// Whole items while there are enough for every thread; else their chunks first, and then the sums of those.
    fn run(&self, pool: &Pool, scratch: &mut Scratch, out: Shared<f32>) {
        let room = Room::new(pool.isa(), self.job.layer.keep(), self.job.layer.head_dim());
        let chunks = self.chunks;
        let split = self.items < 2 * pool.threads() && chunks > 1;
        let slots = if split { self.items * chunks * room.slot_bytes() } else { 0 };
        let base = scratch.reserve(slots + pool.threads() * room.bytes());
        // SAFETY: in all of this, each thread has its own room behind the slots, each index its own slot, and each item
        // its own part of `out`; a pool carries only an instruction set that runs here.
        #[allow(unsafe_code)]
        let room = |thread: usize| room.at(unsafe { base.get().add(slots + thread * room.bytes()) });
        if !split {
            return pool.deal(self.items, &|thread, index| {
                let mut item = self.job.item(index);
                if index + 1 < self.items {
                    let next = self.job.item(index + 1);
                    item.next = next.first_keys();
                    next.fetch(out);
                }
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe {
                    item::whole(pool.isa(), &item, &room(thread), out);
                }
            });
        }
        pool.deal(self.items * chunks, &|thread, index| {
            let (item, room) = (self.job.item(index / chunks), room(thread));
            if item.chunks().contains(&(index % chunks)) {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe {
                    let slot = base.get().add(index * room.slot_bytes());
                    item::part(pool.isa(), &item, index % chunks, &room, slot);
                }
            }
        });
        pool.deal(self.items, &|thread, index| {
            let room = room(thread);
            // SAFETY: as above; every chunk has been computed.
            #[allow(unsafe_code)]
            unsafe {
                let slots = base.get().add(index * chunks * room.slot_bytes());
                item::join(pool.isa(), &self.job.item(index), &room, slots, out);
            }
        });
    }
}
