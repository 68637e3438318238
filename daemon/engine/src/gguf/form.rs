//! The ways in which GGUF stores numbers, and what each becomes in MLX's form.
//!
//! MLX keeps a scale and a bias for each 32 weights: `weight = scale × code + bias`. Most of GGUF's forms say just that in
//! other words and lose nothing. Where 16 weights share a scale (Q2_K, Q3_K, Q6_K), two such groups become one of 8-bit
//! codes: exactly where all its numbers lie on one grid of 256 steps, otherwise to the nearest of 256 between the least and
//! the largest. Only the import calls this.

use half::f16;

use crate::native::Dtype;

/// Weights that share a scale and a bias in what is written.
pub(super) const GROUP: usize = 32;

/// How a tensor of a GGUF file stores its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
}

/// What a tensor becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// The same numbers.
    Floats(Dtype),
    /// Codes of so many bits, with scales and biases of a type.
    Affine { bits: usize, pairs: Dtype },
    /// MXFP4, which MLX knows too.
    Mxfp4,
}

/// How far numbers moved: sums of the squares of what was there, and of the differences.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Of the weights.
    pub weights: f64,
    /// Of the differences.
    pub differences: f64,
}

/// What the codes of the IQ4 forms stand for, in units of a block's scale.
const IQ4: [i32; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

impl Form {
    /// The forms that are read, for refusals.
    pub const KNOWN: &'static str =
        "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS and MXFP4";

    /// The form of a number in the file; the error is a name for one that is not read.
    pub fn of(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            20 => Self::Iq4Nl,
            23 => Self::Iq4Xs,
            30 => Self::Bf16,
            39 => Self::Mxfp4,
            16 => return Err("IQ2_XXS".to_string()),
            17 => return Err("IQ2_XS".to_string()),
            18 => return Err("IQ3_XXS".to_string()),
            19 => return Err("IQ1_S".to_string()),
            21 => return Err("IQ3_S".to_string()),
            22 => return Err("IQ2_S".to_string()),
            29 => return Err("IQ1_M".to_string()),
            34 => return Err("TQ1_0".to_string()),
            35 => return Err("TQ2_0".to_string()),
            other => return Err(format!("number {other}")),
        })
    }

    /// Numbers and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Mxfp4 => (32, 17),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Iq4Xs => (256, 136),
        }
    }

    /// What a tensor of this form becomes.
    pub fn becomes(self) -> Becomes {
        // A half times a power of two is a half; a half times another factor needs an f32 to be exact.
        let affine = |bits, pairs| Becomes::Affine { bits, pairs };
        match self {
            Self::F32 => Becomes::Floats(Dtype::F32),
            Self::F16 => Becomes::Floats(Dtype::F16),
            Self::Bf16 => Becomes::Floats(Dtype::Bf16),
            Self::Q4_0 | Self::Q4_1 => affine(4, Dtype::F16),
            Self::Q5_0 | Self::Q5_1 => affine(5, Dtype::F16),
            Self::Q8_0 | Self::Iq4Nl => affine(8, Dtype::F16),
            Self::Q4K => affine(4, Dtype::F32),
            Self::Q5K => affine(5, Dtype::F32),
            Self::Q2K | Self::Q3K | Self::Q6K | Self::Iq4Xs => affine(8, Dtype::F32),
            Self::Mxfp4 => Becomes::Mxfp4,
        }
    }

    /// Reads a block: a code for each weight, and scale and bias for each group of 32.
    pub fn unpack(self, block: &[u8], codes: &mut [u8], pairs: &mut [[f32; 2]], moved: &mut Moved) {
        match self {
            Self::Q4_0 => {
                let scale = half(block, 0);
                nibbles(&block[2..], codes);
                pairs[0] = [scale, -8.0 * scale];
            }
            Self::Q4_1 => {
                nibbles(&block[4..], codes);
                pairs[0] = [half(block, 0), half(block, 2)];
            }
            Self::Q5_0 => {
                let scale = half(block, 0);
                fives(&block[2..], codes);
                pairs[0] = [scale, -16.0 * scale];
            }
            Self::Q5_1 => {
                fives(&block[4..], codes);
                pairs[0] = [half(block, 0), half(block, 2)];
            }
            Self::Q8_0 => {
                let scale = half(block, 0);
                codes.iter_mut().zip(&block[2..]).for_each(|(code, byte)| *code = byte ^ 0x80);
                pairs[0] = [scale, -128.0 * scale];
            }
            Self::Q4K | Self::Q5K => self.unpack_k(block, codes, pairs),
            Self::Q2K => q2(block, codes, pairs, moved),
            Self::Q3K => q3(block, codes, pairs, moved),
            Self::Q6K => q6(block, codes, pairs, moved),
            Self::Iq4Nl => iq4(half(block, 0), &block[2..], codes, &mut pairs[0]),
            Self::Iq4Xs => {
                let groups = block[8..].as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<GROUP>().0);
                for (g, ((group, codes), pair)) in groups.zip(pairs).enumerate() {
                    let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
                    let high = u16::from_le_bytes([block[2], block[3]]) >> (2 * g) & 3;
                    let factor = f32::from(low) + 16.0 * f32::from(high) - 32.0;
                    iq4(half(block, 0) * factor, group, codes, pair);
                }
            }
            // Its scale is a power of two, which is copied.
            Self::Mxfp4 => nibbles(&block[1..], codes),
            // These are copied whole.
            Self::F32 | Self::F16 | Self::Bf16 => {}
        }
    }

    /// Q4_K and Q5_K: eight groups of 32 whose scales and least values are six bits each of two halves.
    fn unpack_k(self, block: &[u8], codes: &mut [u8], pairs: &mut [[f32; 2]]) {
        let (scale, least) = (half(block, 0), half(block, 2));
        let (factors, rest) = block[4..].split_at(12);
        let (high, low) = if self == Self::Q5K { rest.split_at(32) } else { (&[][..], rest) };
        let groups = codes.as_chunks_mut::<GROUP>().0.iter_mut().zip(pairs);
        for (g, (codes, pair)) in groups.enumerate() {
            let (times, minus) = if g < 4 {
                (factors[g] & 63, factors[g + 4] & 63)
            } else {
                let both = factors[g + 4];
                (both & 15 | factors[g - 4] >> 6 << 4, both >> 4 | factors[g] >> 6 << 4)
            };
            *pair = [scale * f32::from(times), -least * f32::from(minus)];
            for (l, code) in codes.iter_mut().enumerate() {
                let fifth = high.get(l).map_or(0, |bits| bits >> g & 1);
                *code = low[g / 2 * 32 + l] >> (4 * (g % 2)) & 15 | fifth << 4;
            }
        }
    }
}

/// Q2_K: sixteen groups of 16, each with four bits of scale and four of least value.
fn q2(block: &[u8], codes: &mut [u8], pairs: &mut [[f32; 2]], moved: &mut Moved) {
    let (scale, least) = (half(block, 80), half(block, 82));
    for (g, (codes, pair)) in codes.as_chunks_mut::<GROUP>().0.iter_mut().zip(pairs).enumerate() {
        let weights = std::array::from_fn(|l| {
            let factors = block[2 * g + l / 16];
            let code = block[16 + g / 4 * 32 + l] >> (2 * (g % 4)) & 3;
            scale * f32::from(factors & 15) * f32::from(code) - least * f32::from(factors >> 4)
        });
        *pair = nearest(&weights, codes, moved);
    }
}

/// Q3_K: sixteen groups of 16, each with six bits of scale.
fn q3(block: &[u8], codes: &mut [u8], pairs: &mut [[f32; 2]], moved: &mut Moved) {
    let (high, rest) = block.split_at(32);
    let (low, factors) = rest.split_at(64);
    let factor = |i: usize| {
        let low = if i < 8 { factors[i] & 15 } else { factors[i - 8] >> 4 };
        i32::from(low | (factors[8 + i % 4] >> (2 * (i / 4)) & 3) << 4) - 32
    };
    for (g, (codes, pair)) in codes.as_chunks_mut::<GROUP>().0.iter_mut().zip(pairs).enumerate() {
        let code = |l: usize| {
            let third = high[l] >> g & 1;
            i32::from(low[g / 4 * 32 + l] >> (2 * (g % 4)) & 3) - if third == 0 { 4 } else { 0 }
        };
        *pair = two_groups(half(factors, 12), [factor(2 * g), factor(2 * g + 1)], code, codes, moved);
    }
}

/// Q6_K: sixteen groups of 16, each with eight bits of scale.
fn q6(block: &[u8], codes: &mut [u8], pairs: &mut [[f32; 2]], moved: &mut Moved) {
    let (low, rest) = block.split_at(128);
    let (high, factors) = rest.split_at(64);
    for (g, (codes, pair)) in codes.as_chunks_mut::<GROUP>().0.iter_mut().zip(pairs).enumerate() {
        let (half_block, part) = (g / 4, g % 4);
        let code = |l: usize| {
            let low = low[64 * half_block + 32 * (part % 2) + l] >> (4 * (part / 2)) & 15;
            let high = high[32 * half_block + l] >> (2 * part) & 3;
            i32::from(low | high << 4) - 32
        };
        let factor = |i: usize| i32::from(factors[2 * g + i].cast_signed());
        *pair = two_groups(half(factors, 16), [factor(0), factor(1)], code, codes, moved);
    }
}

/// Two groups of 16 whose weights are `unit × factor × code` become one of 8-bit codes.
fn two_groups(
    unit: f32,
    factors: [i32; 2],
    code: impl Fn(usize) -> i32,
    codes: &mut [u8; GROUP],
    moved: &mut Moved,
) -> [f32; 2] {
    let values: [i32; GROUP] = std::array::from_fn(|l| factors[l / 16] * code(l));
    let (least, most) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    let step = common_divisor(factors[0].abs(), factors[1].abs()).max(1);
    if (most - least) / step <= 255 {
        codes.iter_mut().zip(values).for_each(|(code, value)| *code = ((value - least) / step) as u8);
        moved.weights += values.iter().map(|value| f64::from(unit * *value as f32).powi(2)).sum::<f64>();
        return [unit * step as f32, unit * least as f32];
    }
    nearest(&values.map(|value| unit * value as f32), codes, moved)
}

/// Weights become the nearest of 256 steps between the least and the largest.
fn nearest(weights: &[f32; GROUP], codes: &mut [u8; GROUP], moved: &mut Moved) -> [f32; 2] {
    let least = weights.iter().copied().fold(f32::INFINITY, f32::min);
    let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (most - least) / 255.0;
    for (code, weight) in codes.iter_mut().zip(weights) {
        let steps = if scale > 0.0 { ((weight - least) / scale).round() } else { 0.0 };
        *code = steps.clamp(0.0, 255.0) as u8;
        moved.weights += f64::from(*weight).powi(2);
        moved.differences += f64::from(scale * f32::from(*code) + least - weight).powi(2);
    }
    [scale, least]
}

fn common_divisor(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// A group of an IQ4 form: every value lies between -128 and 127 units.
fn iq4(unit: f32, bytes: &[u8], codes: &mut [u8], pair: &mut [f32; 2]) {
    nibbles(bytes, codes);
    codes.iter_mut().for_each(|code| *code = (IQ4[usize::from(*code)] + 128) as u8);
    *pair = [unit, -128.0 * unit];
}

/// Sixteen bytes: the low halves are the first weights, the high ones the others.
fn nibbles(bytes: &[u8], codes: &mut [u8]) {
    let (first, second) = codes.split_at_mut(16);
    for ((first, second), byte) in first.iter_mut().zip(second).zip(bytes) {
        (*first, *second) = (byte & 15, byte >> 4);
    }
}

/// The fifth bits of 32 weights, then the other four.
fn fives(bytes: &[u8], codes: &mut [u8]) {
    nibbles(&bytes[4..], codes);
    codes.iter_mut().enumerate().for_each(|(l, code)| *code |= (bytes[l / 8] >> (l % 8) & 1) << 4);
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
