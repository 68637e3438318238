//! Gates that open by a sigmoid: of attention's heads, and of an MLP beside experts.
//!
//! Each row is computed alone.

use super::Pool;
use super::cpu::versions;
use super::exponential::exp;
use super::memory::by_rows;

/// x *= sigmoid(gate), for rows of `width`; a row has as many gates as numbers, or one.
pub fn open(pool: &Pool, gates: &[f32], x: &mut [f32], width: usize) {
    if x.is_empty() {
        return;
    }
    let each = gates.len() * width / x.len();
    assert!(each == width || each == 1, "{each} gates for a row of {width}");
    by_rows(pool, x, width, &|first, x| {
        for (r, x) in x.chunks_exact_mut(width).enumerate() {
            let gates = &gates[(first + r) * each..(first + r + 1) * each];
            open_row(pool.isa(), gates, x);
        }
    });
}

versions! { fn open_row(gates: &[f32], x: &mut [f32]) = open_row_body }

#[inline(always)]
fn open_row_body(gates: &[f32], x: &mut [f32]) {
    if gates.len() == x.len() {
        for (x, gate) in x.iter_mut().zip(gates) {
            *x *= 1.0 / (1.0 + exp(-gate));
        }
    } else {
        let factor = 1.0 / (1.0 + exp(-gates[0]));
        for x in x {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_opens_its_number_or_its_row() {
        let pool = Pool::new(1);
        let mut x = [2.0, 4.0, -2.0, 8.0];
        open(&pool, &[0.0, 100.0, -100.0, 0.0], &mut x, 2);
        assert_eq!(x[..2], [1.0, 4.0]);
        assert!(x[2].abs() < 1e-30 && x[3] == 4.0, "{x:?}");
        open(&pool, &[0.0, 100.0], &mut x, 2);
        assert_eq!(x[..2], [0.5, 2.0]);
        assert_eq!(x[3], 4.0);
    }
}
