//! The affine kernel of Intel's tile unit: up to 16 columns, which lie as rows, times the 16 outputs of a tile.
//!
//! An activation group is one product of the unit; its sums are scaled by vectors as in the other kernels, to the same bits.
//! 8-bit weights lie as the unit reads them; of 4-bit ones a thread opens a few tiles, and multiplies them with many blocks.
//! Few rows are never its business: `affine` says from how many on they are.

#![allow(unsafe_code)]

use super::avx512::{add_biased, sixteen, store};
use super::{AHEAD, COLUMNS, Call, Format, Product, ROWS, WIDE};
use crate::native::amx::Tiles;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

impl Product<'_> {
    /// Multiplies `tiles` with `blocks` of rows.
    ///
    /// # Safety
    /// As for `multiply`; the room holds as many opened tiles, and the tile unit may be used.
    pub(super) unsafe fn tiled(&self, tiles: Range<usize>, blocks: Range<usize>, set: *mut u8, room: *mut u8) {
        let format = &self.tiles.format;
        let opened = |t: usize| room.wrapping_add((t - tiles.start) * format.opened_bytes());
        if format.bits == 4 {
            for t in tiles.clone() {
                // SAFETY: a tile, and room for it.
                unsafe { open(format, self.tiles.tile(t).0, opened(t)) };
            }
        }
        for b in blocks {
            // SAFETY: passed on to the caller.
            let (columns, first) = unsafe { self.block(b, set) };
            for t in tiles.clone().step_by(2) {
                let mut sums = MaybeUninit::<[[f32; WIDE]; COLUMNS]>::uninit();
                self.expect(t, columns.count, first);
                for t in t..tiles.end.min(t + 2) {
                    let out = sums.as_mut_ptr().cast::<f32>().wrapping_add(t % 2 * ROWS);
                    let call = self.call(t, columns, out, AHEAD);
                    let lines = if format.bits == 4 { opened(t).cast_const() } else { call.tile };
                    // SAFETY: passed on to the caller; the sums of this tile go side by side with those of its neighbour.
                    unsafe { run(format.bits, &call, lines) };
                }
                // SAFETY: the sums of these columns are there, and nobody else's outputs.
                unsafe { self.end(t, std::slice::from_raw_parts(sums.as_ptr().cast(), columns.count), first) };
            }
        }
    }
}

/// Writes the 4-bit weights of a tile as bytes: a line for each four inputs.
///
/// # Safety
/// `tile` is one, `out` is room for it opened, and this processor runs AVX-512.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn open(format: &Format, tile: *const u8, out: *mut u8) {
    let nibble = _mm512_set1_epi8(15);
    let lines = format.weight_bytes() / 64;
    let (mut w, mut out) = (tile, out);
    // SAFETY: the loops walk the weights and what they become; a prefetch may point anywhere.
    unsafe {
        for _ in 0..format.groups() {
            for line in 0..lines {
                let at = w.add(64 * line);
                let bytes = _mm512_load_si512(at.cast());
                _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD[0]).cast());
                _mm512_store_si512(out.cast(), _mm512_and_si512(bytes, nibble));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
                _mm512_store_si512(out.add(64).cast(), high);
                out = out.add(128);
            }
            w = w.add(format.group_bytes());
            _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(AHEAD[0]).cast());
        }
    }
}

/// Runs `call`, whose weights lie at `lines` as a byte each.
///
/// # Safety
/// As for `super::run`, with 1 to 16 columns that are rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn run(bits: usize, call: &Call, lines: *const u8) {
    macro_rules! by_count {
        ($($count:literal)*) => {
            match call.columns.count {
                $($count => tiled::<$count>(bits, call, lines),)*
                _ => debug_assert!(false, "1 to 16 columns"),
            }
        };
    }
    // SAFETY: passed on to the caller.
    unsafe { by_count!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16) }
}

/// A kernel under way: a product starts, one of a while ago is written down, and one that was is added.
struct Walk<'a, const C: usize> {
    call: &'a Call,
    tiles: Tiles,
    /// Lines, of four inputs each, of an activation group.
    steps: usize,
    /// What the next product multiplies.
    q: *const u8,
    lines: *const u8,
    /// Scales and biases that the next sums meet.
    pairs: *const u8,
    x_scale: *const f32,
    x_sum: *const f32,
    dots: *mut i32,
    sums: [__m512; C],
}

/// Products between the start of one and its being written, and until it is added.
const WRITTEN: usize = 2;
const ADDED: usize = 3;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tiled<const C: usize>(bits: usize, call: &Call, lines: *const u8) {
    #[repr(align(64))]
    struct Dots(#[allow(dead_code)] [[i32; ROWS * ROWS]; 4]);
    let mut dots = MaybeUninit::<Dots>::uninit();
    let columns = call.columns;
    let steps = call.lines * 8 / bits;
    // SAFETY: the loop walks the tile and the columns exactly as `Call` and `Columns` lay them out.
    unsafe {
        let mut walk = Walk::<C> {
            call,
            // Few set-ups: rows beyond the columns are other numbers of the block, and nobody reads their sums.
            tiles: Tiles::new(C.next_multiple_of(8), steps),
            steps,
            q: columns.q.cast(),
            lines,
            pairs: call.tile.add(call.lines * call.halves * 64),
            x_scale: columns.scale,
            x_sum: columns.sum,
            dots: dots.as_mut_ptr().cast(),
            sums: [_mm512_setzero_ps(); C],
        };
        let gap = if bits == 4 { 0 } else { 2 * walk.pair_bytes() };
        for at in (0..call.groups * call.halves + ADDED).step_by(4) {
            walk.step::<0, { (4 - WRITTEN) % 4 }, { (4 - ADDED) % 4 }>(at, gap);
            walk.step::<1, { (5 - WRITTEN) % 4 }, { (5 - ADDED) % 4 }>(at + 1, gap);
            walk.step::<2, { (6 - WRITTEN) % 4 }, { (6 - ADDED) % 4 }>(at + 2, gap);
            walk.step::<3, { (7 - WRITTEN) % 4 }, { (7 - ADDED) % 4 }>(at + 3, gap);
        }
        store(call, walk.sums);
    }
}

impl<const C: usize> Walk<'_, C> {
    /// Bytes of a group's scales, or of its biases.
    fn pair_bytes(&self) -> usize {
        ROWS * if self.call.narrow { 2 } else { 4 }
    }

    /// Whether product `at` is the last of a weight group, of one or of two.
    fn closes(&self, at: usize) -> bool {
        (at + 1) & (self.call.halves - 1) == 0
    }

    /// Starts product `at` in tile `S`, writes tile `W` and adds `A`; `gap` bytes lie between the lines of weight groups.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn step<const S: usize, const W: usize, const A: usize>(&mut self, at: usize, gap: usize) {
        let (call, products) = (self.call, self.call.groups * self.call.halves);
        // SAFETY: passed on to the caller.
        unsafe {
            if at < products {
                self.tiles.bytes::<S>(self.q, 4 * self.steps, self.lines);
                self.q = self.q.add(C * 4 * self.steps);
                self.lines = self.lines.add(64 * self.steps + if self.closes(at) { gap } else { 0 });
            }
            if at >= WRITTEN && at - WRITTEN < products {
                self.tiles.write::<W>(self.dots.add(W * ROWS * ROWS));
            }
            if at >= ADDED && at - ADDED < products {
                let dots = self.dots.add(A * ROWS * ROWS);
                let scale = sixteen(self.pairs, call.narrow);
                for (c, sum) in self.sums.iter_mut().enumerate() {
                    let dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots.add(c * ROWS).cast()));
                    *sum = _mm512_fmadd_ps(dot, _mm512_mul_ps(scale, _mm512_set1_ps(*self.x_scale.add(c))), *sum);
                }
                self.x_scale = self.x_scale.add(C);
                if self.closes(at - ADDED) {
                    let bias = sixteen(self.pairs.add(self.pair_bytes()), call.narrow);
                    add_biased(&mut self.sums, bias, self.x_sum);
                    self.x_sum = self.x_sum.add(C);
                    self.pairs = self.pairs.add(2 * self.pair_bytes() + call.lines * call.halves * 64);
                }
            }
        }
    }
}
