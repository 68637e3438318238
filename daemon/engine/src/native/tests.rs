//! What the kernels' tests share: a seeded generator and matrices in the checkpoint's format.

use super::{Affine, Dtype};

/// A seeded generator (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in -1..1.
    pub(super) fn signed(&mut self) -> f32 {
        ((self.bits() >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.signed()).collect()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.bits() >> 32) as u8).collect()
    }
}

/// The bytes of `values` in `dtype`.
pub(super) fn stored(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let bytes = |&value: &f32| match dtype {
        Dtype::Bf16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
        Dtype::F32 => value.to_le_bytes().to_vec(),
        Dtype::E8m0 => vec![(value.to_bits() >> 23) as u8],
    };
    values.iter().flat_map(bytes).collect()
}

/// A random matrix in affine quantization.
pub(super) struct Quantized {
    pub weights: Vec<u8>,
    pub scales: Vec<u8>,
    pub biases: Vec<u8>,
    pub dtype: Dtype,
    pub shape: (usize, usize),
    pub bits: u32,
    pub group: usize,
}

impl Quantized {
    /// `shape` is outputs, inputs.
    pub(super) fn new(random: &mut Random, shape: (usize, usize), bits: u32, group: usize, dtype: Dtype) -> Quantized {
        let (outputs, inputs) = shape;
        let pairs = outputs * inputs / group;
        let levels = (1u32 << bits) as f32;
        let scales: Vec<f32> = (0..pairs).map(|_| (1.5 + random.signed()) / levels).collect();
        let biases: Vec<f32> = scales.iter().map(|scale| -scale * levels * (0.5 + 0.1 * random.signed())).collect();
        Quantized {
            weights: random.bytes(outputs * inputs * bits as usize / 8),
            scales: stored(&scales, dtype),
            biases: stored(&biases, dtype),
            dtype,
            shape,
            bits,
            group,
        }
    }

    pub(super) fn affine(&self) -> Affine<'_> {
        Affine {
            weights: &self.weights,
            scales: &self.scales,
            biases: &self.biases,
            dtype: self.dtype,
            outputs: self.shape.0,
            inputs: self.shape.1,
            bits: self.bits,
            group: self.group,
        }
    }

    /// The weight of output `row` and input `column`, by the format's definition.
    pub(super) fn weight(&self, row: usize, column: usize) -> f64 {
        let (bits, inputs) = (self.bits as usize, self.shape.1);
        let bit = (row * inputs + column) * bits;
        let word = u32::from_le_bytes(self.weights[bit / 32 * 4..][..4].try_into().unwrap());
        let q = word >> (bit % 32) & ((1 << bits) - 1);
        let pair = row * (inputs / self.group) + column / self.group;
        f64::from(self.dtype.read(&self.scales, pair)) * f64::from(q) + f64::from(self.dtype.read(&self.biases, pair))
    }
}

/// Root of the summed squares of the differences over that of `want`.
pub(super) fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |sum: f64, x: f64| sum + x * x;
    let error = got.iter().zip(want).map(|(got, want)| f64::from(*got) - want).fold(0.0, square);
    (error / want.iter().copied().fold(1e-30, square)).sqrt()
}

/// The bit patterns, which compare NaN and signed zeros too.
pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
