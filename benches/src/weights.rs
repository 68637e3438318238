//! One large quantized matrix by itself, in the shape of Qwen3-0.6B's vocabulary: how fast few rows read weights.
//!
//! The matrix is far larger than any cache. The figure to compare with is the read bandwidth, which is measured beside every
//! figure, as it moves on shared machines. Whole steps of a model are `model`'s.

use std::time::Instant;

use engine::native::{Affine, Bandwidth, Dtype, Linear, Pool, Precision, Scratch};

use crate::sample::row;
use crate::shape::threads;

const OUTPUTS: usize = 151_936;
const INPUTS: usize = 1024;
const GROUP: usize = 64;

/// Products that are measured for a figure.
const PRODUCTS: usize = 31;

/// Runs the measures.
pub async fn run() {
    let pool = Pool::new(threads());
    let memory = Bandwidth::new(&pool).unwrap();
    let weights: Vec<u8> =
        (0..OUTPUTS * INPUTS / 2).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let scales = vec![0x3c; OUTPUTS * INPUTS / GROUP * Dtype::Bf16.bytes()];
    let matrix = Affine {
        weights: &weights,
        scales: &scales,
        biases: &scales,
        dtype: Dtype::Bf16,
        outputs: OUTPUTS,
        inputs: INPUTS,
        bits: 4,
        group: GROUP,
    };
    let linear = Linear::from_affine(&matrix, Precision::Fast, &pool).unwrap();
    let mut scratch = Scratch::new();
    for rows in [1, 4, 8] {
        let x: Vec<f32> = (0..rows * INPUTS).map(|at| (at % 97) as f32 / 97.0 - 0.5).collect();
        let mut y = vec![0.0; rows * OUTPUTS];
        let read = memory.measure(&pool) / 1e9;
        let rates = (0..PRODUCTS).map(|_| {
            let start = Instant::now();
            linear.forward(&pool, &mut scratch, &x, rows, &mut y);
            linear.bytes() as f64 / start.elapsed().as_secs_f64() / 1e9
        });
        row(&format!("{rows} rows, of {read:.0} GB/s"), "GB/s", rates.collect());
    }
}
