//! CPU kernels: quantized and dense matrix products, the block-wise KV cache, attention and the operations between
//! them, on a thread pool of their own.
//!
//! The law of this room: a row's numbers depend on that row alone, bit for bit, whatever batch, prompt chunk or
//! thread count it is computed with. It knows nothing of architectures, checkpoints or text; `models` calls it.

mod activation;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
mod amx;
mod attention;
mod bandwidth;
mod cpu;
mod delta;
mod elementwise;
pub(crate) mod exponential;
mod gates;
mod heads;
mod kv;
mod linear;
mod mapped;
mod memory;
mod per_head;
mod pool;
mod rope;
mod swiglu;
mod tile;

#[cfg(test)]
mod tests;

pub use activation::{Activation, activate, gate};
pub use attention::{Shape, Span, attend};
pub use bandwidth::Bandwidth;
pub use cpu::{Avx2, Avx512, Isa};
pub use delta::{DeltaShape, DeltaSpan, DeltaStates, DeltaWeights};
pub use elementwise::{add, add_to_rows, layer_norm, rms_norm, silu_mul};
pub use gates::open;
pub use heads::{HeadNorm, Heads, prepare};
pub use kv::{BLOCK_TOKENS, Keep, KvCache, Layer};
pub use linear::{Affine, Dense, Gate, Linear};
pub(crate) use mapped::Mapped;
pub(crate) use memory::LINE;
pub use memory::Scratch;
pub use per_head::{PerHead, Places};
pub use pool::Pool;
pub use rope::{Angles, Rope, Scaling};
pub use swiglu::{SWIGLU_LIMIT, swiglu_clipped};

/// How numbers are kept between and inside the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Activations in int8 (quantized weights) or bf16 (dense weights), keys and values in bf16.
    Fast,
    /// Everything in f32, with the same bits on every processor: the reference.
    Exact,
}

/// The element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Brain float, 16 bits.
    Bf16,
    /// IEEE half, 16 bits.
    F16,
    /// IEEE single, 32 bits.
    F32,
    /// A power of two, 8 bits: the scales of MXFP4 weights.
    E8m0,
}

impl Dtype {
    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::F32 => 4,
            Dtype::E8m0 => 1,
        }
    }

    /// Reads element `index` of little-endian `bytes`.
    fn read(self, bytes: &[u8], index: usize) -> f32 {
        let half = |i: usize| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
        match self {
            Dtype::Bf16 => f32::from_bits(u32::from(half(2 * index)) << 16),
            Dtype::F16 => half::f16::from_bits(half(2 * index)).to_f32(),
            Dtype::F32 => {
                let at = 4 * index;
                f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
            }
            Dtype::E8m0 => f32::from_bits(u32::from(bytes[index]) << 23),
        }
    }
}

/// Why a matrix or cache cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ShapeError {
    /// A matrix without outputs or inputs, or a cache without layers, blocks or heads.
    #[error("{what} must not be 0")]
    Empty {
        /// The dimension.
        what: &'static str,
    },
    /// A bit width that no kernel reads.
    #[error("{bits}-bit weights are not supported; 2 to 6 and 8 are")]
    Bits {
        /// The width asked for.
        bits: u32,
    },
    /// A quantization group that no kernel reads.
    #[error("quantization groups of {group} are not supported; 32, 64 and 128 are")]
    Group {
        /// The size asked for.
        group: usize,
    },
    /// Inputs that do not divide into groups.
    #[error("{inputs} inputs do not divide into quantization groups of {group}")]
    Inputs {
        /// Inputs of the matrix.
        inputs: usize,
        /// Inputs per group.
        group: usize,
    },
    /// Scales of MXFP4 for weights of another width.
    #[error("MXFP4 weights have 4 bits in groups of 32, not {bits} in groups of {group}")]
    Mxfp4 {
        /// The width asked for.
        bits: u32,
        /// The group asked for.
        group: usize,
    },
    /// A buffer whose size contradicts the shape.
    #[error("{what} holds {has} bytes, but its shape needs {needs}")]
    Bytes {
        /// The buffer.
        what: &'static str,
        /// Its size.
        has: usize,
        /// The size that the shape asks for.
        needs: usize,
    },
    /// Stacked matrices that differ in inputs or format.
    #[error("matrices that differ in inputs, bits, group or element type cannot be stacked")]
    Stack,
    /// The system refused the memory.
    #[error("the system refused {bytes} bytes of memory")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
    },
}

/// Rounds to bf16, nearest even; NaN stays NaN.
#[inline(always)]
fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded }) as u16
}

/// Thirty-two numbers in bf16, two to a dword, the first in its low half.
#[inline(always)]
fn pairs(values: &[f32; 32]) -> [u32; 16] {
    let mut dwords = [0; 16];
    for (dword, values) in dwords.iter_mut().zip(values.as_chunks::<2>().0) {
        *dword = pair(values[0], values[1]);
    }
    dwords
}

/// Two numbers in bf16, the first in the low half.
#[inline(always)]
fn pair(low: f32, high: f32) -> u32 {
    u32::from(to_bf16(low)) | u32::from(to_bf16(high)) << 16
}

/// Widens bf16.
#[inline(always)]
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
