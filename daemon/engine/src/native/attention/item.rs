//! One item of attention: a few columns that walk the blocks of one key-value head.

use super::room::Room;
use super::softmax::{Block, COLUMNS, Running, finite, softmax};
use super::{Job, Span};
use crate::native::exponential::exp2;
use crate::native::kv::{BLOCK_TOKENS, key_bytes, padded};
use crate::native::memory::Shared;
use crate::native::tile::{self, Call, Kind, LANES, STEP};
use crate::native::{Isa, to_bf16};
use std::ops::{Range, RangeInclusive};

/// Blocks per partial sum: 512 tokens.
pub(super) const CHUNK: usize = 16;

/// Columns `columns` of `span` for one key-value head; column c is token `c / group`, query head `c % group`.
pub(super) struct Item<'a> {
    pub job: &'a Job<'a>,
    pub span: &'a Span<'a>,
    /// Row of the span's first token in `q` and `out`.
    pub token: usize,
    pub head: usize,
    pub columns: Range<usize>,
    /// Position of each column's token.
    pub positions: [usize; COLUMNS],
    /// Keys of the item that this thread is likely to take next, or null: they are fetched ahead.
    pub next: *const u8,
}

/// Computes `item` and writes its part of `out`.
///
/// # Safety
/// `room` belongs to this thread, `out` is `[tokens, heads, head_dim]`, nobody else touches the item's part of it, the
/// span's blocks are checked, and this processor runs `isa`.
#[allow(unsafe_code)]
pub(super) unsafe fn whole(isa: Isa, item: &Item<'_>, room: &Room, out: Shared<f32>) {
    // SAFETY: passed on to the caller; every part of the room is used within its size.
    unsafe {
        item.load_queries(room);
        let mut total = None;
        for chunk in item.chunks() {
            let partial = item.chunk(isa, chunk, room, room.partial());
            merge(&mut total, &partial, room, room.partial(), item.columns.len());
        }
        item.store(room, total, out);
    }
}

/// Computes one chunk of `item` into `slot`.
///
/// # Safety
/// As for `whole`; `slot` has the room's `slot_bytes` and belongs to this thread.
#[allow(unsafe_code)]
pub(super) unsafe fn part(isa: Isa, item: &Item<'_>, chunk: usize, room: &Room, slot: *mut u8) {
    // SAFETY: passed on to the caller.
    unsafe {
        item.load_queries(room);
        room.running(slot).write(item.chunk(isa, chunk, room, slot.cast()));
    }
}

/// Joins the chunks of `item`, whose slots lie one after another from chunk 0, and writes its part of `out`. The same
/// additions in the same order as `whole`.
///
/// # Safety
/// As for `whole`; every chunk of the item has been computed.
#[allow(unsafe_code)]
pub(super) unsafe fn join(item: &Item<'_>, room: &Room, slots: *mut u8, out: Shared<f32>) {
    // SAFETY: passed on to the caller.
    unsafe {
        let mut total = None;
        for chunk in item.chunks() {
            let slot = slots.add(chunk * room.slot_bytes());
            merge(&mut total, &*room.running(slot), room, slot.cast(), item.columns.len());
        }
        item.store(room, total, out);
    }
}

impl<'a> Item<'a> {
    pub(super) fn new(job: &'a Job<'a>, span: &'a Span<'a>, token: usize, head: usize, columns: Range<usize>) -> Self {
        // Columns beyond the last repeat it.
        let position = |c: usize| span.start as usize + (columns.start + c).min(columns.end - 1) / job.group;
        Item { job, span, token, head, positions: std::array::from_fn(position), columns, next: std::ptr::null() }
    }

    /// The keys that the item reads first.
    pub(super) fn first_keys(&self) -> *const u8 {
        self.job.layer.unit(self.span.blocks[self.blocks().0], self.head)
    }

    /// Start of the f32 of a column in a matrix whose tokens lie `stride` apart.
    fn at(&self, column: usize, stride: usize) -> usize {
        let (column, group) = (self.columns.start + column, self.job.group);
        (self.token + column / group) * stride + (self.head * group + column % group) * self.job.layer.head_dim()
    }

    /// The last position that a token sees.
    fn reach(&self, position: usize) -> usize {
        position.saturating_add(self.job.shape.ahead as usize).min(self.span.end() - 1)
    }

    /// First and last block that any column sees.
    fn blocks(&self) -> (usize, usize) {
        let first = (self.positions[0] + 1).saturating_sub(self.window()) / BLOCK_TOKENS;
        (first, self.last() / BLOCK_TOKENS)
    }

    /// The chunks that hold those blocks.
    pub(super) fn chunks(&self) -> RangeInclusive<usize> {
        let (first, last) = self.blocks();
        first / CHUNK..=last / CHUNK
    }

    /// Computes one chunk; its sums go to `values`.
    #[allow(unsafe_code)]
    unsafe fn chunk(&self, isa: Isa, chunk: usize, room: &Room, values: *mut f32) -> Running {
        let (first, last) = self.blocks();
        let blocks = first.max(chunk * CHUNK)..=last.min(chunk * CHUNK + CHUNK - 1);
        let mut running = Running::new();
        for block in blocks.clone() {
            // SAFETY: passed on to the caller.
            unsafe { self.block(isa, block, room, &mut running, values, block == *blocks.start()) };
        }
        running
    }

    /// The last position that any column sees.
    fn last(&self) -> usize {
        self.reach(self.positions[self.columns.len() - 1])
    }

    fn window(&self) -> usize {
        self.job.shape.window.map_or(usize::MAX, |window| window as usize)
    }

    /// Tokens of `block` that each column sees, as bits.
    fn seen(&self, block: usize) -> [u32; COLUMNS] {
        let below = |position: usize| {
            let tokens = position.saturating_sub(block * BLOCK_TOKENS);
            if tokens >= BLOCK_TOKENS { u32::MAX } else { (1 << tokens) - 1 }
        };
        let window = self.window();
        self.positions.map(|position| below(self.reach(position) + 1) & !below((position + 1).saturating_sub(window)))
    }

    /// What follows `block` in this thread's reading.
    fn after(&self, block: usize) -> *const u8 {
        let next = self.span.blocks.get(block + 1).filter(|_| block < self.last() / BLOCK_TOKENS);
        next.map_or(self.next, |&next| self.job.layer.unit(next, self.head))
    }

    #[allow(unsafe_code)]
    unsafe fn load_queries(&self, room: &Room) {
        let (dim, count, kind) = (room.head_dim, self.columns.len(), room.kind);
        for column in 0..count {
            let at = self.at(column, self.job.shape.stride);
            let q = &self.job.q[at..at + dim];
            for step in 0..padded(dim) / kind.width() {
                let value = |i: usize| q.get(i).copied().unwrap_or(0.0);
                let dword = match kind {
                    Kind::F32 => value(step).to_bits(),
                    Kind::Bf16 => u32::from(to_bf16(value(2 * step))) | u32::from(to_bf16(value(2 * step + 1))) << 16,
                };
                // SAFETY: `steps * count` dwords of this thread's room.
                unsafe { *room.queries().add(step * count + column) = dword };
            }
        }
    }

    /// Adds one block to every column; `opens` if nothing precedes it.
    #[allow(unsafe_code)]
    unsafe fn block(&self, isa: Isa, block: usize, room: &Room, running: &mut Running, sums: *mut f32, opens: bool) {
        let (count, kind, dim) = (self.columns.len(), room.kind, padded(room.head_dim));
        let panel = self.job.layer.unit(self.span.blocks[block], self.head);
        let next = self.after(block);
        // SAFETY: keys and values lie in one unit of the cache; the rest is this thread's room.
        unsafe {
            let keys = Call {
                panel,
                steps: dim / kind.width(),
                columns: room.queries(),
                apart: false,
                count,
                out: room.scores(),
                stride: LANES,
                keep: std::ptr::null(),
                next,
            };
            tile::run(isa, kind, &keys);
            let seen = self.seen(block);
            let mut probabilities = Block {
                shape: self.job.shape,
                kind,
                scores: std::slice::from_raw_parts_mut(room.scores().cast(), count),
                weights: std::slice::from_raw_parts_mut(room.weights().cast(), count),
                seen: &seen,
            };
            let keep = softmax(isa, &mut probabilities, running);
            // Tokens that no column sees are left out: their memory may be another sequence's past.
            let tokens = (self.last() + 1 - block * BLOCK_TOKENS).min(BLOCK_TOKENS);
            for part in 0..dim / LANES {
                let at = key_bytes(kind, room.head_dim) + part * (LANES / kind.width()) * STEP;
                let values = Call {
                    panel: panel.add(at),
                    steps: tokens.div_ceil(kind.width()),
                    columns: room.weights(),
                    apart: true,
                    count,
                    out: sums.add(part * LANES),
                    stride: dim,
                    keep: if opens { std::ptr::null() } else { keep.as_ptr() },
                    next: if next.is_null() { next } else { next.wrapping_add(at) },
                };
                tile::run(isa, kind, &values);
            }
        }
    }

    /// What the sink of a column's head adds to its sum, if it has one.
    fn sink(&self, column: usize, max: f32) -> f32 {
        let Some(sinks) = self.job.shape.sinks else { return 0.0 };
        let head = self.head * self.job.group + (self.columns.start + column) % self.job.group;
        exp2(sinks[head] * std::f32::consts::LOG2_E - finite(max))
    }

    /// Writes total / sum to `out`.
    #[allow(unsafe_code)]
    unsafe fn store(&self, room: &Room, total: Option<Running>, out: Shared<f32>) {
        let total = total.unwrap_or_else(Running::new);
        let dim = room.head_dim;
        for column in 0..self.columns.len() {
            let inverse = 1.0 / (total.sum[column].iter().sum::<f32>() + self.sink(column, total.max[column]));
            // SAFETY: the item's own columns of `out` and of the room.
            unsafe {
                let from = std::slice::from_raw_parts(room.total().add(column * padded(dim)), dim);
                let to = out.get().add(self.at(column, self.job.shape.heads * dim));
                for (i, value) in from.iter().enumerate() {
                    *to.add(i) = value * inverse;
                }
            }
        }
    }
}

/// Adds the sums of a chunk to the total in `room`; the first becomes the total.
#[allow(unsafe_code)]
unsafe fn merge(total: &mut Option<Running>, partial: &Running, room: &Room, values: *const f32, count: usize) {
    let dim = padded(room.head_dim);
    // SAFETY: the total and the chunk's sums, of `count` columns each, do not overlap.
    let (to, from) = unsafe {
        (std::slice::from_raw_parts_mut(room.total(), count * dim), std::slice::from_raw_parts(values, count * dim))
    };
    let Some(total) = total else {
        to.copy_from_slice(from);
        *total = Some(partial.clone());
        return;
    };
    for (column, (to, from)) in to.chunks_exact_mut(dim).zip(from.chunks_exact(dim)).enumerate() {
        let max = total.max[column].max(partial.max[column]);
        let (old, new) = (exp2(total.max[column] - finite(max)), exp2(partial.max[column] - finite(max)));
        let add = |to: &mut [f32], from: &[f32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *to * old + from * new);
        };
        add(to, from);
        add(&mut total.sum[column], &partial.sum[column]);
        total.max[column] = max;
    }
}
