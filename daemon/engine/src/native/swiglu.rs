//! GPT-OSS's gate: both halves are clipped, the gate goes through x * sigmoid(1.702 x), and one is added to the other.

use super::Pool;
use super::cpu::versions;
use super::exponential::exp;
use super::memory::by_rows;

/// What neither half exceeds.
pub const SWIGLU_LIMIT: f32 = 7.0;
/// What the gate is multiplied by inside the sigmoid.
const ALPHA: f32 = 1.702;

/// out = gate' * sigmoid(1.702 gate') * (up' + 1), where gate' is at most 7 and up' between -7 and 7; `out` is
/// `[rows, width]`, row r of `gate_up` holds the gate and then the other half.
pub fn swiglu_clipped(pool: &Pool, gate_up: &[f32], width: usize, out: &mut [f32]) {
    by_rows(pool, out, width, &|first, out| {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let row = &gate_up[(first + r) * 2 * width..(first + r + 1) * 2 * width];
            clipped_row(pool.isa(), &row[..width], &row[width..], out);
        }
    });
}

versions! { fn clipped_row(gate: &[f32], up: &[f32], out: &mut [f32]) = clipped_row_body }

#[inline(always)]
pub(super) fn clipped_row_body(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let gate = if *gate > SWIGLU_LIMIT { SWIGLU_LIMIT } else { *gate };
        let up = up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT);
        *out = gate / (1.0 + exp(-ALPHA * gate)) * (up + 1.0);
    }
}
