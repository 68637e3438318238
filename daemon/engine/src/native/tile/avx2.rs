//! The float kernel of AVX2. Its 16 registers hold eight sums of eight lanes beside their operands: all lanes of up to two
//! columns, or half of them of up to four, so a call passes over its panel, which is in the first cache by then, as often as it needs.

#![allow(unsafe_code)]

use super::{APART, Call, STEP};
use crate::native::memory::share;
use std::arch::x86_64::*;

/// Lanes of a vector.
const WIDTH: usize = 8;

/// Any number of columns against one panel, of bf16 pairs or of f32.
///
/// # Safety
/// As for `super::run`.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<const PAIRS: bool>(call: &Call) {
    // SAFETY: passed on to the caller.
    unsafe { if call.apart == 0 { passes::<PAIRS, false>(call) } else { passes::<PAIRS, true>(call) } }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn passes<const PAIRS: bool, const LIE_APART: bool>(call: &Call) {
    let parts = call.count.div_ceil(4);
    // SAFETY: passed on to the caller; the passes take each column and each lane once.
    unsafe {
        match call.count {
            1 => pass::<1, 4, PAIRS, LIE_APART>(call, 0, 0),
            2 => pass::<2, 4, PAIRS, LIE_APART>(call, 0, 0),
            _ => {
                for part in 0..parts {
                    let columns = share(call.count, part, parts);
                    for vector in [0, 2] {
                        match columns.len() {
                            2 => pass::<2, 2, PAIRS, LIE_APART>(call, columns.start, vector),
                            3 => pass::<3, 2, PAIRS, LIE_APART>(call, columns.start, vector),
                            _ => pass::<4, 2, PAIRS, LIE_APART>(call, columns.start, vector),
                        }
                    }
                }
            }
        }
    }
}

/// `C` columns from `first` on times `V` vectors of the panel from `vector` on.
#[target_feature(enable = "avx2,fma")]
unsafe fn pass<const C: usize, const V: usize, const PAIRS: bool, const LIE_APART: bool>(
    call: &Call,
    first: usize,
    vector: usize,
) {
    let (step_apart, column_apart) = if LIE_APART { (1, APART) } else { (call.count, 1) };
    let mut sums = [[_mm256_setzero_ps(); V]; C];
    // SAFETY: every address lies in the ranges that `Call` states; a prefetch may point anywhere.
    unsafe {
        let out = |c: usize, v: usize| call.out.add((first + c) * call.stride + (vector + v) * WIDTH);
        if !call.keep.is_null() {
            for (c, sums) in sums.iter_mut().enumerate() {
                let factor = _mm256_set1_ps(*call.keep.add(first + c));
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_mul_ps(_mm256_loadu_ps(out(c, v)), factor);
                }
            }
        }
        let mut columns = call.columns.add(first * column_apart);
        let mut panel = call.panel.add(vector * WIDTH * 4);
        // The first pass fetches what comes next.
        let mut next = if first + vector == 0 { call.next } else { std::ptr::null() };
        for _ in 0..call.steps {
            if !next.is_null() {
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64).cast());
                next = next.wrapping_add(STEP);
            }
            for half in 0..if PAIRS { 2 } else { 1 } {
                let lanes: [__m256; V] = std::array::from_fn(|v| open::<PAIRS>(panel.add(v * WIDTH * 4), half));
                for (c, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*columns.add(c * column_apart).cast());
                    for (sum, lanes) in sums.iter_mut().zip(lanes) {
                        *sum = if PAIRS {
                            _mm256_fmadd_ps(lanes, x, *sum)
                        } else {
                            _mm256_add_ps(*sum, _mm256_mul_ps(lanes, x))
                        };
                    }
                }
                columns = columns.add(step_apart);
            }
            panel = panel.add(STEP);
        }
        for (c, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(out(c, v), sum);
            }
        }
    }
}

/// Eight lanes of a panel: f32, or the first or the second of each pair of bf16.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn open<const PAIRS: bool>(at: *const u8, half: usize) -> __m256 {
    // SAFETY: passed on to the caller: 32 bytes at `at`.
    let dwords = unsafe { _mm256_loadu_si256(at.cast()) };
    _mm256_castsi256_ps(match (PAIRS, half) {
        (true, 0) => _mm256_slli_epi32::<16>(dwords),
        (true, _) => _mm256_and_si256(dwords, _mm256_set1_epi32(0xffff_0000_u32 as i32)),
        (false, _) => dwords,
    })
}
