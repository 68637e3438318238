//! Weights as the architecture names them, found in the files and checked against the shape that is called for.
//!
//! A [`Matrix`] is still bytes of the mapped file: dense, or MLX's affine words with their scales and biases. Nothing is
//! copied or converted here except norms and biases, which become `f32`. `inspect` stops here; the loader goes on.

use safetensors::Dtype as Stored;

use crate::LoadError;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::Quantization;
use crate::models::{Part, Vector};
use crate::native::{Affine, Dense, Dtype, Isa};

/// A matrix `[outputs, inputs]` in the mapped files.
#[derive(Clone, Copy)]
pub(crate) enum Matrix<'a> {
    /// A number an element.
    Dense(Dense<'a>),
    /// Packed words, with scales and biases.
    Affine(Affine<'a>),
}

impl<'a> Matrix<'a> {
    /// Finds the matrix of a part and checks it.
    pub fn find(
        checkpoint: &'a Checkpoint,
        quantization: &Quantization,
        part: &Part,
        inputs: usize,
    ) -> Result<Self, LoadError> {
        let (name, outputs, slice) = (&part.name, part.outputs, part.slice);
        let Some(format) = quantization.of(name, checkpoint.has(&format!("{name}.scales"))) else {
            if checkpoint.has(&format!("{name}.qweight")) {
                let found = format!("weights quantized by GPTQ or AWQ ({name}.qweight)");
                return Err(LoadError::unsupported(found, Quantization::INSTEAD));
            }
            let (bytes, dtype) = floats(checkpoint, &format!("{name}.weight"), &[outputs, inputs], slice)?;
            return Ok(Self::Dense(Dense { bytes, dtype, outputs, inputs }));
        };
        if !inputs.is_multiple_of(format.group) {
            return Err(LoadError::WrongTensor {
                name: format!("{name}.scales"),
                expected: format!("{inputs} inputs a row"),
                found: format!("quantized in groups of {}", format.group),
            });
        }
        let weights = packed(checkpoint, &format!("{name}.weight"), &[outputs, inputs * format.bits / 32], slice)?;
        let groups = [outputs, inputs / format.group];
        let (bits, group) = (format.bits as u32, format.group);
        if format.mxfp4 {
            let scales = powers(checkpoint, &format!("{name}.scales"), &groups, slice)?;
            let dtype = Dtype::E8m0;
            return Ok(Self::Affine(Affine { weights, scales, biases: &[], dtype, outputs, inputs, bits, group }));
        }
        let (scales, dtype) = floats(checkpoint, &format!("{name}.scales"), &groups, slice)?;
        let (biases, other) = floats(checkpoint, &format!("{name}.biases"), &groups, slice)?;
        if other != dtype {
            let (expected, found) = (dtype_name(dtype).to_string(), dtype_name(other).to_string());
            return Err(LoadError::WrongTensor { name: format!("{name}.biases"), expected, found });
        }
        Ok(Self::Affine(Affine { weights, scales, biases, dtype, outputs, inputs, bits, group }))
    }

    /// The matrix, if it is dense.
    pub fn dense(&self) -> Option<Dense<'a>> {
        match self {
            Self::Dense(dense) => Some(*dense),
            Self::Affine(_) => None,
        }
    }

    /// The matrix, if it is quantized.
    pub fn affine(&self) -> Option<Affine<'a>> {
        match self {
            Self::Dense(_) => None,
            Self::Affine(affine) => Some(*affine),
        }
    }

    /// The type of its elements, or of its scales and biases.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Dense(dense) => dense.dtype,
            Self::Affine(affine) => affine.dtype,
        }
    }

    /// Bytes in the files.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Dense(dense) => dense.bytes.len(),
            Self::Affine(affine) => affine.weights.len() + affine.scales.len() + affine.biases.len(),
        };
        bytes as u64
    }

    /// Bytes that reading all of it takes: floats are served in two bytes each, other weights in a half or a whole one.
    pub fn served_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Dense(dense) => dense.outputs * dense.inputs * 2,
            Self::Affine(affine) => affine.packed_bytes(),
        };
        bytes as u64
    }

    /// Bytes that it takes in memory: those, and what the kernels of `isa` keep beside them.
    pub fn memory_bytes(&self, isa: Isa) -> u64 {
        match self {
            Self::Dense(_) => self.served_bytes(),
            Self::Affine(affine) => affine.memory_bytes(isa) as u64,
        }
    }

    /// How it is stored, as in `4-bit, group 64` or `bf16`.
    pub fn format(&self) -> String {
        match self {
            Self::Dense(dense) => dtype_name(dense.dtype).to_string(),
            Self::Affine(affine) if affine.dtype == Dtype::E8m0 => "mxfp4".to_string(),
            Self::Affine(affine) => format!("{}-bit, group {}", affine.bits, affine.group),
        }
    }
}

/// Finds a vector and converts it to `f32`.
pub(crate) fn vector(checkpoint: &Checkpoint, vector: &Vector) -> Result<Vec<f32>, LoadError> {
    let (bytes, dtype) = floats(checkpoint, &vector.name, &vector.dims, None)?;
    Ok(widened(bytes, dtype))
}

/// Finds the bias of a part and converts it to `f32`.
pub(crate) fn bias(checkpoint: &Checkpoint, part: &Part) -> Result<Vec<f32>, LoadError> {
    let (bytes, dtype) = floats(checkpoint, &format!("{}.bias", part.name), &[part.outputs], part.slice)?;
    Ok(widened(bytes, dtype))
}

fn widened(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::Bf16 => bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::E8m0 => bytes.iter().map(|&b| f32::from_bits(u32::from(b) << 23)).collect(),
    }
}

/// The type that a vector is stored in.
#[cfg(feature = "mlx")]
pub(crate) fn vector_dtype(checkpoint: &Checkpoint, vector: &Vector) -> Result<Dtype, LoadError> {
    floats(checkpoint, &vector.name, &vector.dims, None).map(|(_, dtype)| dtype)
}

const FLOATS: &str = "bf16, f16 or f32";

/// Which of how many equal parts of a tensor, along a dimension before its others.
type Slice = Option<(usize, usize)>;

/// Floating-point numbers in the shape that is called for.
fn floats<'a>(
    checkpoint: &'a Checkpoint,
    name: &str,
    shape: &[usize],
    slice: Slice,
) -> Result<(&'a [u8], Dtype), LoadError> {
    let (tensor, bytes) = shaped(checkpoint, name, shape, slice, FLOATS)?;
    let dtype = match tensor.dtype {
        Stored::BF16 => Dtype::Bf16,
        Stored::F16 => Dtype::F16,
        Stored::F32 => Dtype::F32,
        _ => return Err(wrong(name, shape, FLOATS, tensor)),
    };
    Ok((bytes, dtype))
}

/// Packed words in the shape that is called for.
fn packed<'a>(checkpoint: &'a Checkpoint, name: &str, shape: &[usize], slice: Slice) -> Result<&'a [u8], LoadError> {
    let (tensor, bytes) = shaped(checkpoint, name, shape, slice, "u32")?;
    match tensor.dtype {
        Stored::U32 => Ok(bytes),
        _ => Err(wrong(name, shape, "u32", tensor)),
    }
}

/// Powers of two in the shape that is called for.
fn powers<'a>(checkpoint: &'a Checkpoint, name: &str, shape: &[usize], slice: Slice) -> Result<&'a [u8], LoadError> {
    let (tensor, bytes) = shaped(checkpoint, name, shape, slice, "u8")?;
    match tensor.dtype {
        Stored::U8 => Ok(bytes),
        _ => Err(wrong(name, shape, "u8", tensor)),
    }
}

/// A tensor, and the bytes of it that are called for.
fn shaped<'a>(
    checkpoint: &'a Checkpoint,
    name: &str,
    shape: &[usize],
    slice: Slice,
    kind: &str,
) -> Result<(Tensor<'a>, &'a [u8]), LoadError> {
    let tensor = checkpoint.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_string() })?;
    let (index, count, whole) = match slice {
        Some((index, count)) => (index, count, [&[count], shape].concat()),
        None => (0, 1, shape.to_vec()),
    };
    if tensor.shape != whole {
        return Err(wrong(name, &whole, kind, tensor));
    }
    let length = tensor.bytes.len() / count;
    Ok((tensor, &tensor.bytes[index * length..(index + 1) * length]))
}

fn wrong(name: &str, shape: &[usize], kind: &str, found: Tensor<'_>) -> LoadError {
    LoadError::WrongTensor {
        name: name.to_string(),
        expected: format!("{kind} {shape:?}"),
        found: format!("{} {:?}", found.dtype.to_string().to_lowercase(), found.shape),
    }
}

fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bf16 => "bf16",
        Dtype::F16 => "f16",
        Dtype::F32 => "f32",
        Dtype::E8m0 => "u8",
    }
}
