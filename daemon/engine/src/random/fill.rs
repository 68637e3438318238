//! The tensors of a random model: their names, types and shapes, and numbers that make a lively network.
//!
//! Each tensor draws from a stream of its own, keyed by the seed and its name, so a model does not change when its tensors
//! are reordered or spread over files. Spreads keep activations near one and logits a few units apart.

use std::io::{self, Write};

use half::{bf16, f16};

use crate::config::Quantization;
use crate::folder::Described;
use crate::models::Part;
use crate::native::Dtype;

/// A tensor to be written.
pub(super) struct Blank {
    pub name: String,
    pub shape: Vec<usize>,
    fill: Fill,
}

/// What a tensor is filled with.
#[derive(Clone, Copy)]
enum Fill {
    /// Random bits.
    Words,
    /// This power of two, or the next, as the exponent of an f32.
    Powers(u8),
    /// Numbers spread evenly around a centre.
    Even { float: Dtype, centre: f32, reach: f32 },
}

/// Every tensor of a description, in the order of the computation.
pub(super) fn blanks(
    description: &impl Described,
    vocabulary: usize,
    quantization: &Quantization,
    dtype: &str,
) -> io::Result<Vec<Blank>> {
    let float = match dtype {
        "bfloat16" => Dtype::Bf16,
        "float16" => Dtype::F16,
        "float32" => Dtype::F32,
        other => return Err(io::Error::other(format!("torch_dtype {other} is not bfloat16, float16 or float32"))),
    };
    let even = |centre, reach| Fill::Even { float, centre, reach };
    let mut blanks = Vec::new();
    let mut add = |name: String, shape: &[usize], fill| blanks.push(Blank { name, shape: shape.to_vec(), fill });
    // A tensor of many slices is written with the first.
    let whole = |part: &Part, shape: &[usize]| match part.slice {
        Some((_, count)) => [&[count], shape].concat(),
        None => shape.to_vec(),
    };
    for stack in description.stacks() {
        for part in stack.parts.iter().filter(|part| part.slice.is_none_or(|(index, _)| index == 0)) {
            let (name, outputs, inputs) = (&part.name, part.outputs, stack.inputs);
            // The embedding and the output matrix spread the logits; the others keep what they are given in size.
            let gain = if outputs == vocabulary { 2.0 } else { 1.0 };
            let spread = gain / (inputs as f32).sqrt();
            match quantization.of(name, true) {
                None => {
                    add(format!("{name}.weight"), &whole(part, &[outputs, inputs]), even(0.0, spread * 3.0f32.sqrt()))
                }
                Some(affine) if affine.mxfp4 => {
                    // The root mean square of MXFP4's sixteen numbers is about three.
                    let power = (spread / 3.0 / 1.5).log2().floor() as i32 + 127;
                    let groups = whole(part, &[outputs, inputs / affine.group]);
                    add(format!("{name}.weight"), &whole(part, &[outputs, inputs * affine.bits / 32]), Fill::Words);
                    add(format!("{name}.scales"), &groups, Fill::Powers(power as u8));
                }
                Some(affine) => {
                    let levels = (1u32 << affine.bits) as f32;
                    let scale = spread * 12.0f32.sqrt() / levels;
                    let bias = -scale * (levels - 1.0) / 2.0;
                    let groups = whole(part, &[outputs, inputs / affine.group]);
                    add(format!("{name}.weight"), &whole(part, &[outputs, inputs * affine.bits / 32]), Fill::Words);
                    add(format!("{name}.scales"), &groups, even(scale, scale * 0.2));
                    add(format!("{name}.biases"), &groups, even(bias, bias * 0.05));
                }
            }
            if part.bias {
                add(format!("{name}.bias"), &whole(part, &[outputs]), even(0.0, 0.3));
            }
        }
    }
    let usual = if description.less_one() { 0.0 } else { 1.0 };
    for vector in description.vectors() {
        let (centre, reach) = match vector.name.rsplit_once('.') {
            Some((module, "weight")) if module.ends_with("conv1d") => (0.0, 0.9),
            Some((module, "weight")) if module.ends_with("linear_attn.norm") => (1.0, 0.2),
            Some((_, "A_log" | "dt_bias")) => (0.0, 1.0),
            Some((_, "bias")) => (0.0, 0.3),
            Some((_, "sinks")) => (0.5, 1.5),
            Some((_, "e_score_correction_bias")) => (0.0, 0.2),
            _ => (usual, 0.2),
        };
        add(vector.name.clone(), &vector.dims, even(centre, reach));
    }
    Ok(blanks)
}

impl Blank {
    /// The module in whose folder it lies, if it has one.
    pub fn module(&self) -> Option<&str> {
        let (module, _) = self.name.split_once('.')?;
        module.ends_with("_Dense").then_some(module)
    }

    /// The type's name in the file.
    pub fn dtype(&self) -> &'static str {
        match self.fill {
            Fill::Words => "U32",
            Fill::Powers(_) => "U8",
            Fill::Even { float: Dtype::Bf16, .. } => "BF16",
            Fill::Even { float: Dtype::F16, .. } => "F16",
            Fill::Even { .. } => "F32",
        }
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> usize {
        let width = match self.fill {
            Fill::Powers(_) => 1,
            Fill::Words | Fill::Even { float: Dtype::F32, .. } => 4,
            Fill::Even { .. } => 2,
        };
        self.shape.iter().product::<usize>() * width
    }

    /// Writes the tensor's bytes.
    pub fn write(&self, seed: u64, out: &mut impl Write) -> io::Result<()> {
        let mut stream = Stream::new(seed, &self.name);
        for _ in 0..self.shape.iter().product::<usize>() {
            let word = stream.next();
            match self.fill {
                Fill::Words => out.write_all(&word.to_le_bytes())?,
                Fill::Powers(power) => out.write_all(&[power + (word >> 31) as u8])?,
                Fill::Even { float, centre, reach } => {
                    // 24 bits are what an f32 holds exactly, so every machine draws the same numbers.
                    let value = centre + reach * ((word >> 8) as f32 / (1 << 23) as f32 - 1.0);
                    match float {
                        Dtype::Bf16 => out.write_all(&bf16::from_f32(value).to_le_bytes())?,
                        Dtype::F16 => out.write_all(&f16::from_f32(value).to_le_bytes())?,
                        _ => out.write_all(&value.to_le_bytes())?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// A stream of random words: SplitMix64, its high halves.
struct Stream(u64);

impl Stream {
    fn new(seed: u64, name: &str) -> Self {
        let mut stream = Self(seed);
        for byte in name.bytes() {
            stream.0 ^= u64::from(byte);
            stream.next();
            stream.0 = mix(stream.0);
        }
        stream
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (mix(self.0) >> 32) as u32
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
