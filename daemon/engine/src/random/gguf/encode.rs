//! Plain quantizers: for each block the scale that its largest weight asks for.

use half::{bf16, f16};

/// How a matrix is stored, with GGUF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 32 bits.
    F32 = 0,
    /// 16 bits.
    F16 = 1,
    /// Brain float.
    Bf16 = 30,
    /// 4 bits and a scale.
    Q4_0 = 2,
    /// 8 bits and a scale.
    Q8_0 = 8,
    /// 4 bits, scales and least values in two levels.
    Q4K = 12,
    /// 6 bits, scales of 16 in two levels.
    Q6K = 14,
}

impl Form {
    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// Numbers and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Form::F32 => (1, 4),
            Form::F16 | Form::Bf16 => (1, 2),
            Form::Q4_0 => (32, 18),
            Form::Q8_0 => (32, 34),
            Form::Q4K => (256, 144),
            Form::Q6K => (256, 210),
        }
    }
}

/// Appends a row.
pub(super) fn row(form: Form, row: &[f32], out: &mut Vec<u8>) {
    for block in row.chunks_exact(form.block().0) {
        match form {
            Form::F32 => out.extend(block[0].to_le_bytes()),
            Form::F16 => out.extend(f16::from_f32(block[0]).to_le_bytes()),
            Form::Bf16 => out.extend(bf16::from_f32(block[0]).to_le_bytes()),
            Form::Q4_0 => q4_0(block, out),
            Form::Q8_0 => q8_0(block, out),
            Form::Q4K => q4_k(block, out),
            Form::Q6K => q6_k(block, out),
        }
    }
}

fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |most, value| value.abs().max(most))
}

fn steps(value: f32, scale: f32, least: f32, most: f32) -> i32 {
    if scale == 0.0 { 0 } else { (value / scale).round().clamp(least, most) as i32 }
}

fn q4_0(block: &[f32], out: &mut Vec<u8>) {
    let scale = f16::from_f32(largest(block) / 7.0);
    out.extend(scale.to_le_bytes());
    let code = |value: f32| (steps(value, scale.to_f32(), -8.0, 7.0) + 8) as u8;
    out.extend((0..16).map(|i| code(block[i]) | code(block[16 + i]) << 4));
}

fn q8_0(block: &[f32], out: &mut Vec<u8>) {
    let scale = f16::from_f32(largest(block) / 127.0);
    out.extend(scale.to_le_bytes());
    out.extend(block.iter().map(|value| steps(*value, scale.to_f32(), -127.0, 127.0) as u8));
}

/// All groups have the scale and the least value of the whole block.
fn q4_k(block: &[f32], out: &mut Vec<u8>) {
    let least = block.iter().copied().fold(0.0, f32::min);
    let most = block.iter().copied().fold(0.0, f32::max);
    let (scale, minus) = (f16::from_f32((most - least) / 15.0 / 63.0), f16::from_f32(-least / 63.0));
    out.extend(scale.to_le_bytes());
    out.extend(minus.to_le_bytes());
    // Six bits of 63 each: four whole bytes, four whole bytes, then the low halves of the last four pairs.
    out.extend([0xff; 12]);
    let code = |value: f32| steps(value + 63.0 * minus.to_f32(), 63.0 * scale.to_f32(), 0.0, 15.0) as u8;
    for half in block.chunks_exact(64) {
        out.extend((0..32).map(|l| code(half[l]) | code(half[32 + l]) << 4));
    }
}

fn q6_k(block: &[f32], out: &mut Vec<u8>) {
    let unit = f16::from_f32(largest(block) / 31.0 / 127.0);
    let factor = |group: &[f32]| steps(largest(group) / 31.0, unit.to_f32(), 0.0, 127.0);
    let factors: Vec<i32> = block.chunks_exact(16).map(factor).collect();
    let code = |at: usize| {
        let scale = unit.to_f32() * factors[at / 16] as f32;
        (steps(block[at], scale, -32.0, 31.0) + 32) as u8
    };
    for half in [0, 128] {
        for low in [0, 32] {
            out.extend((0..32).map(|l| code(half + low + l) & 15 | (code(half + 64 + low + l) & 15) << 4));
        }
    }
    for half in [0, 128] {
        let high = |l: usize, part: usize| (code(half + 32 * part + l) >> 4) << (2 * part);
        out.extend((0..32).map(|l| (0..4).map(|part| high(l, part)).sum::<u8>()));
    }
    out.extend(factors.iter().map(|factor| *factor as u8));
    out.extend(unit.to_le_bytes());
}
