//! Memory for packed weights, the KV cache and scratch: aligned to cache lines, zeroed by the system, resident only once
//! touched. The one place that knows how kernels share raw memory between threads.

#[cfg(test)]
mod tests;

use super::{Pool, ShapeError};
use memmap2::MmapMut;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Alignment of everything the kernels read: a cache line, and the widest vector.
pub(crate) const LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
/// What is mapped at once for data of less than a quarter of that.
const CHUNK: usize = 64 << 20;

/// An owned, zeroed, line-aligned range of memory, for data that is read at the memory's full speed: it lies in huge pages
/// where the system has them, beside others. In small pages one stream of weights is a quarter slower.
pub(super) struct Memory {
    start: Shared<u8>,
    len: usize,
    _map: Arc<MmapMut>,
}

/// The chunk that data is taken from now, and what is left of it; gone with the last data in it.
static CHUNKED: Mutex<Option<Rest>> = Mutex::new(None);

/// What is left of a map: nobody else has it.
struct Rest {
    map: Weak<MmapMut>,
    start: Shared<u8>,
    len: usize,
}

impl Memory {
    /// Reserves `bytes`; pages become resident when first written.
    pub(super) fn zeroed(bytes: usize) -> Result<Memory, ShapeError> {
        if bytes >= CHUNK / 4 {
            let (map, mut rest) = map(bytes)?;
            return Ok(rest.take(map, bytes));
        }
        let mut chunked = CHUNKED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = chunked.as_mut()
            && let Some(map) = rest.map.upgrade()
            && rest.len >= bytes
        {
            return Ok(rest.take(map, bytes));
        }
        let (map, mut rest) = map(CHUNK)?;
        let memory = rest.take(map, bytes);
        *chunked = Some(rest);
        Ok(memory)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the map lives as long as this, the range lies in it and is nobody else's.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.get(), self.len)
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.get(), self.len)
        }
    }
}

impl Rest {
    /// The first `bytes`, which there are, as memory of their own.
    fn take(&mut self, map: Arc<MmapMut>, bytes: usize) -> Memory {
        let memory = Memory { start: self.start, len: bytes, _map: map };
        let taken = lines(bytes);
        self.start = Shared(self.start.get().wrapping_add(taken));
        self.len -= taken;
        memory
    }
}

/// Maps at least `bytes` in whole huge pages.
fn map(bytes: usize) -> Result<(Arc<MmapMut>, Rest), ShapeError> {
    let refused = |_| ShapeError::Memory { bytes };
    let len = bytes.max(1).checked_next_multiple_of(HUGE_PAGE).ok_or(ShapeError::Memory { bytes })?;
    let mut map = MmapMut::map_anon(len.saturating_add(HUGE_PAGE)).map_err(refused)?;
    let offset = map.as_ptr().align_offset(HUGE_PAGE);
    // Only a hint.
    #[cfg(target_os = "linux")]
    let _ = map.advise_range(memmap2::Advice::HugePage, offset, len);
    let start = Shared(map.as_mut_ptr().wrapping_add(offset));
    let map = Arc::new(map);
    let rest = Rest { map: Arc::downgrade(&map), start, len };
    Ok((map, rest))
}

/// Working memory of the kernels, kept between calls so that a step allocates nothing once it has warmed up.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code)] [u8; LINE]);

impl Scratch {
    /// Empty; it grows to the largest need.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// At least `bytes` of cache-line-aligned memory with arbitrary contents.
    pub(super) fn reserve(&mut self, bytes: usize) -> Shared<u8> {
        let lines = bytes.div_ceil(LINE);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; LINE]));
        }
        Shared(self.lines.as_mut_ptr().cast())
    }
}

/// A pointer that the threads of one job share; they write disjoint parts, or only read.
pub(super) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: it is an address; every dereference states why its range is valid and not written by another thread.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(slice: &mut [T]) -> Shared<T> {
        Shared(slice.as_mut_ptr())
    }

    pub(super) fn get(self) -> *mut T {
        self.0
    }
}

/// The part of `count` things that thread `index` of `threads` takes: contiguous, and as even as possible.
pub(super) fn share(count: usize, index: usize, threads: usize) -> std::ops::Range<usize> {
    count * index / threads..count * (index + 1) / threads
}

/// Brings numbers that will soon be read or written into the second cache, where this processor can be told to.
#[inline(always)]
pub(super) fn fetch(at: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..count.div_ceil(LINE / size_of::<f32>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch may point anywhere.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(at.cast::<i8>().wrapping_add(line * LINE));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, count);
}

/// Rounds `bytes` up to whole cache lines.
pub(super) fn lines(bytes: usize) -> usize {
    bytes.next_multiple_of(LINE)
}

/// Elements that one thread handles faster than it can wake another.
const ALONE: usize = 16 * 1024;

/// Parts for each thread, so that a fast one can help a slow one.
const PARTS: usize = 4;

/// Runs `work(first_row, rows)` over the rows of `data`, `width` elements each, divided among the pool's threads.
pub(super) fn by_rows(pool: &Pool, data: &mut [f32], width: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if data.len() <= ALONE {
        return work(0, data);
    }
    let rows = data.len() / width;
    let parts = rows.min(PARTS * pool.threads());
    let shared = Shared::new(data);
    pool.deal(parts, &|_, index| {
        let range = share(rows, index, parts);
        // SAFETY: the ranges are disjoint parts of `data`, which outlives the job.
        #[allow(unsafe_code)]
        let part =
            unsafe { std::slice::from_raw_parts_mut(shared.get().add(range.start * width), range.len() * width) };
        work(range.start, part);
    });
}
