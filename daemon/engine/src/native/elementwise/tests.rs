//! Norms and activations against f64, and row by row against whole.

use super::{add, add_to_rows, layer_norm, rms_norm, silu_mul};
use crate::native::exponential::exp;
use crate::native::tests::{Random, bits, relative_error};
use crate::native::{Isa, Pool};

fn norm_reference(x: &[f32], weight: &[f32], epsilon: f64) -> Vec<f64> {
    let row = |x: &[f32]| {
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + epsilon).sqrt();
        x.iter().zip(weight).map(|(x, w)| f64::from(*x) * factor * f64::from(*w)).collect::<Vec<_>>()
    };
    x.chunks_exact(weight.len()).flat_map(row).collect()
}

#[test]
fn the_exponential_is_right_to_two_units() {
    for i in -8_700..8_800 {
        let x = i as f32 / 100.0;
        let want = f64::from(x).exp();
        assert!((f64::from(exp(x)) / want - 1.0).abs() < 2.5e-7, "{x}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(exp(-88.0), 0.0);
    assert!(exp(f32::NAN).is_nan());
}

#[test]
fn norms_match_f64_and_do_not_depend_on_the_batch_or_the_processor() {
    let mut random = Random::new(1);
    for (rows, width) in [(1, 5), (3, 64), (40, 1000)] {
        let (x, weight) = (random.floats(rows * width), random.floats(width));
        let mut first = vec![0.0; x.len()];
        rms_norm(&Pool::with_isa(1, Isa::Scalar), &x, &weight, 1e-6, &mut first);
        assert!(relative_error(&first, &norm_reference(&x, &weight, 1e-6)) < 1e-6);
        for isa in Isa::available() {
            let pool = Pool::with_isa(3, isa);
            let mut whole = vec![0.0; x.len()];
            rms_norm(&pool, &x, &weight, 1e-6, &mut whole);
            assert_eq!(bits(&whole), bits(&first), "{isa:?}");
            let mut alone = vec![0.0; width];
            rms_norm(&pool, &x[(rows - 1) * width..], &weight, 1e-6, &mut alone);
            assert_eq!(bits(&alone), bits(&first[(rows - 1) * width..]));
        }
    }
}

#[test]
fn layer_norms_match_f64_and_do_not_depend_on_the_batch_or_the_processor() {
    let mut random = Random::new(4);
    for (rows, width, biased) in [(1, 5, true), (3, 64, false), (40, 1000, true)] {
        let x: Vec<f32> = random.floats(rows * width).iter().map(|x| 3.0 * x + 2.0).collect();
        let (weight, bias) = (random.floats(width), random.floats(width));
        let bias = biased.then_some(bias.as_slice());
        let row = |x: &[f32]| {
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
            let factor = 1.0 / (variance + 1e-5).sqrt();
            let one = |i: usize| (f64::from(x[i]) - mean) * factor * f64::from(weight[i]);
            (0..width).map(|i| one(i) + bias.map_or(0.0, |bias| f64::from(bias[i]))).collect::<Vec<_>>()
        };
        let want: Vec<f64> = x.chunks_exact(width).flat_map(row).collect();
        let mut first = vec![0.0; x.len()];
        layer_norm(&Pool::with_isa(1, Isa::Scalar), &x, &weight, bias, 1e-5, &mut first);
        assert!(relative_error(&first, &want) < 1e-6);
        for isa in Isa::available() {
            let mut whole = vec![0.0; x.len()];
            layer_norm(&Pool::with_isa(3, isa), &x, &weight, bias, 1e-5, &mut whole);
            assert_eq!(bits(&whole), bits(&first), "{isa:?}");
        }
        let mut alone = vec![0.0; width];
        layer_norm(&Pool::new(1), &x[(rows - 1) * width..], &weight, bias, 1e-5, &mut alone);
        assert_eq!(bits(&alone), bits(&first[(rows - 1) * width..]));
    }
}

#[test]
fn one_row_is_added_to_every_row() {
    let mut random = Random::new(5);
    let (before, row) = (random.floats(40 * 500), random.floats(500));
    let mut after = before.clone();
    add_to_rows(&Pool::new(3), &mut after, &row);
    assert!(after.iter().enumerate().all(|(i, x)| *x == before[i] + row[i % 500]));
}

#[test]
fn gated_activation_and_sum_match_f64() {
    let mut random = Random::new(3);
    let (rows, width) = (50, 401);
    let fused: Vec<f32> = random.floats(rows * 2 * width).iter().map(|x| x * 20.0).collect();
    for isa in Isa::available() {
        let pool = Pool::with_isa(2, isa);
        let mut out = vec![0.0; rows * width];
        silu_mul(&pool, &fused, &fused[width..], 2 * width, width, &mut out);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let want: Vec<f64> = fused
            .chunks_exact(2 * width)
            .flat_map(|row| (0..width).map(|i| silu(f64::from(row[i])) * f64::from(row[width + i])))
            .collect();
        assert!(relative_error(&out, &want) < 1e-6, "{isa:?}");
        let mut sum = out.clone();
        add(&pool, &mut sum, &out);
        assert_eq!(sum, out.iter().map(|x| x + x).collect::<Vec<_>>());
    }
}
