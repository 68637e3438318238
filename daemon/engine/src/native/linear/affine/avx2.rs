//! The affine kernels of AVX2, with and without dot products of bytes (AVX-VNNI). Its 16 registers hold the sums of a few
//! columns, so a call passes over its tile, which is in the first cache by then, once for each few of them.

#![allow(unsafe_code)]

use super::{Call, Columns, ROWS};
use crate::native::Avx2;
use crate::native::memory::share;
use std::arch::asm;
use std::arch::x86_64::*;

/// Outputs of a vector.
const LANES: usize = 8;
/// Vectors of a line.
const HALVES: usize = ROWS / LANES;

/// Any number of columns.
///
/// # Safety
/// As for `super::run`.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn avx2(kind: Avx2, bits: usize, call: &Call) {
    // An 8-bit weight whose nibbles are multiplied by themselves has two sums.
    let most = if bits == 8 && kind == Avx2::Plain { 2 } else { 4 };
    let parts = call.columns.count.div_ceil(most);
    macro_rules! by_count {
        ($kernel:ident, $count:expr, $first:expr, $($bits:pat, $width:literal: $($number:literal)*;)*) => {
            // The first pass fetches the tile for the others.
            match (bits, $count, $first == 0) {
                $($(($bits, $number, true) => $kernel::<$number, $width, true>(call, $first),)*)*
                $($(($bits, $number, false) => $kernel::<$number, $width, false>(call, $first),)*)*
                _ => debug_assert!(false, "as many columns as registers hold"),
            }
        };
    }
    for part in 0..parts {
        let columns = share(call.columns.count, part, parts);
        let (first, count) = (columns.start, columns.len());
        // SAFETY: passed on to the caller: a pool carries only what runs here. The passes take each column once.
        unsafe {
            match kind {
                Avx2::Vnni => by_count!(dots, count, first, 4, 4: 1 2 3 4; 8, 8: 1 2 3 4;),
                Avx2::Plain => by_count!(words, count, first, 4, 4: 1 2 3 4; 8, 8: 1 2;),
            }
        }
    }
}

/// Eight of sixteen scales or biases as f32, the first or the second.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn eight(at: *const u8, narrow: bool, half: usize) -> __m256 {
    // SAFETY: passed on to the caller: 16 values at `at`.
    unsafe {
        if narrow {
            let halves = _mm_loadu_si128(at.add(half * LANES * 2).cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        } else {
            _mm256_loadu_ps(at.add(half * LANES * 4).cast())
        }
    }
}

/// Adds the dot products of an activation group, each times the scales of the weights and of its column.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_scaled<const C: usize>(
    sums: &mut [[__m256; HALVES]; C],
    dots: [[__m256i; HALVES]; C],
    (scales, narrow): (*const u8, bool),
    x_scale: *const f32,
) {
    for h in 0..HALVES {
        // SAFETY: passed on to the caller: 16 scales of outputs, and one for each column.
        let scale = unsafe { eight(scales, narrow, h) };
        for (c, (sums, dots)) in sums.iter_mut().zip(dots).enumerate() {
            // SAFETY: as above.
            let both = _mm256_mul_ps(scale, _mm256_set1_ps(unsafe { *x_scale.add(c) }));
            sums[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[h]), both, sums[h]);
        }
    }
}

/// Adds the biases of a weight group, each times the sum of its column.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_biased<const C: usize>(
    sums: &mut [[__m256; HALVES]; C],
    (biases, narrow): (*const u8, bool),
    x_sum: *const f32,
) {
    for h in 0..HALVES {
        // SAFETY: passed on to the caller: 16 biases of outputs, and a sum for each column.
        let bias = unsafe { eight(biases, narrow, h) };
        for (c, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            sums[h] = _mm256_fmadd_ps(bias, _mm256_set1_ps(unsafe { *x_sum.add(c) }), sums[h]);
        }
    }
}

/// Writes the sums of the columns from `first` on.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const C: usize>(call: &Call, first: usize, sums: [[__m256; HALVES]; C]) {
    for (c, sums) in sums.into_iter().enumerate() {
        for (h, sum) in sums.into_iter().enumerate() {
            // SAFETY: passed on to the caller: 16 outputs for each column.
            unsafe { _mm256_storeu_ps(call.out.add((first + c) * call.stride + h * LANES), sum) };
        }
    }
}

/// `$name`: a tile times `C` columns from `first` on. `$add` adds unsigned bytes times signed ones to a sum, `$add_two` does so
/// twice, and after `RUN` inputs `$close` makes dot products of it. `$nibbles` says whether 8-bit weights are multiplied as two
/// nibbles, the high one worth 16.
macro_rules! kernel {
    ($(#[$note:meta])* $name:ident, $nibbles:literal, $add:expr, $add_two:expr, $close:expr) => {
        $(#[$note])*
        unsafe fn $name<const C: usize, const BITS: usize, const AIDED: bool>(call: &Call, first: usize) {
            let nibble = _mm256_set1_epi8(15);
            let Columns { count, q, scale, sum, .. } = call.columns;
            let weight_bytes = call.lines * call.halves * 64;
            let width = if call.narrow { 2 } else { 4 };
            let mut sums = [[_mm256_setzero_ps(); HALVES]; C];
            // SAFETY: the loops walk the tile and the columns exactly as `Call` and `Columns` lay them out; a prefetch may
            // point anywhere.
            unsafe {
                let mut w = call.tile;
                let (mut q, mut x_scale, mut x_sum) =
                    (q.add(first).cast_const(), scale.add(first).cast_const(), sum.add(first).cast_const());
                for _ in 0..call.groups {
                    let values = w.add(weight_bytes);
                    for _ in 0..call.halves {
                        let mut dots = [[_mm256_setzero_si256(); HALVES]; C];
                        for _ in 0..call.lines * 32 / BITS / RUN {
                            let mut lows = [[_mm256_setzero_si256(); HALVES]; C];
                            let mut highs = [[_mm256_setzero_si256(); HALVES]; C];
                            for _ in 0..RUN * BITS / 32 {
                                if AIDED {
                                    _mm_prefetch::<_MM_HINT_T1>(w.wrapping_add(call.ahead[0]).cast());
                                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(call.ahead[1]).cast());
                                }
                                let lines = [_mm256_loadu_si256(w.cast()), _mm256_loadu_si256(w.add(32).cast())];
                                let low = lines.map(|line| _mm256_and_si256(line, nibble));
                                let high = lines.map(|line| _mm256_and_si256(_mm256_srli_epi16::<4>(line), nibble));
                                for c in 0..C {
                                    let x = _mm256_set1_epi32(*q.add(c) as i32);
                                    for h in 0..HALVES {
                                        if BITS == 4 {
                                            let y = _mm256_set1_epi32(*q.add(count + c) as i32);
                                            lows[c][h] = $add_two(lows[c][h], (low[h], x), (high[h], y));
                                        } else if $nibbles {
                                            lows[c][h] = $add(lows[c][h], low[h], x);
                                            highs[c][h] = $add(highs[c][h], high[h], x);
                                        } else {
                                            lows[c][h] = $add(lows[c][h], lines[h], x);
                                        }
                                    }
                                }
                                w = w.add(64);
                                q = q.add(count * 8 / BITS);
                            }
                            for c in 0..C {
                                for h in 0..HALVES {
                                    dots[c][h] = _mm256_add_epi32(dots[c][h], $close(lows[c][h], 1));
                                    if BITS == 8 && $nibbles {
                                        dots[c][h] = _mm256_add_epi32(dots[c][h], $close(highs[c][h], 16));
                                    }
                                }
                            }
                        }
                        add_scaled(&mut sums, dots, (values, call.narrow), x_scale);
                        x_scale = x_scale.add(count);
                    }
                    add_biased(&mut sums, (values.add(ROWS * width), call.narrow), x_sum);
                    x_sum = x_sum.add(count);
                    w = values.add(2 * ROWS * width);
                }
                store(call, first, sums);
            }
        }
    };
}

/// Inputs whose products are summed in 16 bits: eight sums of two are at most 8 * 2 * 15 * 127 < 2^15.
const RUN: usize = 32;

kernel! {
    /// By dot products of four bytes.
    #[target_feature(enable = "avx2,fma,avxvnni")]
    dots, false, _mm256_dpbusd_avx_epi32,
    |sum, (v, x), (w, y)| _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(sum, v, x), w, y),
    |dots, _| dots
}

kernel! {
    /// By products of two bytes.
    #[target_feature(enable = "avx2,fma")]
    words, true, |sum, w, x| settled(_mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x))),
    |sum, (v, x), (w, y)| {
        settled(_mm256_add_epi16(sum, _mm256_add_epi16(_mm256_maddubs_epi16(v, x), _mm256_maddubs_epi16(w, y))))
    },
    |words, worth| _mm256_madd_epi16(words, _mm256_set1_epi16(worth))
}

/// The same to the processor, the end of a sum to the compiler: in the order that it would choose it runs out of registers, which
/// costs a tenth.
#[inline]
#[target_feature(enable = "avx2")]
fn settled(mut sum: __m256i) -> __m256i {
    // SAFETY: no instruction.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) sum, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}
