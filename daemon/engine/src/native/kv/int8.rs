//! Keys and values in int8: where they lie in a block's unit, and how a token is written.
//!
//! A key has one scale per 32 dimensions, a value one scale. Keys come first, as two panels of 16 tokens each: a step is
//! 64 bytes, four dimensions of each token, 128 added to make them unsigned. Their scales follow, 32 tokens for each run of
//! 32 dimensions, and the scales of the values. Last come these, a panel for 32 dimensions each, whose step is four tokens
//! of each dimension. It takes 0.54 of bf16's room. Attention's `int8` reads it; `kv` writes it here.

use super::{BLOCK_TOKENS, padded};
use crate::native::cpu::versions;
use crate::native::tile::{LANES, STEP};

/// Dimensions that share a key's scale.
pub(in crate::native) const GROUP: usize = 32;
/// Inputs in a dword.
pub(in crate::native) const WIDTH: usize = 4;
/// Tokens of one panel of keys: the lanes of the widest vector.
pub(in crate::native) const HALF: usize = BLOCK_TOKENS / 2;
/// Added to a key to make it unsigned.
pub(in crate::native) const OFFSET: i32 = 128;

/// Steps of a head's keys.
pub(in crate::native) fn steps(head_dim: usize) -> usize {
    padded(head_dim) / WIDTH
}

/// First byte of the keys' scales.
pub(in crate::native) fn key_scales(head_dim: usize) -> usize {
    steps(head_dim) * STEP
}

/// First byte of the values' scales.
pub(in crate::native) fn value_scales(head_dim: usize) -> usize {
    key_scales(head_dim) + padded(head_dim) / GROUP * STEP
}

/// First byte of the values.
pub(in crate::native) fn values(head_dim: usize) -> usize {
    value_scales(head_dim) + STEP
}

/// Bytes of a unit.
pub(super) fn unit_bytes(head_dim: usize) -> usize {
    values(head_dim) + padded(head_dim) / LANES * (BLOCK_TOKENS / WIDTH) * STEP
}

versions! {
    /// Writes token `offset` of a unit. The first of four tokens clears the values of the other three.
    pub(super) fn write(unit: &mut [u32], offset: usize, k: &[f32], v: &[f32]) = write_body
}

#[inline(always)]
fn write_body(unit: &mut [u32], offset: usize, k: &[f32], v: &[f32]) {
    let dim = k.len();
    let (keys, rest) = unit.split_at_mut(key_scales(dim) / 4);
    let (scales, rest) = rest.split_at_mut((value_scales(dim) - key_scales(dim)) / 4);
    let (value_scales, panels) = rest.split_at_mut(STEP / 4);
    let panel = &mut keys[offset / HALF * steps(dim) * HALF..];
    for (group, k) in k.chunks(GROUP).enumerate() {
        let (scale, inverse) = scales_of(k);
        scales[group * BLOCK_TOKENS + offset] = scale.to_bits();
        for (step, k) in k.chunks(WIDTH).enumerate() {
            let byte = |i: usize| (k.get(i).map_or(0, |k| nearest(k * inverse)) + OFFSET) as u32 & 0xff;
            let dword = byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
            panel[(group * GROUP / WIDTH + step) * HALF + offset % HALF] = dword;
        }
    }
    let (scale, inverse) = scales_of(v);
    value_scales[offset] = scale.to_bits();
    let shift = 8 * (offset % WIDTH) as u32;
    let others = if shift == 0 { 0 } else { !(0xff << shift) };
    for (panel, v) in panels.chunks_exact_mut(BLOCK_TOKENS / WIDTH * LANES).zip(v.chunks(LANES)) {
        for (lane, v) in panel[offset / WIDTH * LANES..].iter_mut().zip(v) {
            *lane = *lane & others | (nearest(v * inverse) as u32 & 0xff) << shift;
        }
    }
}

/// The scale that takes the largest of `x` to 127, and its inverse; what is too small to invert is zero, and what is no number
/// has none for a scale.
#[inline(always)]
pub(in crate::native) fn scales_of(x: &[f32]) -> (f32, f32) {
    // Bits of what is not negative are in the order of its values, NaN above all.
    let largest = f32::from_bits(x.iter().fold(0, |largest, x| x.abs().to_bits().max(largest)));
    if largest <= 1e-30 {
        (0.0, 0.0)
    } else if largest < f32::INFINITY {
        (largest / 127.0, 127.0 / largest)
    } else {
        (f32::NAN, 0.0)
    }
}

/// Rounds to nearest, ties to even, for values of int8 size; NaN is anything of that size.
#[inline(always)]
pub(in crate::native) fn nearest(x: f32) -> i32 {
    i32::from((x + 12_582_912.0).to_bits().wrapping_sub(0x4b40_0000) as i8)
}
