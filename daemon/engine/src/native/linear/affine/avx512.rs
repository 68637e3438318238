//! The affine kernels of AVX-512 VNNI.

#![allow(unsafe_code)]

use super::{Call, Columns, Format, GROUP_MAX, PAIRED_LIMIT, ROWS};
use crate::native::Avx512;
use crate::native::linear::columns::{Form, LOWERED};
use std::arch::x86_64::*;

/// The least that the pairs of weights of an activation group give beside inputs: 15 * -`LOWERED` each.
const PAIRS_MIN: i32 = -15 * LOWERED as i32 * GROUP_MAX as i32 / 2;

/// AVX-512 VNNI: one vector is the 16 outputs of a tile.
///
/// # Safety
/// As for `super::run`, with 1 to 12 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn avx512(kind: Avx512, bits: usize, call: &Call) {
    macro_rules! by_count {
        ($aided:literal: $($count:literal)*) => {
            match (bits, call.columns.count) {
                $((4, $count) => vnni::<$count, { apart($count) }, 4, $aided>(call),)*
                $((_, $count) => vnni::<$count, { apart($count) }, 8, $aided>(call),)*
                _ => debug_assert!(false, "1 to 12 columns"),
            }
        };
    }
    // SAFETY: passed on to the caller.
    unsafe {
        if call.columns.form == Form::Paired {
            return match call.columns.count {
                6 => paired::<6>(call),
                7 => paired::<7>(call),
                8 => paired::<8>(call),
                9 => paired::<9>(call),
                10 => paired::<10>(call),
                11 => paired::<11>(call),
                _ => paired::<12>(call),
            };
        }
        if call.columns.count <= UNAIDED && !aids_few(kind) {
            by_count!(false: 1 2)
        } else {
            by_count!(true: 1 2 3 4 5 6 7 8 9 10 11 12)
        }
    }
}

/// The tile of `call` and the one behind it, of 4-bit weights, for processors that multiply faster than they load: what is loaded
/// of a column serves both. Registers hold the sums of half of the columns.
///
/// # Safety
/// As for `super::run` of either tile, with 10 to 12 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn two(call: &Call) {
    let Columns { count, q, scale, sum, .. } = call.columns;
    debug_assert!((10..=12).contains(&count));
    for half in [0..count / 2, count / 2..count] {
        let (first, out) = (half.start, call.out.wrapping_add(half.start * call.stride));
        // SAFETY: passed on to the caller; these columns are some of the block's.
        unsafe {
            let columns = Columns { q: q.add(first), scale: scale.add(first), sum: sum.add(first), ..call.columns };
            let call = &Call { columns, out, ..*call };
            match half.len() {
                5 => sharing::<5>(call),
                _ => sharing::<6>(call),
            }
        }
    }
}

/// Sixteen scales or biases as f32.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
pub(super) unsafe fn sixteen(at: *const u8, narrow: bool) -> __m512 {
    // SAFETY: passed on to the caller: 16 values at `at`.
    unsafe {
        if narrow {
            let halves = _mm256_loadu_si256(at.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        } else {
            _mm512_loadu_ps(at.cast())
        }
    }
}

/// Integer accumulators of one column: a dot product waits four cycles for the one before it in the same register, so few
/// columns need several to keep both multipliers busy.
const fn apart(columns: usize) -> usize {
    match columns {
        1..=4 => 4,
        5..=8 => 2,
        _ => 1,
    }
}

/// So few columns wait for memory alone, which AMD's own prefetching reads faster than hints do where it is fast.
const UNAIDED: usize = 2;

/// Whether hints help few columns too: on Intel's processors they read memory at its full speed, and at 60 % of it without.
fn aids_few(kind: Avx512) -> bool {
    matches!(kind, Avx512::Amx | Avx512::Vnni)
}

/// Fetches the weights ahead of `at`.
#[inline(always)]
fn fetch_ahead<const AIDED: bool>(at: *const u8, [far, near]: [usize; 2]) {
    if !AIDED {
        return;
    }
    // SAFETY: a prefetch may point anywhere.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(far).cast());
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(near).cast());
    }
}

/// 12 to 20 integer and up to 12 float accumulators of the 32 registers; activations are memory operands.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn vnni<const C: usize, const APART: usize, const BITS: usize, const AIDED: bool>(call: &Call) {
    let nibble = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); C];
    let (mut w, mut q, mut x_scale, mut x_sum) =
        (call.tile, call.columns.q.cast_const(), call.columns.scale.cast_const(), call.columns.sum.cast_const());
    let weight_bytes = call.lines * call.halves * 64;
    let pair_bytes = ROWS * if call.narrow { 2 } else { 4 };
    // SAFETY: the loops walk the tile and the columns exactly as `Call` and `Columns` lay them out; prefetching may
    // point anywhere.
    unsafe {
        for _ in 0..call.groups {
            let pairs = w.add(weight_bytes);
            let scale = sixteen(pairs, call.narrow);
            for _ in 0..call.halves {
                let mut dots = [[_mm512_setzero_si512(); APART]; C];
                // A group has an even number of lines.
                for _ in 0..call.lines / 2 {
                    for line in 0..2 {
                        let bytes = _mm512_load_si512(w.cast());
                        fetch_ahead::<AIDED>(w, call.ahead);
                        if BITS == 4 {
                            let low = _mm512_and_si512(bytes, nibble);
                            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
                            for (c, dots) in dots.iter_mut().enumerate() {
                                let (dot, x) = (&mut dots[2 * line % APART], *q.add(c) as i32);
                                *dot = _mm512_dpbusd_epi32(*dot, low, _mm512_set1_epi32(x));
                            }
                            for (c, dots) in dots.iter_mut().enumerate() {
                                let (dot, x) = (&mut dots[(2 * line + 1) % APART], *q.add(C + c) as i32);
                                *dot = _mm512_dpbusd_epi32(*dot, high, _mm512_set1_epi32(x));
                            }
                        } else {
                            for (c, dots) in dots.iter_mut().enumerate() {
                                let (dot, x) = (&mut dots[line % APART], *q.add(c) as i32);
                                *dot = _mm512_dpbusd_epi32(*dot, bytes, _mm512_set1_epi32(x));
                            }
                        }
                        w = w.add(64);
                        q = q.add(C * 8 / BITS);
                    }
                }
                let dots =
                    dots.map(|dots| dots.into_iter().fold(_mm512_setzero_si512(), |a, b| _mm512_add_epi32(a, b)));
                add_scaled(&mut sums, dots, scale, x_scale);
                x_scale = x_scale.add(C);
            }
            let bias = sixteen(pairs.add(pair_bytes), call.narrow);
            fetch_ahead::<AIDED>(pairs, call.ahead);
            add_biased(&mut sums, bias, x_sum);
            x_sum = x_sum.add(C);
            w = pairs.add(2 * pair_bytes);
        }
        store(call, sums);
    }
}

/// Two tiles of 4-bit weights, one behind the other, times `C` columns of a block: with 6, 24 integer and float accumulators.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sharing<const C: usize>(call: &Call) {
    let nibble = _mm512_set1_epi8(15);
    let mut sums = [[_mm512_setzero_ps(); C]; 2];
    let Columns { count, q, scale, sum, .. } = call.columns;
    let (mut w, mut q, mut x_scale, mut x_sum) = (call.tile, q.cast_const(), scale.cast_const(), sum.cast_const());
    let weight_bytes = call.lines * call.halves * 64;
    let pair_bytes = ROWS * if call.narrow { 2 } else { 4 };
    let tile_bytes = call.groups * (weight_bytes + 2 * pair_bytes);
    // SAFETY: as for `vnni`, of both tiles; the columns are `C` of `count`.
    unsafe {
        for _ in 0..call.groups {
            let pairs = w.add(weight_bytes);
            for _ in 0..call.halves {
                let mut dots = [[_mm512_setzero_si512(); C]; 2];
                for _ in 0..call.lines {
                    let bytes = [_mm512_load_si512(w.cast()), _mm512_load_si512(w.add(tile_bytes).cast())];
                    fetch_ahead::<true>(w, call.ahead);
                    fetch_ahead::<true>(w.add(tile_bytes), call.ahead);
                    for c in 0..C {
                        let x = _mm512_set1_epi32(*q.add(c) as i32);
                        for (dots, bytes) in dots.iter_mut().zip(bytes) {
                            dots[c] = _mm512_dpbusd_epi32(dots[c], _mm512_and_si512(bytes, nibble), x);
                        }
                    }
                    for c in 0..C {
                        let x = _mm512_set1_epi32(*q.add(count + c) as i32);
                        for (dots, bytes) in dots.iter_mut().zip(bytes) {
                            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
                            dots[c] = _mm512_dpbusd_epi32(dots[c], high, x);
                        }
                    }
                    w = w.add(64);
                    q = q.add(2 * count);
                }
                for (t, (sums, dots)) in sums.iter_mut().zip(dots).enumerate() {
                    add_scaled(sums, dots, sixteen(pairs.add(t * tile_bytes), call.narrow), x_scale);
                }
                x_scale = x_scale.add(count);
            }
            for (t, sums) in sums.iter_mut().enumerate() {
                add_biased(sums, sixteen(pairs.add(t * tile_bytes + pair_bytes), call.narrow), x_sum);
            }
            x_sum = x_sum.add(count);
            w = pairs.add(2 * pair_bytes);
        }
        for (t, sums) in sums.into_iter().enumerate() {
            store(&Call { out: call.out.add(t * ROWS), ..*call }, sums);
        }
    }
}

/// Adds the dot products of an activation group, each times the scales of the weights and of its column.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_scaled<const C: usize>(sums: &mut [__m512; C], dots: [__m512i; C], scale: __m512, x_scale: *const f32) {
    for (c, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
        // SAFETY: passed on to the caller: a scale for each column.
        let both = _mm512_mul_ps(scale, _mm512_set1_ps(unsafe { *x_scale.add(c) }));
        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), both, *sum);
    }
}

/// Adds the biases of a weight group, each times the sum of its column.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add_biased<const C: usize>(sums: &mut [__m512; C], bias: __m512, x_sum: *const f32) {
    for (c, sum) in sums.iter_mut().enumerate() {
        // SAFETY: passed on to the caller: a sum for each column.
        *sum = _mm512_fmadd_ps(bias, _mm512_set1_ps(unsafe { *x_sum.add(c) }), *sum);
    }
}

/// Writes the sums of each column.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn store<const C: usize>(call: &Call, sums: [__m512; C]) {
    for (c, sum) in sums.into_iter().enumerate() {
        // SAFETY: passed on to the caller: 16 outputs for each column.
        unsafe { _mm512_storeu_ps(call.out.add(c * call.stride), sum) };
    }
}

/// What the pairs (v, w) of a tile's 4-bit weights give beside paired inputs: the sum of v w - LOWERED v + PAIRED_LIMIT w over
/// each activation group, less `PAIRS_MIN` so that it fits a u16, `[groups, ROWS]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn weight_pairs(format: &Format, tile: &[u8], out: &mut [u8]) {
    let (nibble, lowered) = (_mm512_set1_epi8(15), _mm512_set1_epi8(LOWERED));
    let raised = _mm512_set1_epi8(PAIRED_LIMIT);
    let groups = tile.chunks_exact(format.group_bytes()).map(|group| &group[..format.weight_bytes()]);
    let halves = groups.flat_map(|weights| weights.chunks_exact(format.group.min(GROUP_MAX) * ROWS / 2));
    for (lines, out) in halves.zip(out.as_chunks_mut::<{ 2 * ROWS }>().0) {
        let mut sums = _mm512_set1_epi32(-PAIRS_MIN);
        for line in lines.as_chunks::<64>().0 {
            // SAFETY: a line is 64 bytes.
            let bytes = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
            let v = _mm512_and_si512(bytes, nibble);
            let w = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
            sums = _mm512_dpbusd_epi32(sums, v, _mm512_sub_epi8(w, lowered));
            sums = _mm512_dpbusd_epi32(sums, w, raised);
        }
        // SAFETY: 16 outputs of two bytes.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(sums)) };
    }
}

/// Paired columns of 4-bit weights. The sums of weights and inputs take the pipes that do not multiply.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn paired<const C: usize>(call: &Call) {
    let nibble = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); C];
    let (mut w, mut w_pairs) = (call.tile, call.pairs);
    let Columns { q, scale, sum, pairs, .. } = call.columns;
    let (mut q, mut x_scale, mut x_sum, mut x_pairs) =
        (q.cast_const(), scale.cast_const(), sum.cast_const(), pairs.cast_const());
    let weight_bytes = call.lines * call.halves * 64;
    let pair_bytes = ROWS * if call.narrow { 2 } else { 4 };
    // SAFETY: as for `vnni`; the pairs of the tile are those of its activation groups.
    unsafe {
        for _ in 0..call.groups {
            let pairs = w.add(weight_bytes);
            let scale = sixteen(pairs, call.narrow);
            for _ in 0..call.halves {
                let given = _mm512_cvtepu16_epi32(_mm256_load_si256(w_pairs.cast()));
                let start = _mm512_sub_epi32(_mm512_set1_epi32(-PAIRS_MIN), given);
                let mut dots = [start; C];
                for (c, dot) in dots.iter_mut().enumerate() {
                    *dot = _mm512_sub_epi32(start, _mm512_set1_epi32(*x_pairs.add(c)));
                }
                for _ in 0..call.lines {
                    let bytes = _mm512_load_si512(w.cast());
                    fetch_ahead::<true>(w, call.ahead);
                    let low = _mm512_and_si512(bytes, nibble);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
                    for (c, dot) in dots.iter_mut().enumerate() {
                        let (x, y) = (_mm512_set1_epi32(*q.add(c) as i32), _mm512_set1_epi32(*q.add(C + c) as i32));
                        *dot = _mm512_dpbusd_epi32(*dot, _mm512_add_epi8(low, y), _mm512_add_epi8(high, x));
                    }
                    w = w.add(64);
                    q = q.add(C * 2);
                }
                add_scaled(&mut sums, dots, scale, x_scale);
                x_scale = x_scale.add(C);
                x_pairs = x_pairs.add(C);
                w_pairs = w_pairs.add(2 * ROWS);
            }
            let bias = sixteen(pairs.add(pair_bytes), call.narrow);
            fetch_ahead::<true>(pairs, call.ahead);
            add_biased(&mut sums, bias, x_sum);
            x_sum = x_sum.add(C);
            w = pairs.add(2 * pair_bytes);
        }
        store(call, sums);
    }
}
