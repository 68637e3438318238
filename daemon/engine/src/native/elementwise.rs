//! What lies between the matrix products: norms, sums and gated activations over rows of f32.
//!
//! Each row is computed alone and in a fixed order; long inputs are divided among the pool's threads by rows.

#[cfg(test)]
mod tests;

use super::Pool;
use super::cpu::versions;
use super::exponential::exp;
use super::memory::by_rows;

/// out = x / sqrt(mean(x^2) + epsilon) * weight, for each row of `weight.len()`.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "x and out must have one shape");
    let width = weight.len();
    by_rows(pool, out, width, &|first, out| {
        // Row by row, so that the second pass finds it in the nearest cache.
        for (x, out) in x[first * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(x);
            norm_rows(pool.isa(), out, weight, epsilon);
        }
    });
}

/// out = (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias, for each row of `weight.len()`; no bias is zero.
pub fn layer_norm(pool: &Pool, x: &[f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "x and out must have one shape");
    assert!(bias.is_none_or(|bias| bias.len() == weight.len()), "one bias per weight");
    let width = weight.len();
    by_rows(pool, out, width, &|first, out| {
        let x = &x[first * width..first * width + out.len()];
        out.copy_from_slice(x);
        centre_rows(pool.isa(), out, weight, bias, epsilon);
    });
}

/// x += y.
pub fn add(pool: &Pool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "x and y must have one shape");
    by_rows(pool, x, 1, &|first, x| {
        add_rows(pool.isa(), x, &y[first..]);
    });
}

/// Adds `row` to every row of `x`.
pub fn add_to_rows(pool: &Pool, x: &mut [f32], row: &[f32]) {
    by_rows(pool, x, row.len(), &|_, rows| rows.chunks_exact_mut(row.len()).for_each(|x| add_rows(pool.isa(), x, row)));
}

versions! { fn add_rows(x: &mut [f32], y: &[f32]) = add_rows_body }

#[inline(always)]
fn add_rows_body(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// out = silu(gate) * up; `out` is `[rows, width]`, row r of the others begins at `r * stride`. For the two halves of
/// one fused product, pass it twice, the second time from `width` on.
pub fn silu_mul(pool: &Pool, gate: &[f32], up: &[f32], stride: usize, width: usize, out: &mut [f32]) {
    by_rows(pool, out, width, &|first, out| {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (first + r) * stride;
            silu_row(pool.isa(), &gate[at..at + width], &up[at..at + width], out);
        }
    });
}

versions! { pub(super) fn norm_rows(rows: &mut [f32], weight: &[f32], epsilon: f32) = norm_rows_body }

#[inline(always)]
fn norm_rows_body(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let factor = 1.0 / (sum_of_squares(row) / row.len() as f32 + epsilon).sqrt();
        for (x, weight) in row.iter_mut().zip(weight) {
            *x = *x * factor * weight;
        }
    }
}

versions! { pub(super) fn centre_rows(rows: &mut [f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32) = centre_rows_body }

#[inline(always)]
fn centre_rows_body(rows: &mut [f32], weight: &[f32], bias: Option<&[f32]>, epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mean = sum(row) / row.len() as f32;
        for x in row.iter_mut() {
            *x -= mean;
        }
        let factor = 1.0 / (sum_of_squares(row) / row.len() as f32 + epsilon).sqrt();
        for (x, weight) in row.iter_mut().zip(weight) {
            *x = *x * factor * weight;
        }
        for (x, bias) in row.iter_mut().zip(bias.unwrap_or_default()) {
            *x += bias;
        }
    }
}

/// 32 interleaved sums, added from first to last.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    lanes.into_iter().sum()
}

/// The same of squares.
#[inline(always)]
pub(super) fn sum_of_squares(row: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    lanes.into_iter().sum()
}

versions! { fn silu_row(gate: &[f32], up: &[f32], out: &mut [f32]) = silu_row_body }

#[inline(always)]
pub(super) fn silu_row_body(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}
