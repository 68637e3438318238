//! The affine kernel of Arm NEON with int8 dot products.

#![allow(unsafe_code)]

use super::{Call, ROWS};
use std::arch::aarch64::*;
use std::arch::asm;

/// Four vectors of 4 outputs, at most 3 columns.
///
/// # Safety
/// As for `super::run`, with 1 to 3 columns.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn neon(bits: usize, call: &Call) {
    // SAFETY: passed on to the caller.
    unsafe {
        match (bits, call.columns.count) {
            (4, 1) => nibbles::<1, 4>(call),
            (4, 2) => nibbles::<2, 4>(call),
            (4, _) => nibbles::<3, 4>(call),
            (_, 1) => nibbles::<1, 8>(call),
            (_, 2) => nibbles::<2, 8>(call),
            _ => nibbles::<3, 8>(call),
        }
    }
}

/// sum + the four-byte dot products of `a` and `b`: `sdot`, whose intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers, present because `dotprod` is enabled.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Asks for a cache line; the address may be anything.
#[inline]
fn prefetch(at: *const u8) {
    // SAFETY: a hint, which never faults.
    unsafe { asm!("prfm pldl1keep, [{0}]", in(reg) at, options(readonly, nostack, preserves_flags)) };
}

/// Four scales or biases as f32.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four(at: *const u8, narrow: bool) -> float32x4_t {
    // SAFETY: passed on to the caller: 4 values at `at`.
    unsafe {
        if narrow {
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(vld1_u16(at.cast()))))
        } else {
            vld1q_f32(at.cast())
        }
    }
}

/// A nibble fits a signed byte; an 8-bit weight is two nibbles, the high one worth 16.
#[target_feature(enable = "neon,dotprod")]
unsafe fn nibbles<const C: usize, const BITS: usize>(call: &Call) {
    let mask = vdupq_n_u8(15);
    let mut sums = [[vdupq_n_f32(0.0); 4]; C];
    let (mut w, mut q, mut x_scale, mut x_sum) =
        (call.tile, call.columns.q.cast_const(), call.columns.scale.cast_const(), call.columns.sum.cast_const());
    let width = if call.narrow { 2 } else { 4 };
    // SAFETY: the loops walk the tile and the columns exactly as `Call` and `Columns` lay them out.
    unsafe {
        for _ in 0..call.groups {
            let values = w.add(call.lines * call.halves * 64);
            for _ in 0..call.halves {
                let mut low_dots = [[vdupq_n_s32(0); 4]; C];
                let mut high_dots = low_dots;
                for _ in 0..call.lines {
                    for part in 0..4 {
                        let line = vld1q_u8(w.add(16 * part));
                        let low = vreinterpretq_s8_u8(vandq_u8(line, mask));
                        let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(line));
                        for c in 0..C {
                            let x = |at: usize| vreinterpretq_s8_u32(vdupq_n_u32(*q.add(at)));
                            low_dots[c][part] = dot(low_dots[c][part], low, x(c));
                            if BITS == 4 {
                                low_dots[c][part] = dot(low_dots[c][part], high, x(C + c));
                            } else {
                                high_dots[c][part] = dot(high_dots[c][part], high, x(c));
                            }
                        }
                    }
                    prefetch(w.wrapping_add(call.ahead[1]));
                    w = w.add(64);
                    q = q.add(C * 8 / BITS);
                }
                for c in 0..C {
                    for part in 0..4 {
                        let total = vaddq_s32(low_dots[c][part], vshlq_n_s32::<4>(high_dots[c][part]));
                        let both = vmulq_n_f32(four(values.add(4 * part * width), call.narrow), *x_scale.add(c));
                        sums[c][part] = vfmaq_f32(sums[c][part], vcvtq_f32_s32(total), both);
                    }
                }
                x_scale = x_scale.add(C);
            }
            for (c, sums) in sums.iter_mut().enumerate() {
                for (part, sum) in sums.iter_mut().enumerate() {
                    let bias = four(values.add((ROWS + 4 * part) * width), call.narrow);
                    *sum = vfmaq_n_f32(*sum, bias, *x_sum.add(c));
                }
            }
            x_sum = x_sum.add(C);
            w = values.add(2 * ROWS * width);
        }
        for (c, sums) in sums.into_iter().enumerate() {
            for (part, sum) in sums.into_iter().enumerate() {
                vst1q_f32(call.out.add(c * call.stride + 4 * part), sum);
            }
        }
    }
}
