//! One item of attention: a few columns that walk the same blocks, of one key-value head or of several beside each other.
//!
//! Column c belongs to head `heads.start + c / columns.len()`. In a block the keys of all heads come first, then one
//! softmax over all columns, then their values; each of these is a *piece* of memory. The next block is fetched meanwhile.

use super::int8;
use super::room::Room;
use super::softmax::{Block, COLUMNS, Running, finite, softmax};
use super::{Job, Span};
use crate::native::cpu::versions;
use crate::native::exponential::exp2;
use crate::native::kv::int8::{key_scales, value_scales};
use crate::native::kv::{BLOCK_TOKENS, Keep, padded, values_at};
use crate::native::memory::{Shared, fetch};
use crate::native::tile::{self, APART, Call, Kind, LANES, STEP};
use crate::native::{Isa, pair, pairs};
use std::ops::{Range, RangeInclusive};

/// Blocks per partial sum: 512 tokens.
pub(super) const CHUNK: usize = 16;

/// Columns `columns` of `span` for each of some key-value heads; there, c is token `c / group`, query head `c % group`.
pub(super) struct Item<'a> {
    pub job: &'a Job<'a>,
    pub span: &'a Span<'a>,
    /// Row of the span's first token in `q` and `out`.
    pub token: usize,
    pub heads: Range<usize>,
    pub columns: Range<usize>,
    /// Position of each column's token; the first head's columns are in ascending order.
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
        item.load_queries(isa, room);
        let (first, last) = item.chunks().into_inner();
        let mut total = item.chunk(isa, first, room, room.total());
        for chunk in first + 1..=last {
            let partial = item.chunk(isa, chunk, room, room.partial());
            merge(&mut total, &partial, room, room.partial(), item.count());
        }
        item.store(isa, room, &total, out);
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
        item.load_queries(isa, room);
        room.running(slot).write(item.chunk(isa, chunk, room, slot.cast()));
    }
}

/// Joins the chunks of `item`, whose slots lie one after another from chunk 0, and writes its part of `out`. The same
/// additions in the same order as `whole`.
///
/// # Safety
/// As for `whole`; every chunk of the item has been computed.
#[allow(unsafe_code)]
pub(super) unsafe fn join(isa: Isa, item: &Item<'_>, room: &Room, slots: *mut u8, out: Shared<f32>) {
    // SAFETY: passed on to the caller.
    unsafe {
        let (first, last) = item.chunks().into_inner();
        let slot = |chunk: usize| slots.add(chunk * room.slot_bytes());
        let mut total = (*room.running(slot(first))).clone();
        room.total().copy_from_nonoverlapping(slot(first).cast(), item.count() * padded(room.head_dim));
        for chunk in first + 1..=last {
            merge(&mut total, &*room.running(slot(chunk)), room, slot(chunk).cast(), item.count());
        }
        item.store(isa, room, &total, out);
    }
}

impl<'a> Item<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        span: &'a Span<'a>,
        token: usize,
        heads: Range<usize>,
        columns: Range<usize>,
    ) -> Self {
        // Columns beyond the last repeat one.
        let position = |c: usize| span.start as usize + (columns.start + c % columns.len()) / job.group;
        Item { job, span, token, heads, positions: std::array::from_fn(position), columns, next: std::ptr::null() }
    }

    /// Columns of all heads.
    fn count(&self) -> usize {
        self.heads.len() * self.columns.len()
    }

    /// The keys that the item reads first.
    pub(super) fn first_keys(&self) -> *const u8 {
        self.job.layer.unit(self.span.blocks[self.blocks().0], self.heads.start)
    }

    /// Brings its queries into cache, and where its part of `out` goes.
    pub(super) fn fetch(&self, out: Shared<f32>) {
        let (dim, shape) = (self.job.layer.head_dim(), self.job.shape);
        for column in 0..self.count() {
            fetch(self.job.q.as_ptr().wrapping_add(self.at(column, shape.stride)), dim);
            fetch(out.get().wrapping_add(self.at(column, shape.heads * dim)), dim);
        }
    }

    /// Start of the f32 of a column in a matrix whose tokens lie `stride` apart.
    fn at(&self, column: usize, stride: usize) -> usize {
        let (head, group) = (self.heads.start + column / self.columns.len(), self.job.group);
        let column = self.columns.start + column % self.columns.len();
        (self.token + column / group) * stride + (head * group + column % group) * self.job.layer.head_dim()
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
        if window == usize::MAX && (block + 1) * BLOCK_TOKENS <= self.reach(self.positions[0]) + 1 {
            return [u32::MAX; COLUMNS];
        }
        self.positions.map(|position| below(self.reach(position) + 1) & !below((position + 1).saturating_sub(window)))
    }

    /// What is fetched while `piece` of `block` is read, or null: its share of these heads in the next block, which is read
    /// from one end to the other, whatever the order of the pieces. What follows the last block is the next item's, as far as
    /// it is known.
    fn upcoming(&self, block: usize, piece: usize) -> *const u8 {
        let (next, layer) = (block + 1, &self.job.layer);
        let start = if next <= self.last() / BLOCK_TOKENS {
            layer.unit(self.span.blocks[next], self.heads.start)
        } else {
            // Heads lie beside each other, and an item rarely has fewer than the one before it.
            self.next
        };
        if start.is_null() { start } else { start.wrapping_add(piece * layer.unit_bytes() / 2) }
    }

    #[allow(unsafe_code)]
    unsafe fn load_queries(&self, isa: Isa, room: &Room) {
        let (dim, count, dwords) = (room.head_dim, self.columns.len(), room.dwords());
        for column in 0..self.count() {
            let at = self.at(column, self.job.shape.stride);
            let head = column / count;
            if room.keep == Keep::Int8 {
                int8::quantize(isa, &self.job.q[at..at + dim], room.int8_queries(head, count), column % count);
                continue;
            }
            // SAFETY: each head has `dwords * count` dwords of this thread's room.
            let out =
                unsafe { std::slice::from_raw_parts_mut(room.queries().add(head * dwords * count), dwords * count) };
            let (out, place) = if room.apart == 0 {
                (out, (count, column % count))
            } else {
                (&mut out[column % count * dwords..][..dwords], (1, 0))
            };
            interleave(isa, room.column, &self.job.q[at..at + dim], out, place);
        }
    }

    /// Adds one block to every column; `opens` if nothing precedes it.
    #[allow(unsafe_code)]
    unsafe fn block(&self, isa: Isa, block: usize, room: &Room, running: &mut Running, sums: *mut f32, opens: bool) {
        let seen = self.seen(block);
        let beside = tile::beside(isa, room.keep.kind(), self.columns.len(), self.heads.len());
        // SAFETY: passed on to the caller; scores and weights are this thread's room.
        unsafe {
            for head in (0..self.heads.len()).step_by(beside) {
                self.scores(isa, (block, head), beside, room);
            }
            let mut probabilities = Block {
                shape: self.job.shape,
                keep: room.keep,
                scores: std::slice::from_raw_parts_mut(room.scores().cast(), self.count()),
                weights: std::slice::from_raw_parts_mut(room.weights().cast(), self.count()),
                seen: &seen,
            };
            let keep = softmax(isa, &mut probabilities, running);
            let keep = if opens { std::ptr::null() } else { keep.as_ptr() };
            for head in 0..self.heads.len() {
                self.values(isa, (block, head), room, keep, sums);
            }
        }
    }

    /// The scores of `beside` heads, the first `head` heads after the item's first.
    #[allow(unsafe_code)]
    unsafe fn scores(&self, isa: Isa, (block, head): (usize, usize), beside: usize, room: &Room) {
        let count = self.columns.len();
        let unit = self.job.layer.unit(self.span.blocks[block], self.heads.start + head);
        let next = self.upcoming(block, head);
        // SAFETY: the keys open the unit; the rest is this thread's room.
        unsafe {
            let scores = room.scores().add(head * count * LANES);
            if room.keep == Keep::Int8 {
                let (groups, scales) = (room.groups(), unit.add(key_scales(room.head_dim)).cast());
                let queries = room.int8_queries(head, count);
                return int8::keys(isa, &int8::Keys { queries, groups, panels: unit, scales, scores, next });
            }
            let keys = Call {
                panel: unit,
                steps: room.steps(),
                beside,
                pitch: self.job.layer.unit_bytes(),
                shared: false,
                columns: room.queries().add(head * room.dwords() * count),
                apart: room.apart,
                count,
                out: scores,
                stride: LANES,
                keep: std::ptr::null(),
                next,
            };
            tile::run(isa, room.keep.kind(), &keys);
        }
    }

    /// Adds the values of one head, `head` heads after the item's first, times their probabilities.
    #[allow(unsafe_code)]
    unsafe fn values(&self, isa: Isa, (block, head): (usize, usize), room: &Room, keep: *const f32, sums: *mut f32) {
        let (count, dim) = (self.columns.len(), padded(room.head_dim));
        let (kind, width) = (room.keep.kind(), room.keep.width());
        let unit = self.job.layer.unit(self.span.blocks[block], self.heads.start + head);
        let next = self.upcoming(block, self.heads.len() + head);
        // Tokens that no column sees are left out: their memory may be another sequence's past.
        let steps = (self.last() + 1 - block * BLOCK_TOKENS).min(BLOCK_TOKENS).div_ceil(width);
        let keep = if keep.is_null() { keep } else { keep.wrapping_add(head * count) };
        let (panels, pitch) = (dim / LANES, LANES / width * STEP);
        let beside = tile::beside(isa, kind, count, panels);
        // SAFETY: the values follow the keys in the unit; the rest is this thread's room.
        unsafe {
            let columns = room.weights().add(head * count * LANES);
            let worth = if room.keep == Keep::Int8 { self.weigh(isa, unit, room, columns) } else { [0.0; COLUMNS] };
            for part in (0..panels).step_by(beside) {
                let at = part * pitch;
                let panel = unit.add(values_at(room.keep, room.head_dim) + at);
                let next = if next.is_null() { next } else { next.wrapping_add(at) };
                let (out, stride) = (sums.add(head * count * dim + part * LANES), dim);
                if room.keep == Keep::Int8 {
                    let (weights, worth) = (columns, worth.as_ptr());
                    int8::values(isa, &int8::Values { count, panel, steps, weights, worth, out, stride, keep, next });
                } else {
                    let (shared, apart) = (true, APART);
                    let call =
                        Call { panel, steps, beside, pitch, shared, columns, apart, count, out, stride, keep, next };
                    tile::run(isa, kind, &call);
                }
            }
        }
    }

    /// Turns the probabilities of one head's columns into int8 weights of its values; what a weight of 1 is worth in each.
    #[allow(unsafe_code)]
    unsafe fn weigh(&self, isa: Isa, unit: *const u8, room: &Room, columns: *mut u32) -> [f32; COLUMNS] {
        let mut worth = [0.0; COLUMNS];
        // SAFETY: the unit holds 32 scales of values, the room `LANES` dwords for each column.
        let (scales, columns) = unsafe {
            let columns = std::slice::from_raw_parts_mut(columns.cast::<[u32; LANES]>(), self.columns.len());
            (&*unit.add(value_scales(room.head_dim)).cast::<[f32; LANES]>(), columns)
        };
        for (column, worth) in columns.iter_mut().zip(&mut worth) {
            int8::weigh(isa, &column.map(f32::from_bits), scales, column, worth);
        }
        worth
    }

    /// What the sink of a column's head adds to its sum, if it has one.
    fn sink(&self, column: usize, max: f32) -> f32 {
        let Some(sinks) = self.job.shape.sinks else { return 0.0 };
        let (group, columns) = (self.job.group, self.columns.len());
        let head = (self.heads.start + column / columns) * group + (self.columns.start + column % columns) % group;
        exp2(sinks[head] * std::f32::consts::LOG2_E - finite(max))
    }

    /// Writes total / sum to `out`.
    #[allow(unsafe_code)]
    unsafe fn store(&self, isa: Isa, room: &Room, total: &Running, out: Shared<f32>) {
        let dim = room.head_dim;
        for column in 0..self.count() {
            let inverse = 1.0 / (total.sum[column].iter().sum::<f32>() + self.sink(column, total.max[column]));
            // SAFETY: the item's own columns of `out` and of the room.
            unsafe {
                let from = std::slice::from_raw_parts(room.total().add(column * padded(dim)), dim);
                let to = out.get().add(self.at(column, self.job.shape.heads * dim));
                scaled(isa, from, inverse, std::slice::from_raw_parts_mut(to, dim));
            }
        }
    }
}

versions! {
    /// Writes a query as one of `count` interleaved columns: dword `number * count + column`, zeros beyond its end.
    fn interleave(kind: Kind, q: &[f32], out: &mut [u32], place: (usize, usize)) = interleave_body
}

#[inline(always)]
fn interleave_body(kind: Kind, q: &[f32], out: &mut [u32], (count, column): (usize, usize)) {
    // Beyond the head's size, and one half of the last dword of an odd one, all is zero.
    for number in q.len() / kind.width()..out.len() / count {
        out[number * count + column] = 0;
    }
    match kind {
        Kind::F32 => {
            for (number, value) in q.iter().enumerate() {
                out[number * count + column] = value.to_bits();
            }
        }
        Kind::Bf16 => {
            let (runs, rest) = q.as_chunks::<32>();
            for (run, values) in runs.iter().enumerate() {
                for (i, dword) in pairs(values).into_iter().enumerate() {
                    out[(16 * run + i) * count + column] = dword;
                }
            }
            for (i, values) in rest.chunks(2).enumerate() {
                out[(16 * runs.len() + i) * count + column] = pair(values[0], *values.get(1).unwrap_or(&0.0));
            }
        }
    }
}

versions! { fn scaled(from: &[f32], factor: f32, to: &mut [f32]) = scaled_body }

#[inline(always)]
fn scaled_body(from: &[f32], factor: f32, to: &mut [f32]) {
    from.iter().zip(to).for_each(|(from, to)| *to = from * factor);
}

/// Adds the sums of a chunk to the total in `room`.
#[allow(unsafe_code)]
unsafe fn merge(total: &mut Running, partial: &Running, room: &Room, values: *const f32, count: usize) {
    let dim = padded(room.head_dim);
    // SAFETY: the total and the chunk's sums, of `count` columns each, do not overlap.
    let (to, from) = unsafe {
        (std::slice::from_raw_parts_mut(room.total(), count * dim), std::slice::from_raw_parts(values, count * dim))
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
