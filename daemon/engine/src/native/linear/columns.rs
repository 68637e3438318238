//! Activation rows quantized to int8 and interleaved for the affine kernels.
//!
//! x is taken as scale * q with whole numbers q up to a limit, one scale per group of at most 64 inputs. Rows become the
//! *columns* of a block that one kernel call holds in registers. The sum that meets the weights' bias is that of the quantized
//! activations: with the sum of the originals the weights are no longer centred, and the error triples.
//!
//! The smallest groups are *fitted*, so that no more of their inputs is lost than in llama.cpp: of two limits they take the one
//! that leaves less of x out, and then the best scale for those q. That is 6 % less error of normally distributed inputs.
//!
//! Columns may be *paired*, for `affine`'s products of pairs: then inputs 8i..8i+4 lie 8 lower and 8i+4..8i+8 are raised to
//! 0..=240 by `PAIRED_LIMIT`, and each group knows what its own pairs give without any weights.

use crate::native::Isa;
use crate::native::memory::lines;

/// Inputs per activation group at most.
pub(super) const GROUP_MAX: usize = 64;

/// Inputs of a group that is fitted, at most.
pub(super) const FITTED: usize = 32;

/// Inputs that are looked at together; groups are multiples of it.
const LANES: usize = 16;

/// The limit of what may be paired: with a weight of 15 added, an input that is raised by as much still fits a byte.
pub(super) const PAIRED_LIMIT: i8 = 120;
/// By this an input that is not raised lies lower, so that a weight of 15 added to the limit fits a signed byte.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) const LOWERED: i8 = 8;

/// How a block of columns lies in memory.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub inputs: usize,
    /// Inputs per weight group.
    pub group: usize,
    /// Columns of a full block.
    pub columns_max: usize,
    /// The largest q.
    pub limit: i8,
}

/// How the inputs of a block's columns lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Side by side, as vectors of outputs meet one dword of each.
    Beside,
    /// So, and paired.
    Paired,
    /// Activation group after group, and in it column after column, as rows of a tile unit.
    Rows,
}

/// One block: `count` columns.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub count: usize,
    /// Dwords of four inputs: that of inputs 4s.. of column c is `s * count + c`, but for `Form::Rows`.
    pub q: *mut u32,
    /// That of activation group a is `a * count + c`.
    pub scale: *mut f32,
    /// Sum over weight group g of scale * q: `g * count + c`.
    pub sum: *mut f32,
    pub form: Form,
    /// Of paired columns, the sum over activation group a of what pairs of its inputs give, as stored: `a * count + c`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub pairs: *mut i32,
}

impl Layout {
    /// Inputs per activation group.
    pub(super) fn step(&self) -> usize {
        self.group.min(GROUP_MAX)
    }

    /// Activation groups per weight group: 1 or 2.
    pub(super) fn halves(&self) -> usize {
        self.group / self.step()
    }

    /// Bytes of one block, whole cache lines.
    pub(super) fn block_bytes(&self) -> usize {
        let words = 2 * self.inputs / self.step() + self.inputs / self.group;
        lines(self.columns_max * self.inputs) + lines(self.columns_max * words * 4)
    }

    /// The block of `count` columns at `base`; all but `Form::Beside` are for AVX-512.
    ///
    /// # Safety
    /// `base` is aligned to 4 and has `block_bytes` bytes.
    #[allow(unsafe_code)]
    pub(super) unsafe fn block(&self, base: *mut u8, count: usize, form: Form) -> Columns {
        let groups = self.inputs / self.step();
        // SAFETY: the four parts together are at most `block_bytes`.
        unsafe {
            let scale = base.add(lines(self.columns_max * self.inputs)).cast::<f32>();
            let pairs = scale.add(count * groups).cast::<i32>();
            Columns { count, q: base.cast(), scale, sum: pairs.add(count * groups).cast(), form, pairs }
        }
    }

    /// Quantizes `x`, `[columns.count, inputs]`.
    ///
    /// # Safety
    /// `columns` came from `block` of this layout, no other thread uses it, and this processor runs `isa`.
    #[allow(unsafe_code)]
    pub(super) unsafe fn quantize(&self, isa: Isa, x: &[f32], columns: Columns) {
        debug_assert_eq!(x.len(), columns.count * self.inputs);
        // SAFETY: passed on to the caller.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(_) => x86::avx512(self, x, columns),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(_) => x86::avx2(self, x, columns),
                _ => self.rows(x, columns),
            }
        }
    }

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn rows(&self, x: &[f32], columns: Columns) {
        for (column, row) in x.chunks_exact(self.inputs).enumerate() {
            // SAFETY: passed on to the caller.
            unsafe { self.row(row, columns, column) };
        }
    }

    /// Quantizes one row as `column`.
    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn row(&self, row: &[f32], columns: Columns, column: usize) {
        debug_assert_eq!(columns.form, Form::Beside, "the others are for AVX-512");
        let (step, halves) = (self.step(), self.halves());
        let mut sum = 0.0;
        for (a, x) in row.chunks_exact(step).enumerate() {
            let mut q = [0i8; GROUP_MAX];
            let (scale, total) = quantize_group(x, self.limit, &mut q);
            sum = if a % halves == 0 { scale * total as f32 } else { sum + scale * total as f32 };
            // SAFETY: all indices lie in the block; bytes of `q` make whole dwords.
            unsafe {
                for (s, dword) in q[..step].chunks_exact(4).enumerate() {
                    let bytes = [dword[0] as u8, dword[1] as u8, dword[2] as u8, dword[3] as u8];
                    *columns.q.add((a * step / 4 + s) * columns.count + column) = u32::from_le_bytes(bytes);
                }
                *columns.scale.add(a * columns.count + column) = scale;
                *columns.sum.add(a / halves * columns.count + column) = sum;
            }
        }
    }
}

/// Quantizes one group; returns its scale and the sum of the integers. A group with a number that is none has no number for a
/// scale, so that none of its outputs is one: zero in its place would hide that weights are damaged.
#[inline(always)]
fn quantize_group(x: &[f32], limit: i8, q: &mut [i8; GROUP_MAX]) -> (f32, i32) {
    let magnitude = magnitude(x);
    let (scale, inverse) =
        if x.len() <= FITTED { fitted(magnitude, limit, |inverse| sums(x, inverse)) } else { scales(magnitude, limit) };
    let mut total = 0;
    for (q, x) in q.iter_mut().zip(x) {
        let integer = nearest(x * inverse);
        total = i32::wrapping_add(total, integer);
        *q = integer as i8;
    }
    (scale, total)
}

/// The largest absolute value, NaN above all: bits of what is not negative are in the order of its values. Lanes keep the loop
/// vectorisable.
#[inline(always)]
fn magnitude(x: &[f32]) -> f32 {
    let mut lanes = [0u32; LANES];
    for x in x.chunks_exact(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = x.abs().to_bits().max(*lane);
        }
    }
    f32::from_bits(lanes.into_iter().fold(0, u32::max))
}

/// Scale and its inverse for a group; one too small to invert is taken as zero.
#[inline(always)]
fn scales(magnitude: f32, limit: i8) -> (f32, f32) {
    let limit = f32::from(limit);
    if magnitude <= 1e-30 { (0.0, 0.0) } else { (magnitude / limit, limit / magnitude) }
}

/// As `scales`, of `limit` or one less, with the scale that leaves least of x out: that is sum(x q) / sum(q q), and what it leaves
/// out of the sum of squares is all but sum(x q)^2 / sum(q q). `sums(inverse)` gives both sums of t = x * inverse in place of x.
#[inline(always)]
fn fitted(magnitude: f32, limit: i8, sums: impl Fn(f32) -> (f32, f32)) -> (f32, f32) {
    let [wide, narrow] = [limit, limit - 1].map(|limit| {
        let (scale, inverse) = scales(magnitude, limit);
        let (products, squares) = sums(inverse);
        let fit = if squares == 0.0 { 1.0 } else { products / squares };
        let length = products / f32::from(limit);
        ((scale * fit, inverse), length * length, squares)
    });
    if narrow.1 * wide.2 > wide.1 * narrow.2 { narrow.0 } else { wide.0 }
}

/// The sums of t q and of q q over a group, t being x * inverse and q the whole number next to it. Halves of the lanes are added to
/// each other, as vectors are.
#[inline(always)]
fn sums(x: &[f32], inverse: f32) -> (f32, f32) {
    let (mut products, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
    for x in x.chunks_exact(LANES) {
        for ((x, product), square) in x.iter().zip(&mut products).zip(&mut squares) {
            let (t, q) = (x * inverse, nearest(x * inverse) as f32);
            *product += t * q;
            *square += q * q;
        }
    }
    let sum = |mut lanes: [f32; LANES]| {
        for half in [8, 4, 2, 1] {
            let (left, right) = lanes.split_at_mut(half);
            left.iter_mut().zip(right).for_each(|(left, right)| *left += *right);
        }
        lanes[0]
    };
    (sum(products), sum(squares))
}

/// Rounds to nearest, ties to even, for values of int8 size: adding 1.5 * 2^23 leaves the integer in the low bits.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    (x + 12_582_912.0).to_bits().wrapping_sub(0x4b40_0000) as i32
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{Columns, FITTED, Form, GROUP_MAX, LANES, LOWERED, Layout, PAIRED_LIMIT, fitted, scales};
    use std::arch::x86_64::*;

    /// Rows whose dwords are written together.
    const TOGETHER: usize = 4;

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(layout: &Layout, x: &[f32], columns: Columns) {
        // SAFETY: passed on to the caller.
        unsafe { layout.rows(x, columns) }
    }

    /// `Layout::rows` with vectors of 16; the same bits, and pairs.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) unsafe fn avx512(layout: &Layout, x: &[f32], columns: Columns) {
        let whole = columns.count / TOGETHER * TOGETHER;
        // SAFETY: passed on to the caller.
        unsafe {
            for column in (0..whole).step_by(TOGETHER) {
                rows::<TOGETHER>(layout, x, columns, column);
            }
            for column in whole..columns.count {
                rows::<1>(layout, x, columns, column);
            }
        }
    }

    /// Quantizes `N` rows from `column` on, 1 or `TOGETHER`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn rows<const N: usize>(layout: &Layout, x: &[f32], columns: Columns, column: usize) {
        let (step, halves, count) = (layout.step(), layout.halves(), columns.count);
        let paired = columns.form == Form::Paired;
        let mut sums = [0.0f32; N];
        for a in 0..layout.inputs / step {
            // Sixteen inputs of each row.
            let mut bytes = [[_mm_setzero_si128(); N]; GROUP_MAX / LANES];
            // SAFETY: loads stay in the rows, stores in the block.
            unsafe {
                for (n, sum) in sums.iter_mut().enumerate() {
                    let x = &x[(column + n) * layout.inputs + a * step..][..step];
                    let (row, scale, total, pairs) = group(x, layout.limit, paired);
                    bytes.iter_mut().zip(row).for_each(|(bytes, row)| bytes[n] = row);
                    let part = scale * total as f32;
                    *sum = if a % halves == 0 { part } else { *sum + part };
                    *columns.scale.add(a * count + column + n) = scale;
                    *columns.sum.add(a / halves * count + column + n) = *sum;
                    if paired {
                        *columns.pairs.add(a * count + column + n) = pairs;
                    }
                }
                for (v, bytes) in bytes.into_iter().take(step / LANES).enumerate() {
                    if columns.form == Form::Rows {
                        for (n, bytes) in bytes.into_iter().enumerate() {
                            let at = (a * count + column + n) * step / 4 + 4 * v;
                            _mm_storeu_si128(columns.q.add(at).cast(), bytes);
                        }
                        continue;
                    }
                    write(bytes, columns.q.add((a * step / 4 + 4 * v) * count + column), count);
                }
            }
        }
    }

    /// Writes four dwords of each of `N` rows, which lie side by side, `count` dwords from one to the next.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn write<const N: usize>(rows: [__m128i; N], out: *mut u32, count: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            if let Some(rows) = rows.first_chunk::<TOGETHER>() {
                for (s, dwords) in transposed(*rows).into_iter().enumerate() {
                    _mm_storeu_si128(out.add(s * count).cast(), dwords);
                }
            } else {
                let mut dwords = [0u32; 4];
                _mm_storeu_si128(dwords.as_mut_ptr().cast(), rows[0]);
                for (s, dword) in dwords.into_iter().enumerate() {
                    *out.add(s * count) = dword;
                }
            }
        }
    }

    /// Sixteen inputs.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(x: &[f32; LANES]) -> __m512 {
        // SAFETY: 16 floats.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    /// `super::sums` with vectors; the same bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn sums(x: &[[f32; LANES]], inverse: f32) -> (f32, f32) {
        let inverse = _mm512_set1_ps(inverse);
        let (mut products, mut squares) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for x in x {
            let t = _mm512_mul_ps(load(x), inverse);
            let q = _mm512_cvtepi32_ps(_mm512_cvtps_epi32(t));
            products = _mm512_add_ps(products, _mm512_mul_ps(t, q));
            squares = _mm512_add_ps(squares, _mm512_mul_ps(q, q));
        }
        (_mm512_reduce_add_ps(products), _mm512_reduce_add_ps(squares))
    }

    /// Quantizes a group; returns its bytes, its scale, the sum of the integers and what its pairs give.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn group(x: &[f32], limit: i8, paired: bool) -> ([__m128i; GROUP_MAX / LANES], f32, i32, i32) {
        let x = x.as_chunks::<LANES>().0;
        // As in `magnitude`.
        let mut largest = _mm512_setzero_si512();
        for x in x {
            largest = _mm512_max_epu32(largest, _mm512_castps_si512(_mm512_abs_ps(load(x))));
        }
        let magnitude = f32::from_bits(_mm512_reduce_max_epu32(largest));
        let (scale, inverse) = if x.len() * LANES <= FITTED {
            fitted(magnitude, limit, |inverse| sums(x, inverse))
        } else {
            scales(magnitude, limit)
        };
        let inverse = _mm512_set1_ps(inverse);
        let shift = if paired { _mm_set1_epi64x(PAIRED_SHIFT) } else { _mm_setzero_si128() };
        let mut bytes = [_mm_setzero_si128(); GROUP_MAX / LANES];
        let (mut total, mut pairs) = (_mm512_setzero_si512(), _mm_setzero_si128());
        for (x, bytes) in x.iter().zip(&mut bytes) {
            let integers = _mm512_cvtps_epi32(_mm512_mul_ps(load(x), inverse));
            total = _mm512_add_epi32(total, integers);
            *bytes = _mm_add_epi8(_mm512_cvtepi32_epi8(integers), shift);
            // The raised four of eight inputs meet the other four; beside those is nothing.
            pairs = _mm_dpbusd_epi32(pairs, _mm_srli_epi64::<32>(*bytes), *bytes);
        }
        let pairs = _mm_extract_epi32::<0>(pairs) + _mm_extract_epi32::<2>(pairs);
        (bytes, scale, _mm512_reduce_add_epi32(total), pairs)
    }

    /// Four rows of dwords as four columns.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn transposed([a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
        let (low, high) = (
            [_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d)],
            [_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d)],
        );
        [
            _mm_unpacklo_epi64(low[0], low[1]),
            _mm_unpackhi_epi64(low[0], low[1]),
            _mm_unpacklo_epi64(high[0], high[1]),
            _mm_unpackhi_epi64(high[0], high[1]),
        ]
    }

    /// What paired columns add to eight inputs.
    const PAIRED_SHIFT: i64 = i64::from_le_bytes({
        let (low, high) = ((-LOWERED) as u8, PAIRED_LIMIT as u8);
        [low, low, low, low, high, high, high, high]
    });
}
