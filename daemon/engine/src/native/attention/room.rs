//! Working memory of attention: one room per thread, and one slot per chunk of keys where an item is split.

use super::softmax::Running;
use crate::native::kv::padded;
use crate::native::memory::lines;
use crate::native::tile::{Kind, LANES};

/// A thread's working memory, all of it `[columns, ..]`.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub kind: Kind,
    pub head_dim: usize,
    columns: usize,
    base: *mut u8,
}

// SAFETY: an address; `at` gives every thread its own.
#[allow(unsafe_code)]
unsafe impl Sync for Room {}

impl Room {
    pub(super) fn new(kind: Kind, head_dim: usize, columns: usize) -> Room {
        Room { kind, head_dim, columns, base: std::ptr::null_mut() }
    }

    pub(super) fn at(self, base: *mut u8) -> Room {
        Room { base, ..self }
    }

    /// Steps of a head's key panels.
    pub(super) fn steps(&self) -> usize {
        padded(self.head_dim) / self.kind.width()
    }

    fn query_bytes(&self) -> usize {
        lines(self.columns * self.steps() * 4)
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

    /// Queries, head after head, interleaved: dword `step * count + column`.
    pub(super) fn queries(&self) -> *mut u32 {
        self.base.cast()
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
