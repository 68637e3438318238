//! Rotary position embedding: pairs (i, i + dim / 2) of each head, or neighbours, are rotated by position * frequency i.
//!
//! A model builds one `Rope` per kind of layer, computes the `Angles` of a step's tokens once, and applies them to
//! queries and keys in every layer.

#[cfg(test)]
mod tests;

use super::Isa;
use super::cpu::versions;
use std::f64::consts::PI;

/// How frequencies are stretched for contexts longer than the model was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: long waves divided, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the long waves.
        factor: f64,
        /// Waves longer than `original / low` are long.
        low: f64,
        /// Waves shorter than `original / high` are short.
        high: f64,
        /// Context of the first training.
        original: f64,
    },
    /// YaRN: a ramp over the dimensions, and longer queries and keys.
    Yarn {
        /// Divisor of the long waves.
        factor: f64,
        /// Turns within the original context from which a wave is kept; usually 32.
        fast: f64,
        /// Turns up to which a wave is divided; usually 1.
        slow: f64,
        /// Context of the first training.
        original: f64,
        /// Whether the ramp begins and ends at whole dimensions.
        whole: bool,
        /// Factor of cosines and sines; `None` is 0.1 ln(factor) + 1.
        magnitude: Option<f64>,
    },
}

/// The frequencies of one kind of layer.
#[derive(Clone, Debug)]
pub struct Rope {
    frequencies: Vec<f32>,
    magnitude: f32,
    neighbours: bool,
}

/// Cosines and sines of a step's tokens, `[tokens, dim / 2]`.
#[derive(Clone, Debug, Default)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// Frequencies theta^(-2 i / dim) for the first `dim` dimensions of a head (all of them, or fewer), scaled.
    pub fn new(dim: usize, theta: f64, scaling: &Scaling) -> Rope {
        let plain = |i: usize| theta.powf(-2.0 * i as f64 / dim as f64);
        let frequencies = (0..dim / 2).map(|i| scaled(scaling, plain(i), i as f64, dim as f64, theta) as f32).collect();
        let magnitude = match *scaling {
            Scaling::Yarn { magnitude: Some(magnitude), .. } => magnitude,
            Scaling::Yarn { factor, .. } if factor > 1.0 => 0.1 * factor.ln() + 1.0,
            _ => 1.0,
        };
        Rope { frequencies, magnitude: magnitude as f32, neighbours: false }
    }

    /// The same with each frequency divided by its own number, and another factor of cosines and sines.
    pub fn divided(mut self, divisors: &[f64], magnitude: f64) -> Rope {
        assert_eq!(divisors.len(), self.frequencies.len(), "one divisor per frequency");
        for (frequency, divisor) in self.frequencies.iter_mut().zip(divisors) {
            *frequency = (f64::from(*frequency) / divisor) as f32;
        }
        Rope { magnitude: magnitude as f32, ..self }
    }

    /// The same for heads whose pairs are (2 i, 2 i + 1).
    pub fn of_neighbours(self) -> Rope {
        Rope { neighbours: true, ..self }
    }

    /// The angle that each pair gains with a position.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The factor of cosines and sines.
    pub fn magnitude(&self) -> f32 {
        self.magnitude
    }

    /// Computes the angles of `positions` into `angles`, replacing its contents.
    pub fn angles(&self, positions: impl IntoIterator<Item = u32>, angles: &mut Angles) {
        angles.cos.clear();
        angles.sin.clear();
        for position in positions {
            for frequency in &self.frequencies {
                // Rounded to f32 as the reference implementations do, then exact.
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                angles.cos.push(cos as f32 * self.magnitude);
                angles.sin.push(sin as f32 * self.magnitude);
            }
        }
    }

    /// Panics unless `angles` hold those of `rows` tokens, for heads of `dim`.
    pub(super) fn check(&self, angles: &Angles, rows: usize, dim: usize) {
        let half = self.frequencies.len();
        assert!(2 * half <= dim, "{} rotated dimensions in heads of {dim}", 2 * half);
        assert_eq!(angles.cos.len(), rows * half, "one set of angles per row");
    }

    /// Rotates one row's heads of `dim` by the angles of row `row`; dimensions beyond the rotated ones stay.
    pub(super) fn turn(&self, isa: Isa, angles: &Angles, row: usize, heads: &mut [f32], dim: usize) {
        let half = self.frequencies.len();
        let (cos, sin) = (&angles.cos[row * half..][..half], &angles.sin[row * half..][..half]);
        if self.neighbours {
            heads.chunks_exact_mut(dim).for_each(|head| rotate_neighbours(head, cos, sin));
        } else {
            rotate(isa, heads, dim, cos, sin);
        }
    }
}

versions! { fn rotate(heads: &mut [f32], dim: usize, cos: &[f32], sin: &[f32]) = rotate_body }

#[inline(always)]
fn rotate_body(heads: &mut [f32], dim: usize, cos: &[f32], sin: &[f32]) {
    for head in heads.chunks_exact_mut(dim) {
        let (low, rest) = head.split_at_mut(cos.len());
        for (((a, b), cos), sin) in low.iter_mut().zip(rest).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

fn rotate_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        let [a, b] = *pair;
        *pair = [a * cos - b * sin, b * cos + a * sin];
    }
}

/// Frequency `i` of `dim / 2` after scaling.
fn scaled(scaling: &Scaling, frequency: f64, i: f64, dim: f64, theta: f64) -> f64 {
    match *scaling {
        Scaling::None => frequency,
        Scaling::Linear { factor } => frequency / factor,
        Scaling::Llama3 { factor, low, high, original } => {
            let turns = original * frequency / (2.0 * PI);
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / factor)
        }
        Scaling::Yarn { factor, fast, slow, original, whole, .. } => {
            let dimension = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
            let (first, last) = (dimension(fast), dimension(slow));
            let (first, last) = if whole { (first.floor(), last.ceil()) } else { (first, last) };
            let (first, last) = (first.max(0.0), last.min(dim - 1.0));
            let divided = ((i - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
            frequency * (divided / factor + 1.0 - divided)
        }
    }
}
