//! One small matrix for each head: what brings queries into a latent and values out of it.
//!
//! Weights are bf16 under `Fast` and f32 under `Exact`; activations and sums are f32. Each output is summed over its inputs
//! from first to last, so a row's numbers depend on that row alone.

#[cfg(test)]
mod tests;

use super::cpu::versions;
use super::memory::Shared;
use super::{Pool, Precision, from_bf16, to_bf16};

/// Outputs that are summed at once.
const LANES: usize = 64;
/// Rows that share what is read of a matrix.
const ROWS: usize = 4;

/// A matrix `[outputs, inputs]` for each head.
pub struct PerHead {
    numbers: Numbers,
    heads: usize,
    inputs: usize,
    outputs: usize,
}

/// `[heads, inputs, outputs]`, outputs padded to whole lanes.
enum Numbers {
    Bf16(Vec<u16>),
    F32(Vec<f32>),
}

/// Where the heads of each row lie.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// f32 between rows.
    pub stride: usize,
    /// f32 before the first head.
    pub offset: usize,
    /// f32 between heads.
    pub step: usize,
}

impl PerHead {
    /// Packs matrices of so many heads, outputs and inputs; `weights(head, output, row)` gives those of one output.
    pub fn pack(
        (heads, outputs, inputs): (usize, usize, usize),
        precision: Precision,
        mut weights: impl FnMut(usize, usize, &mut [f32]),
    ) -> PerHead {
        let padded = outputs.next_multiple_of(LANES);
        let mut numbers = match precision {
            Precision::Fast => Numbers::Bf16(vec![0; heads * inputs * padded]),
            Precision::Exact => Numbers::F32(vec![0.0; heads * inputs * padded]),
        };
        let mut row = vec![0.0; inputs];
        for head in 0..heads {
            for output in 0..outputs {
                weights(head, output, &mut row);
                for (input, weight) in row.iter().enumerate() {
                    let at = (head * inputs + input) * padded + output;
                    match &mut numbers {
                        Numbers::Bf16(numbers) => numbers[at] = to_bf16(*weight),
                        Numbers::F32(numbers) => numbers[at] = *weight,
                    }
                }
            }
        }
        PerHead { numbers, heads, inputs, outputs }
    }

    /// y = W x for each head of each of `rows` rows; what lies between the heads of `y` stays.
    pub fn forward(&self, pool: &Pool, x: (&[f32], Places), y: (&mut [f32], Places), rows: usize) {
        if rows == 0 {
            return;
        }
        let fits = |numbers: &[f32], places: Places, width: usize| {
            let last = (rows - 1) * places.stride + places.offset + (self.heads - 1) * places.step + width;
            numbers.len() >= last && places.step >= width && places.stride >= (self.heads - 1) * places.step + width
        };
        assert!(fits(x.0, x.1, self.inputs) && fits(y.0, y.1, self.outputs), "every head of {rows} rows");
        let tiles = rows.div_ceil(ROWS);
        let out = Shared::new(y.0);
        let work = |index: usize| {
            let (head, tile) = (index / tiles, index % tiles);
            let rows = tile * ROWS..rows.min((tile + 1) * ROWS);
            tile_of(pool.isa(), &Tile { matrix: self, head, x, out, to: y.1, rows });
        };
        // Waking threads takes longer than the smallest products.
        if self.heads * rows * self.inputs * self.outputs < 1 << 16 {
            (0..self.heads * tiles).for_each(work);
        } else {
            pool.deal(self.heads * tiles, &|_, index| work(index));
        }
    }
}

/// Some rows of one head.
struct Tile<'a> {
    matrix: &'a PerHead,
    head: usize,
    x: (&'a [f32], Places),
    out: Shared<f32>,
    to: Places,
    rows: std::ops::Range<usize>,
}

versions! { fn tile_of(tile: &Tile<'_>) = tile_body }

#[inline(always)]
fn tile_body(tile: &Tile<'_>) {
    let PerHead { numbers, inputs, outputs, .. } = tile.matrix;
    let padded = outputs.next_multiple_of(LANES);
    let own = tile.head * inputs * padded..(tile.head + 1) * inputs * padded;
    for first in (0..*outputs).step_by(LANES) {
        match numbers {
            Numbers::Bf16(numbers) => lanes(tile, &numbers[own.clone()], first, |bits| from_bf16(*bits)),
            Numbers::F32(numbers) => lanes(tile, &numbers[own.clone()], first, |number| *number),
        }
    }
}

/// One run of outputs of every row of a tile.
#[inline(always)]
fn lanes<T>(tile: &Tile<'_>, weights: &[T], first: usize, widen: impl Fn(&T) -> f32 + Copy) {
    if tile.rows.len() == ROWS {
        some::<ROWS, T>(tile, tile.rows.start, weights, first, widen);
    } else {
        tile.rows.clone().for_each(|row| some::<1, T>(tile, row, weights, first, widen));
    }
}

#[inline(always)]
fn some<const N: usize, T>(tile: &Tile<'_>, row: usize, weights: &[T], first: usize, widen: impl Fn(&T) -> f32 + Copy) {
    let PerHead { inputs, outputs, .. } = *tile.matrix;
    let padded = outputs.next_multiple_of(LANES);
    let (x, from) = tile.x;
    let x: [&[f32]; N] = std::array::from_fn(|n| {
        let at = (row + n) * from.stride + from.offset + tile.head * from.step;
        &x[at..at + inputs]
    });
    let mut sums = [[0.0f32; LANES]; N];
    for (input, weights) in weights.chunks_exact(padded).enumerate() {
        let weights = &weights[first..first + LANES];
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = x[input];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += widen(weight) * x;
            }
        }
    }
    let width = LANES.min(outputs - first);
    for (n, sums) in sums.iter().enumerate() {
        let at = (row + n) * tile.to.stride + tile.to.offset + tile.head * tile.to.step + first;
        // SAFETY: `forward` has checked that every head of every row lies in `y`; each is written by one thread.
        #[allow(unsafe_code)]
        let out = unsafe { std::slice::from_raw_parts_mut(tile.out.get().add(at), width) };
        out.copy_from_slice(&sums[..width]);
    }
}
