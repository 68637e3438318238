//! Attention's products in int8: queries times keys, and probabilities times values, as `kv::int8` lays them out.
//!
//! Queries are quantized per 32 dimensions as keys are; a probability times its value's scale becomes an unsigned byte,
//! relative to the largest of its block and column. Sums of products are exact integers. Items call it in the place of
//! the float tile.

use super::softmax::largest;
use crate::native::Isa;
use crate::native::cpu::versions;
use crate::native::kv::BLOCK_TOKENS;
use crate::native::kv::int8::{GROUP, HALF, OFFSET, WIDTH, nearest, scales_of};
use crate::native::tile::{LANES, STEP};

/// Steps of a run of dimensions that share a scale.
const STEPS: usize = GROUP / WIDTH;

/// The queries of `count` columns of one head.
#[derive(Clone, Copy)]
pub(super) struct Queries {
    pub count: usize,
    /// Four dimensions of column c at step s: `s * count + c`.
    pub dwords: *mut u32,
    /// Scale of group g of column c: `g * count + c`.
    pub scales: *mut f32,
    /// What the keys' offset adds to a sum, negated: `g * count + c`.
    pub offsets: *mut i32,
}

/// One call: the keys of a block and head times the queries.
pub(super) struct Keys {
    pub queries: Queries,
    pub groups: usize,
    /// Two panels of 16 tokens.
    pub panels: *const u8,
    /// `[groups, 32 tokens]`.
    pub scales: *const f32,
    /// `[count, 32 tokens]`.
    pub scores: *mut f32,
    /// A piece of memory that will be read soon, or null.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub next: *const u8,
}

/// One call: 32 dimensions of a block's values times the weights of `count` columns.
pub(super) struct Values {
    pub count: usize,
    /// The panel, as far as tokens are seen.
    pub panel: *const u8,
    pub steps: usize,
    /// Four tokens of column c at step s: `c * LANES + s`.
    pub weights: *const u32,
    /// What a weight of 1 is worth, per column.
    pub worth: *const f32,
    /// That of column c and dimension d is `c * stride + d`.
    pub out: *mut f32,
    pub stride: usize,
    /// One factor per column for what `out` held; null overwrites it.
    pub keep: *const f32,
    /// As for `Keys`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub next: *const u8,
}

versions! {
    /// Quantizes a query as column `column`; dimensions beyond its end are zero.
    pub(super) fn quantize(q: &[f32], to: Queries, column: usize) = quantize_body
}

#[inline(always)]
#[allow(unsafe_code)]
fn quantize_body(q: &[f32], to: Queries, column: usize) {
    for (group, q) in q.chunks(GROUP).enumerate() {
        let (scale, inverse) = scales_of(q);
        let mut integers = [0i32; GROUP];
        integers.iter_mut().zip(q).for_each(|(integer, q)| *integer = nearest(q * inverse));
        let at = group * to.count + column;
        // SAFETY: the room holds every step and group of every column.
        unsafe {
            *to.scales.add(at) = scale;
            *to.offsets.add(at) = -OFFSET * integers.iter().sum::<i32>();
            for (step, four) in integers.as_chunks::<WIDTH>().0.iter().enumerate() {
                let dword = u32::from_le_bytes(four.map(|integer| integer as u8));
                *to.dwords.add((group * STEPS + step) * to.count + column) = dword;
            }
        }
    }
}

versions! {
    /// Turns a column's probabilities, of tokens whose values have these scales, into weights; returns, in `worth`, what a
    /// weight of 1 is worth.
    pub(super) fn weigh(probabilities: &[f32; LANES], scales: &[f32; LANES], weights: &mut [u32; LANES], worth: &mut f32) = weigh_body
}

#[inline(always)]
fn weigh_body(probabilities: &[f32; LANES], scales: &[f32; LANES], weights: &mut [u32; LANES], worth: &mut f32) {
    let mut scaled = [0.0f32; LANES];
    for ((scaled, probability), scale) in scaled.iter_mut().zip(probabilities).zip(scales) {
        // A token that is not seen may have the scale of the block's last owner.
        *scaled = if *probability > 0.0 { probability * scale } else { 0.0 };
    }
    let largest = largest(&scaled);
    let (one, inverse) = if largest > 1e-30 { (largest / 255.0, 255.0 / largest) } else { (0.0, 0.0) };
    let mut bytes = [0u8; LANES];
    for (byte, scaled) in bytes.iter_mut().zip(&scaled) {
        // No conversion that saturates: vectors do this.
        *byte = (scaled * inverse + 12_582_912.0).to_bits() as u8;
    }
    for (weight, four) in weights.iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
        *weight = u32::from_le_bytes(*four);
    }
    *worth = one;
}

/// Runs `call`.
///
/// # Safety
/// The pointers are valid for the sizes that `Keys` states, nobody else writes them, and this processor runs `isa`.
#[allow(unsafe_code)]
pub(super) unsafe fn keys(isa: Isa, call: &Keys) {
    match isa {
        // SAFETY: passed on to the caller.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => unsafe { x86::keys(call) },
        _ => portable_keys(isa, call),
    }
}

/// Runs `call`.
///
/// # Safety
/// As for `keys`, with at least one step.
#[allow(unsafe_code)]
pub(super) unsafe fn values(isa: Isa, call: &Values) {
    match isa {
        // SAFETY: passed on to the caller.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => unsafe { x86::values(call) },
        _ => portable_values(isa, call),
    }
}

versions! { fn portable_keys(call: &Keys) = keys_body }

#[allow(unsafe_code)]
#[inline(always)]
fn keys_body(call: &Keys) {
    let Queries { count, dwords, scales, offsets } = call.queries;
    for column in 0..count {
        for half in 0..2 {
            let mut scores = [0.0f32; HALF];
            for group in 0..call.groups {
                let at = group * count + column;
                // SAFETY: every address lies in the ranges that `Keys` states.
                unsafe {
                    let mut dots = [*offsets.add(at); HALF];
                    for step in group * STEPS..(group + 1) * STEPS {
                        let lanes = call.panels.add((half * call.groups * STEPS + step) * HALF * WIDTH);
                        let lanes = &*lanes.cast::<[[u8; WIDTH]; HALF]>();
                        let x = (*dwords.add(step * count + column)).to_le_bytes();
                        for (dot, lane) in dots.iter_mut().zip(lanes) {
                            *dot += (0..WIDTH).map(|i| i32::from(lane[i]) * i32::from(x[i] as i8)).sum::<i32>();
                        }
                    }
                    let of_keys = &*call.scales.add(group * BLOCK_TOKENS + half * HALF).cast::<[f32; HALF]>();
                    let of_query = *scales.add(at);
                    for (score, (dot, of_key)) in scores.iter_mut().zip(dots.iter().zip(of_keys)) {
                        *score += *dot as f32 * (of_key * of_query);
                    }
                }
            }
            // SAFETY: as above.
            unsafe { *call.scores.add(column * LANES + half * HALF).cast::<[f32; HALF]>() = scores };
        }
    }
}

versions! { fn portable_values(call: &Values) = values_body }

#[allow(unsafe_code)]
#[inline(always)]
fn values_body(call: &Values) {
    for column in 0..call.count {
        // SAFETY: every address lies in the ranges that `Values` states.
        unsafe {
            let mut dots = [0i32; LANES];
            for step in 0..call.steps {
                let lanes = &*call.panel.add(step * STEP).cast::<[[i8; WIDTH]; LANES]>();
                let x = (*call.weights.add(column * LANES + step)).to_le_bytes();
                for (dot, lane) in dots.iter_mut().zip(lanes) {
                    *dot += (0..WIDTH).map(|i| i32::from(lane[i]) * i32::from(x[i])).sum::<i32>();
                }
            }
            let out = &mut *call.out.add(column * call.stride).cast::<[f32; LANES]>();
            let worth = *call.worth.add(column);
            for (out, dot) in out.iter_mut().zip(dots) {
                let old = if call.keep.is_null() { 0.0 } else { *out * *call.keep.add(column) };
                *out = old + dot as f32 * worth;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{BLOCK_TOKENS, HALF, Keys, LANES, STEP, STEPS, Values};
    use std::arch::x86_64::*;

    /// One function per number of columns, 1 to 12.
    macro_rules! by_count {
        ($count:expr, $kernel:ident, $call:expr, $($number:literal)*) => {
            match $count {
                $($number => $kernel::<$number>($call),)*
                _ => debug_assert!(false, "1 to 12 columns"),
            }
        };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) unsafe fn keys(call: &Keys) {
        // SAFETY: passed on to the caller.
        unsafe { by_count!(call.queries.count, some_keys, call, 1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) unsafe fn values(call: &Values) {
        // SAFETY: passed on to the caller.
        unsafe { by_count!(call.count, some_values, call, 1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    /// 16 tokens at a time: 12 integer and 12 float accumulators.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn some_keys<const C: usize>(call: &Keys) {
        // Without a next piece the hint names what is being read, which costs nothing.
        let ahead = if call.next.is_null() { 0 } else { call.next as isize - call.panels as isize };
        // SAFETY: every address lies in the ranges that `Keys` states; a prefetch may point anywhere.
        unsafe {
            let mut lanes = call.panels;
            for half in 0..2 {
                let mut sums = [_mm512_setzero_ps(); C];
                let mut x = call.queries.dwords.cast_const();
                for group in 0..call.groups {
                    let at = group * C;
                    let mut dots = [_mm512_setzero_si512(); C];
                    for (c, dot) in dots.iter_mut().enumerate() {
                        *dot = _mm512_set1_epi32(*call.queries.offsets.add(at + c));
                    }
                    for _ in 0..STEPS {
                        _mm_prefetch::<_MM_HINT_T1>(lanes.wrapping_offset(ahead).cast());
                        let line = _mm512_load_si512(lanes.cast());
                        for (c, dot) in dots.iter_mut().enumerate() {
                            *dot = _mm512_dpbusd_epi32(*dot, line, _mm512_set1_epi32(*x.add(c) as i32));
                        }
                        lanes = lanes.add(64);
                        x = x.add(C);
                    }
                    let of_keys = call.scales.add(group * BLOCK_TOKENS + half * HALF);
                    _mm_prefetch::<_MM_HINT_T1>(of_keys.cast::<u8>().wrapping_offset(ahead).cast());
                    let of_keys = _mm512_load_ps(of_keys);
                    for (c, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
                        let both = _mm512_mul_ps(of_keys, _mm512_set1_ps(*call.queries.scales.add(at + c)));
                        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), both, *sum);
                    }
                }
                for (c, sum) in sums.into_iter().enumerate() {
                    _mm512_storeu_ps(call.scores.add(c * LANES + half * HALF), sum);
                }
            }
        }
    }

    /// Two vectors of 16 dimensions: 24 integer accumulators.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn some_values<const C: usize>(call: &Values) {
        let ahead = if call.next.is_null() { 0 } else { call.next as isize - call.panel as isize };
        // SAFETY: as for the keys.
        unsafe {
            let mut dots = [[_mm512_setzero_si512(); 2]; C];
            for step in 0..call.steps {
                let lanes = call.panel.add(step * STEP);
                for half in 0..2 {
                    _mm_prefetch::<_MM_HINT_T1>(lanes.add(64 * half).wrapping_offset(ahead).cast());
                    let line = _mm512_load_si512(lanes.add(64 * half).cast());
                    for (c, dots) in dots.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(*call.weights.add(c * LANES + step) as i32);
                        dots[half] = _mm512_dpbusd_epi32(dots[half], x, line);
                    }
                }
            }
            for (c, dots) in dots.into_iter().enumerate() {
                let worth = _mm512_set1_ps(*call.worth.add(c));
                for (half, dot) in dots.into_iter().enumerate() {
                    let out = call.out.add(c * call.stride + half * 16);
                    let old = if call.keep.is_null() {
                        _mm512_setzero_ps()
                    } else {
                        _mm512_mul_ps(_mm512_loadu_ps(out), _mm512_set1_ps(*call.keep.add(c)))
                    };
                    _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), worth, old));
                }
            }
        }
    }
}
