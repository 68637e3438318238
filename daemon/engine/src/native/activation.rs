//! Activations of encoders, alone or as the gate of a product, in plain arithmetic that compilers vectorise.
//!
//! Each element is computed by itself, so nothing depends on the batch. Decoders' gated MLP has its own `silu_mul`.

#[cfg(test)]
mod tests;

use super::Pool;
use super::cpu::versions;
use super::exponential::exp;
use super::memory::by_rows;

/// What an element becomes between two matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x times the normal distribution up to x.
    Gelu,
    /// The same by its approximation with tanh.
    GeluTanh,
    /// x / (1 + e^-x).
    Silu,
    /// x, or 0 below 0.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// x = activation(x).
pub fn activate(pool: &Pool, activation: Activation, x: &mut [f32]) {
    by_rows(pool, x, 1, &|_, x| each(pool.isa(), activation, x));
}

/// out = activation(gate) * up; `out` is `[rows, width]`, row r of the others begins at `r * stride`.
pub fn gate(
    pool: &Pool,
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    stride: usize,
    width: usize,
    out: &mut [f32],
) {
    by_rows(pool, out, width, &|first, out| {
        for (r, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (first + r) * stride;
            out.copy_from_slice(&gate[at..at + width]);
            each(pool.isa(), activation, out);
            for (out, up) in out.iter_mut().zip(&up[at..at + width]) {
                *out *= up;
            }
        }
    });
}

versions! { fn each(activation: Activation, x: &mut [f32]) = each_body }

#[inline(always)]
pub(super) fn each_body(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Gelu => x.iter_mut().for_each(|x| *x = gelu(*x)),
        Activation::GeluTanh => x.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
        Activation::Silu => x.iter_mut().for_each(|x| *x /= 1.0 + exp(-*x)),
        Activation::Relu => x.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x }),
        Activation::Tanh => x.iter_mut().for_each(|x| *x = tanh(*x)),
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// The error function to 2e-7 (Abramowitz and Stegun, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = p * t + c;
    }
    let value = 1.0 - p * t * exp(-size * size);
    if x < 0.0 { -value } else { value }
}
