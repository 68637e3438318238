//! The affine kernel in portable code: the fallback, and the reference of the others.

use super::{Call, ROWS};
use crate::native::from_bf16;

/// A tile times a block of columns.
///
/// # Safety
/// As for `super::run`.
#[allow(unsafe_code)]
pub(super) unsafe fn scalar(bits: usize, call: &Call) {
    let count = call.columns.count;
    let weight_bytes = call.lines * call.halves * 64;
    let group_bytes = weight_bytes + 2 * ROWS * if call.narrow { 2 } else { 4 };
    for c in 0..count {
        let mut sums = [0.0f32; ROWS];
        for g in 0..call.groups {
            // SAFETY: groups lie one after another in the tile; column data as `Columns` states.
            unsafe {
                let group = call.tile.add(g * group_bytes);
                for h in 0..call.halves {
                    let a = g * call.halves + h;
                    let lines = group.add(h * call.lines * 64);
                    let dots = dots(
                        bits,
                        lines,
                        call.lines,
                        call.columns.q.add(a * call.lines * (8 / bits) * count + c),
                        count,
                    );
                    let x_scale = *call.columns.scale.add(a * count + c);
                    for r in 0..ROWS {
                        let scale = value(group.add(weight_bytes), r, call.narrow);
                        sums[r] = (dots[r] as f32).mul_add(scale * x_scale, sums[r]);
                    }
                }
                let x_sum = *call.columns.sum.add(g * count + c);
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = value(group.add(weight_bytes), ROWS + r, call.narrow).mul_add(x_sum, *sum);
                }
            }
        }
        // SAFETY: the outputs of this tile and column.
        unsafe { call.out.add(c * call.stride).cast::<[f32; ROWS]>().write_unaligned(sums) };
    }
}

/// Integer dot products of `lines` lines with one column, whose dwords lie `apart` from each other.
#[allow(unsafe_code)]
unsafe fn dots(bits: usize, lines: *const u8, count: usize, q: *const u32, apart: usize) -> [i32; ROWS] {
    let mut dots = [0i32; ROWS];
    for v in 0..count {
        // SAFETY: `count` lines of 64 bytes, and one or two dwords for each.
        let (line, first, second) = unsafe {
            let line = &*lines.add(v * 64).cast::<[[u8; 4]; ROWS]>();
            let dwords = 8 / bits;
            (line, *q.add(v * dwords * apart), *q.add((v * dwords + dwords - 1) * apart))
        };
        let (first, second) = (first.to_le_bytes(), second.to_le_bytes());
        for (dot, bytes) in dots.iter_mut().zip(line) {
            for (byte, (first, second)) in bytes.iter().zip(first.into_iter().zip(second)) {
                let (first, second) = (i32::from(first as i8), i32::from(second as i8));
                if bits == 4 {
                    *dot += i32::from(byte & 15) * first + i32::from(byte >> 4) * second;
                } else {
                    *dot += i32::from(*byte) * first;
                }
            }
        }
    }
    dots
}

/// Scale or bias `index` of a group.
#[allow(unsafe_code)]
unsafe fn value(pairs: *const u8, index: usize, narrow: bool) -> f32 {
    // SAFETY: 2 * ROWS values, aligned to their size.
    unsafe { if narrow { from_bf16(*pairs.cast::<u16>().add(index)) } else { *pairs.cast::<f32>().add(index) } }
}
