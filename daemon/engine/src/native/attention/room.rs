//! Working memory of attention: one room per thread, and one slot per chunk of keys where an item is split.

use super::int8::Queries;
use super::softmax::Running;
use crate::native::Isa;
use crate::native::kv::int8::GROUP;
use crate::native::kv::{Keep, padded};
use crate::native::memory::lines;
use crate::native::tile::{self, Kind, LANES};

/// Columns of an item at most.
pub(super) fn columns(isa: Isa, keep: Keep) -> usize {
    if keep == Keep::Int8 { isa.columns() } else { tile::columns(isa, keep.kind()) }
}

/// A thread's working memory, all of it `[columns, ..]`.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub keep: Keep,
    pub head_dim: usize,
    /// What a dword of a float query or probability holds.
    pub column: Kind,
    /// Dwords from one float query to the next, or 0 where they are interleaved.
    pub apart: usize,
    columns: usize,
    base: *mut u8,
}

// SAFETY: an address; `at` gives every thread its own.
#[allow(unsafe_code)]
unsafe impl Sync for Room {}

impl Room {
    pub(super) fn new(isa: Isa, keep: Keep, head_dim: usize) -> Room {
        let (kind, columns) = (keep.kind(), columns(isa, keep));
        let column = tile::column(isa, kind);
        let apart = tile::apart(isa, kind, padded(head_dim) / column.width());
        Room { keep, head_dim, column, apart, columns, base: std::ptr::null_mut() }
    }

    pub(super) fn at(self, base: *mut u8) -> Room {
        Room { base, ..self }
    }

    /// Steps of a head's key panels.
    pub(super) fn steps(&self) -> usize {
        padded(self.head_dim) / self.keep.width()
    }

    /// Dwords of a query.
    pub(super) fn dwords(&self) -> usize {
        if self.keep == Keep::Int8 { self.steps() } else { padded(self.head_dim) / self.column.width() }
    }

    fn query_bytes(&self) -> usize {
        let words = if self.keep == Keep::Int8 { 2 * self.groups() } else { 0 };
        lines(self.columns * (self.dwords() + words) * 4)
    }

    /// Runs of a head's dimensions that share a scale, in int8.
    pub(super) fn groups(&self) -> usize {
        padded(self.head_dim) / GROUP
    }

    fn sum_bytes(&self) -> usize {
        self.columns * padded(self.head_dim) * 4
    }

    pub(super) fn bytes(&self) -> usize {
        self.query_bytes() + 2 * self.sum_bytes() + 2 * self.columns * LANES * 4
    }

    /// Bytes of one slot: the sums and the running softmax of one chunk.
    pub(super) fn slot_bytes(&self) -> usize {
        lines(self.sum_bytes() + size_of::<Running>())
    }

    /// Queries, head after head, interleaved: dword `number * count + column`.
    pub(super) fn queries(&self) -> *mut u32 {
        self.base.cast()
    }

    /// The queries of one head of `count` columns, in int8: scales and offsets lie behind all dwords.
    #[allow(unsafe_code)]
    pub(super) fn int8_queries(&self, head: usize, count: usize) -> Queries {
        let (dwords, groups) = (self.dwords(), self.groups());
        // SAFETY: inside `query_bytes`.
        unsafe {
            let behind = self.queries().add(self.columns * dwords);
            Queries {
                count,
                dwords: self.queries().add(head * dwords * count),
                scales: behind.add(head * groups * count).cast(),
                offsets: behind.add((self.columns + head * count) * groups).cast(),
            }
        }
    }

    /// The partial sums of the current chunk, `[columns, padded head size]`.
    #[allow(unsafe_code)]
    pub(super) fn partial(&self) -> *mut f32 {
        // SAFETY: inside `bytes`, like the three below.
        unsafe { self.base.add(self.query_bytes()).cast() }
    }

    /// The sums of the chunks before.
    #[allow(unsafe_code)]
    pub(super) fn total(&self) -> *mut f32 {
        // SAFETY: as above.
        unsafe { self.base.add(self.query_bytes() + self.sum_bytes()).cast() }
    }

    #[allow(unsafe_code)]
    pub(super) fn scores(&self) -> *mut f32 {
        // SAFETY: as above.
        unsafe { self.base.add(self.query_bytes() + 2 * self.sum_bytes()).cast() }
    }

    /// Probabilities in the form of a tile's columns.
    #[allow(unsafe_code)]
    pub(super) fn weights(&self) -> *mut u32 {
        // SAFETY: as above.
        unsafe { self.base.add(self.query_bytes() + 2 * self.sum_bytes() + self.columns * LANES * 4).cast() }
    }

    /// The running softmax of a slot; the sums lie at its start.
    #[allow(unsafe_code)]
    pub(super) fn running(&self, slot: *mut u8) -> *mut Running {
        // SAFETY: inside the slot's `slot_bytes`.
        unsafe { slot.add(self.sum_bytes()).cast() }
    }
}
