//! `Layout::quantize` with vectors of AVX-512, four groups of a row at a time, and the sums of AVX2: the same bits.
//!
//! What a group needs is mostly sums over its few vectors and divisions, so the four are folded and divided together. Nothing
//! here decides how inputs are rounded or where they lie: that is the parent's.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Columns, FITTED, Form, Group, LANES, LOWERED, Layout, PAIRED_LIMIT, Sums};

/// Groups that are quantized together, and rows whose dwords are written together.
const TOGETHER: usize = 4;

/// The bytes of four groups of four rows: of each group, of each of its vectors, sixteen of each row.
type Bytes<const V: usize> = [[[__m128i; TOGETHER]; V]; TOGETHER];

/// Four groups of a row, quantized, but for their bytes.
struct Quad {
    scale: [f32; TOGETHER],
    /// The sums of the integers.
    total: [i32; TOGETHER],
    /// What their pairs give.
    pairs: [i32; TOGETHER],
}

#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn avx2(layout: &Layout, x: &[f32], columns: Columns) {
    // SAFETY: passed on to the caller.
    unsafe { layout.rows::<Avx2>(x, columns) }
}

/// With vectors of eight, which compilers do not make of the language's own loops.
struct Avx2;

impl Sums for Avx2 {
    #[inline(always)]
    fn sums<const V: usize>(x: &Group<V>, inverse: f32) -> (f32, f32) {
        // SAFETY: only `avx2` uses it.
        unsafe { sums_by_eight(x, inverse) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums_by_eight<const V: usize>(x: &Group<V>, inverse: f32) -> (f32, f32) {
    let inverse = _mm256_set1_ps(inverse);
    let (mut products, mut squares) = ([_mm256_setzero_ps(); 2], [_mm256_setzero_ps(); 2]);
    for x in x {
        for (half, x) in x.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: eight floats.
            let t = _mm256_mul_ps(unsafe { _mm256_loadu_ps(x.as_ptr()) }, inverse);
            let q = _mm256_cvtepi32_ps(_mm256_cvtps_epi32(t));
            products[half] = _mm256_add_ps(products[half], _mm256_mul_ps(t, q));
            squares[half] = _mm256_add_ps(squares[half], _mm256_mul_ps(q, q));
        }
    }
    let [products, squares] = [products, squares].map(|[low, high]| {
        let eight = _mm256_add_ps(low, high);
        _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight))
    });
    let both = _mm_add_ps(_mm_movelh_ps(products, squares), _mm_movehl_ps(squares, products));
    let both = numbers(_mm_add_ps(both, _mm_shuffle_ps::<0xb1>(both, both)));
    (both[0], both[2])
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn avx512(layout: &Layout, x: &[f32], columns: Columns) {
    for column in (0..columns.count).step_by(TOGETHER) {
        // SAFETY: passed on to the caller.
        unsafe {
            if layout.step() == FITTED {
                rows::<{ FITTED / LANES }>(layout, x, columns, column);
            } else {
                rows::<{ super::GROUP_MAX / LANES }>(layout, x, columns, column);
            }
        }
    }
}

/// Quantizes up to four rows from `column` on, whose groups have `V` vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn rows<const V: usize>(layout: &Layout, x: &[f32], columns: Columns, column: usize) {
    let (groups, halves, count) = (layout.inputs / layout.step(), layout.halves(), columns.count);
    let rows = TOGETHER.min(count - column);
    let mut sums = [0.0f32; TOGETHER];
    let mut bytes: Bytes<V> = [[[_mm_setzero_si128(); TOGETHER]; V]; TOGETHER];
    for a in (0..groups).step_by(TOGETHER) {
        let quads = TOGETHER.min(groups - a);
        for (n, sum) in sums.iter_mut().enumerate().take(rows) {
            let from = (column + n) * layout.inputs + a * V * LANES;
            let inputs = x[from..from + quads * V * LANES].as_chunks::<LANES>().0.as_chunks::<V>().0;
            let quad = quad(inputs, layout.limit, columns.form == Form::Paired, (&mut bytes, n));
            for g in 0..quads {
                let part = quad.scale[g] * quad.total[g] as f32;
                *sum = if (a + g) % halves == 0 { part } else { *sum + part };
                // SAFETY: stores stay in the block.
                unsafe {
                    *columns.scale.add((a + g) * count + column + n) = quad.scale[g];
                    *columns.sum.add((a + g) / halves * count + column + n) = *sum;
                    if columns.form == Form::Paired {
                        *columns.pairs.add((a + g) * count + column + n) = quad.pairs[g];
                    }
                }
            }
        }
        for (g, bytes) in bytes.iter().take(quads).enumerate() {
            for (v, bytes) in bytes.iter().enumerate() {
                // SAFETY: passed on to the caller.
                unsafe { write((a + g) * V + v, bytes, columns, column, rows, V) };
            }
        }
    }
}

/// Writes vector `at` of each of up to four rows from `column` on.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn write(at: usize, bytes: &[__m128i; TOGETHER], columns: Columns, column: usize, rows: usize, vectors: usize) {
    let count = columns.count;
    // SAFETY: passed on to the caller.
    unsafe {
        if columns.form == Form::Rows {
            let (group, vector) = (at / vectors, at % vectors);
            for (n, bytes) in bytes.iter().take(rows).enumerate() {
                let at = (group * count + column + n) * vectors * 4 + 4 * vector;
                _mm_storeu_si128(columns.q.add(at).cast(), *bytes);
            }
            return;
        }
        let out = columns.q.add(at * 4 * count + column);
        if count == 1 {
            return _mm_storeu_si128(out.cast(), bytes[0]);
        }
        for (s, dwords) in transposed(bytes).into_iter().enumerate() {
            if rows == TOGETHER {
                _mm_storeu_si128(out.add(s * count).cast(), dwords);
            } else {
                _mm_mask_storeu_epi32(out.add(s * count).cast(), (1 << rows) - 1, dwords);
            }
        }
    }
}

/// Four rows of dwords as four columns.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn transposed([a, b, c, d]: &[__m128i; 4]) -> [__m128i; 4] {
    let (low, high) = (
        [_mm_unpacklo_epi32(*a, *b), _mm_unpacklo_epi32(*c, *d)],
        [_mm_unpackhi_epi32(*a, *b), _mm_unpackhi_epi32(*c, *d)],
    );
    [
        _mm_unpacklo_epi64(low[0], low[1]),
        _mm_unpackhi_epi64(low[0], low[1]),
        _mm_unpacklo_epi64(high[0], high[1]),
        _mm_unpackhi_epi64(high[0], high[1]),
    ]
}

/// Sixteen inputs.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

/// Folds each of four vectors to one number by an operation of vectors, halves of the lanes with each other.
macro_rules! folded {
    ($fold:ident, $vectors:expr) => {{
        let [a, b, c, d] = $vectors;
        let ab = $fold(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
        let cd = $fold(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
        let all = $fold(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
        let all = $fold(all, _mm512_permute_ps::<0x4e>(all));
        let all = $fold(all, _mm512_permute_ps::<0xb1>(all));
        _mm512_castps512_ps128(_mm512_permutexvar_ps(
            _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0),
            all,
        ))
    }};
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_integers(a: __m512, b: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn larger(a: __m512, b: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
}

/// Quantizes up to four groups.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn quad<const V: usize>(groups: &[Group<V>], limit: i8, paired: bool, (bytes, row): (&mut Bytes<V>, usize)) -> Quad {
    // As in `magnitude`.
    let mut largest = [_mm512_setzero_ps(); TOGETHER];
    for (largest, group) in largest.iter_mut().zip(groups) {
        for x in group {
            *largest = larger(*largest, _mm512_abs_ps(load(x)));
        }
    }
    let magnitude = folded!(larger, largest);
    let (scale, inverse) =
        if V * LANES <= FITTED { fitted(groups, magnitude, limit) } else { scales(magnitude, limit) };
    let (mut totals, mut pairs) = ([_mm512_setzero_ps(); TOGETHER], [_mm_setzero_si128(); TOGETHER]);
    let shift = if paired { _mm_set1_epi64x(PAIRED_SHIFT) } else { _mm_setzero_si128() };
    let inverses = numbers(inverse);
    for (g, group) in groups.iter().enumerate() {
        let inverse = _mm512_set1_ps(inverses[g]);
        for (x, bytes) in group.iter().zip(&mut bytes[g]) {
            let integers = _mm512_cvtps_epi32(_mm512_mul_ps(load(x), inverse));
            totals[g] = add_integers(totals[g], _mm512_castsi512_ps(integers));
            bytes[row] = _mm_add_epi8(_mm512_cvtepi32_epi8(integers), shift);
            // The raised four of eight inputs meet the other four; beside those is nothing.
            pairs[g] = _mm_dpbusd_epi32(pairs[g], _mm_srli_epi64::<32>(bytes[row]), bytes[row]);
        }
    }
    let [a, b, c, d] = pairs;
    Quad {
        scale: numbers(scale),
        total: integers(_mm_castps_si128(folded!(add_integers, totals))),
        pairs: integers(_mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d))),
    }
}

/// `super::scales` of four groups.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn scales(magnitude: __m128, limit: i8) -> (__m128, __m128) {
    let limit = _mm_set1_ps(f32::from(limit));
    let any = !_mm_cmp_ps_mask::<_CMP_LE_OQ>(magnitude, _mm_set1_ps(1e-30));
    (_mm_maskz_div_ps(any, magnitude, limit), _mm_maskz_div_ps(any, limit, magnitude))
}

/// `super::fitted` of four groups.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn fitted<const V: usize>(groups: &[Group<V>], magnitude: __m128, limit: i8) -> (__m128, __m128) {
    let (wide, narrow) = (tried(groups, magnitude, limit), tried(groups, magnitude, limit - 1));
    let better = _mm_cmp_ps_mask::<_CMP_GT_OQ>(_mm_mul_ps(narrow.1, wide.2), _mm_mul_ps(wide.1, narrow.2));
    (_mm_mask_blend_ps(better, wide.0.0, narrow.0.0), _mm_mask_blend_ps(better, wide.0.1, narrow.0.1))
}

/// `super::tried` of four groups.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn tried<const V: usize>(groups: &[Group<V>], magnitude: __m128, limit: i8) -> ((__m128, __m128), __m128, __m128) {
    let (scale, inverse) = scales(magnitude, limit);
    let (mut products, mut squares) = ([_mm512_setzero_ps(); TOGETHER], [_mm512_setzero_ps(); TOGETHER]);
    let inverses = numbers(inverse);
    for (g, group) in groups.iter().enumerate() {
        let inverse = _mm512_set1_ps(inverses[g]);
        for x in group {
            let t = _mm512_mul_ps(load(x), inverse);
            let q = _mm512_cvtepi32_ps(_mm512_cvtps_epi32(t));
            products[g] = _mm512_add_ps(products[g], _mm512_mul_ps(t, q));
            squares[g] = _mm512_add_ps(squares[g], _mm512_mul_ps(q, q));
        }
    }
    let (products, squares) = (folded!(add, products), folded!(add, squares));
    let none = _mm_cmp_ps_mask::<_CMP_EQ_OQ>(squares, _mm_setzero_ps());
    let fit = _mm_mask_div_ps(_mm_set1_ps(1.0), !none, products, squares);
    let length = _mm_div_ps(products, _mm_set1_ps(f32::from(limit)));
    ((_mm_mul_ps(scale, fit), inverse), _mm_mul_ps(length, length), squares)
}

#[inline]
#[target_feature(enable = "sse2")]
fn numbers(x: __m128) -> [f32; TOGETHER] {
    let mut numbers = [0.0; TOGETHER];
    // SAFETY: four floats.
    unsafe { _mm_storeu_ps(numbers.as_mut_ptr(), x) };
    numbers
}

#[inline]
#[target_feature(enable = "sse2")]
fn integers(x: __m128i) -> [i32; TOGETHER] {
    let mut integers = [0; TOGETHER];
    // SAFETY: four integers.
    unsafe { _mm_storeu_si128(integers.as_mut_ptr().cast(), x) };
    integers
}

/// What paired columns add to eight inputs.
const PAIRED_SHIFT: i64 = i64::from_le_bytes({
    let (low, high) = ((-LOWERED) as u8, PAIRED_LIMIT as u8);
    [low, low, low, low, high, high, high, high]
});
