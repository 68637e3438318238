//! Activations against f64, on every instruction set and bit for bit between them.

use super::{Activation, activate, gate};
use crate::native::tests::{Random, bits, relative_error};
use crate::native::{Isa, Pool};

const ALL: [Activation; 5] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu, Activation::Tanh];

fn reference(activation: Activation, x: f32) -> f64 {
    let x = f64::from(x);
    match activation {
        Activation::Gelu => x * normal(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
    }
}

/// The normal distribution up to x, by Simpson's rule from 0.
fn normal(x: f64) -> f64 {
    const STEPS: u32 = 400;
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let width = x / f64::from(STEPS);
    let inner = (1..STEPS).map(|step| density(width * f64::from(step)) * if step % 2 == 1 { 4.0 } else { 2.0 });
    0.5 + width / 3.0 * (density(0.0) + inner.sum::<f64>() + density(x))
}

#[test]
fn activations_match_f64_and_do_not_depend_on_the_processor() {
    let x: Vec<f32> = Random::new(7).floats(20_000).iter().map(|x| x * 9.0).collect();
    for activation in ALL {
        let want: Vec<f64> = x.iter().map(|x| reference(activation, *x)).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let mut got = x.clone();
            activate(&Pool::with_isa(2, isa), activation, &mut got);
            assert!(relative_error(&got, &want) < 1e-6, "{activation:?} {isa:?}");
            assert_eq!(bits(&got), bits(first.get_or_insert_with(|| got.clone())), "{activation:?} {isa:?}");
        }
    }
}

#[test]
fn a_gate_multiplies_the_other_half_row_by_row() {
    let (rows, width) = (50, 401);
    let fused = Random::new(8).floats(rows * 2 * width);
    for activation in ALL {
        let mut out = vec![0.0; rows * width];
        gate(&Pool::new(2), activation, &fused, &fused[width..], 2 * width, width, &mut out);
        let row = |row: &[f32]| -> Vec<f64> {
            (0..width).map(|i| reference(activation, row[i]) * f64::from(row[width + i])).collect()
        };
        let want: Vec<f64> = fused.chunks_exact(2 * width).flat_map(row).collect();
        assert!(relative_error(&out, &want) < 1e-6, "{activation:?}");
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    for activation in ALL {
        let mut x = [f32::NAN, f32::INFINITY];
        activate(&Pool::new(1), activation, &mut x);
        assert!(x[0].is_nan() && x[1] > 0.9, "{activation:?}: {x:?}");
    }
}
