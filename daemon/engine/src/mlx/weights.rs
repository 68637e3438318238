//! A folder's weights as MLX arrays.
//!
//! Stored types are kept under `Fast`, so activations take theirs; `Exact` widens everything but packed words to f32. The
//! matrices of a stack that are stored alike become one array and one product.

use mlx_rs::error::Exception;
use mlx_rs::ops::indexing::{IndexOp, take_axis};
use mlx_rs::ops::{addmm, concatenate, dequantize, quantized_matmul};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype, fast};

use super::Fault;
use crate::folder::Folder;
use crate::matrix::Matrix as Stored;
use crate::native::{self, Precision, Scaling};
use crate::{LoadError, models};

/// A stack of matrices.
pub(crate) struct Matrix {
    runs: Vec<Run>,
    bias: Option<Array>,
}

/// Matrices that are stored alike, as one.
enum Run {
    /// `[inputs, outputs]`.
    Dense(Array),
    /// `[outputs, words]`, and scales and biases.
    Affine { weights: Array, scales: Array, biases: Array, group: i32, bits: i32 },
}

impl Matrix {
    pub fn load(folder: &Folder, stack: &models::Stack, precision: Precision) -> Result<Self, LoadError> {
        let matrices = folder.matrices(stack)?;
        let runs = matrices.chunk_by(|left, right| left.format() == right.format() && left.dtype() == right.dtype());
        let runs = runs.map(|run| Run::load(run, precision)).collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let bias = folder.bias(stack)?.map(|bias| vector(&bias, matrices[0].dtype(), precision));
        Ok(Self { runs, bias: bias.transpose().map_err(refused)? })
    }

    /// W x + b for each row.
    pub fn forward(&self, x: &Array) -> Result<Array, Exception> {
        if let ([Run::Dense(weights)], Some(bias)) = (self.runs.as_slice(), &self.bias) {
            return addmm(bias, x, weights, None, None);
        }
        let mut parts = self.runs.iter().map(|run| run.forward(x)).collect::<Result<Vec<_>, _>>()?;
        let out = if parts.len() == 1 { parts.remove(0) } else { concatenate(&parts, -1)? };
        self.bias.as_ref().map_or(Ok(out.clone()), |bias| out.add(bias))
    }

    /// The rows of the first matrix that `indices` names.
    pub fn rows(&self, indices: &Array) -> Result<Array, Exception> {
        match &self.runs[0] {
            Run::Dense(weights) => take_axis(weights, indices, 1)?.transpose_axes(&[1, 0]),
            Run::Affine { weights, scales, biases, group, bits } => {
                let of = |x: &Array| take_axis(x, indices, 0);
                dequantize(of(weights)?, of(scales)?, &of(biases)?, *group, *bits)
            }
        }
    }
}

impl Run {
    fn load(run: &[Stored<'_>], precision: Precision) -> Result<Self, Exception> {
        let joined = |parts: Vec<Array>| {
            let whole = concatenate(&parts, 0)?;
            // Now, as the parts go.
            eval([&whole])?;
            Ok::<_, Exception>(whole)
        };
        let every = |part: &dyn Fn(&Stored<'_>) -> Result<Array, Exception>| {
            joined(run.iter().map(part).collect::<Result<_, _>>()?)
        };
        match run[0] {
            Stored::Dense(_) => {
                let whole = every(&|stored| match stored {
                    Stored::Dense(part) => floats(part.bytes, part.dtype, &[part.outputs, part.inputs], precision),
                    Stored::Affine(_) => Err(Exception::custom("a run of matrices is stored alike")),
                })?;
                Ok(Self::Dense(whole.transpose_axes(&[1, 0])?))
            }
            Stored::Affine(first) => {
                let pick = |bytes: &dyn Fn(&native::Affine<'_>) -> Result<Array, Exception>| {
                    every(&|stored| match stored {
                        Stored::Affine(part) => bytes(part),
                        Stored::Dense(_) => Err(Exception::custom("a run of matrices is stored alike")),
                    })
                };
                let pairs = |part: &native::Affine<'_>| [part.outputs, part.inputs / part.group];
                Ok(Self::Affine {
                    weights: pick(&|part| Ok(words(part.weights, part.outputs)))?,
                    scales: pick(&|part| floats(part.scales, part.dtype, &pairs(part), precision))?,
                    biases: pick(&|part| floats(part.biases, part.dtype, &pairs(part), precision))?,
                    group: first.group as i32,
                    bits: first.bits as i32,
                })
            }
        }
    }

    fn forward(&self, x: &Array) -> Result<Array, Exception> {
        match self {
            Self::Dense(weights) => x.matmul(weights),
            Self::Affine { weights, scales, biases, group, bits } => {
                quantized_matmul(x, weights, scales, biases, true, *group, *bits)
            }
        }
    }
}

/// A norm.
pub(crate) struct Norm {
    kind: models::NormKind,
    /// `[run]`, or `[runs, run]` where each run has factors of its own.
    weight: Array,
    epsilon: f32,
}

impl Norm {
    pub fn load(folder: &Folder, norm: &models::Norm, precision: Precision) -> Result<Self, LoadError> {
        let dtype = folder.vector_dtype(&norm.weight)?;
        let weight = vector(&folder.vector(&norm.weight)?, dtype, precision).map_err(refused)?;
        let weight = if norm.less_one { one_more(&weight).map_err(refused)? } else { weight };
        let dims: Vec<i32> = norm.weight.dims.iter().map(|&size| size as i32).collect();
        let weight = weight.reshape(&dims).map_err(refused)?;
        Ok(Self { kind: norm.kind, weight, epsilon: norm.epsilon })
    }

    /// How many numbers are normed together.
    pub fn length(&self) -> i32 {
        self.weight.dim(-1)
    }

    /// Norms the last axis.
    pub fn forward(&self, x: impl AsRef<Array>) -> Result<Array, Exception> {
        let shared = Some(&self.weight).filter(|weight| weight.ndim() == 1);
        let normed = match self.kind {
            models::NormKind::Rms => fast::rms_norm(x, shared, self.epsilon),
            models::NormKind::Layer => fast::layer_norm(x, shared, None, self.epsilon),
        }?;
        if shared.is_some() { Ok(normed) } else { normed.multiply(&self.weight) }
    }
}

/// How positions turn heads.
pub(super) struct Rope {
    dims: i32,
    neighbours: bool,
    base: f32,
    scale: f32,
    /// The wavelengths divided by 2 pi, and the factor of what is turned, where a base alone does not say them.
    stretched: Option<(Array, f32)>,
}

impl Rope {
    pub fn new(rope: &models::Rope) -> Self {
        let scale = if let Scaling::Linear { factor } = rope.scaling { (1.0 / factor) as f32 } else { 1.0 };
        let stretched = match rope.scaling {
            Scaling::None | Scaling::Linear { .. } if rope.listed.is_none() => None,
            _ => {
                let table = rope.table();
                let lengths: Vec<f32> = table.frequencies().iter().map(|frequency| 1.0 / frequency).collect();
                Some((Array::from_slice(&lengths, &[lengths.len() as i32]), table.magnitude()))
            }
        };
        let (dims, base) = (rope.dims as i32, rope.base as f32);
        Self { dims, neighbours: rope.neighbours, base, scale, stretched }
    }

    /// Turns `[heads, tokens, dim]`, whose first token is at `start`.
    pub fn apply(&self, x: &Array, start: u32) -> Result<Array, Exception> {
        let start = start as i32;
        match &self.stretched {
            None => fast::rope(x, self.dims, self.neighbours, self.base, self.scale, start, None),
            Some((lengths, magnitude)) => {
                let factor = Array::from_f32(*magnitude).as_dtype(x.dtype())?;
                let turned = x.index((.., .., ..self.dims)).multiply(factor)?;
                let rest = x.index((.., .., self.dims..));
                let turned = fast::rope(turned, self.dims, self.neighbours, None, 1.0, start, lengths)?;
                if rest.dim(-1) == 0 { Ok(turned) } else { concatenate(&[turned, rest], -1) }
            }
        }
    }
}

/// What is stored less one.
fn one_more(weight: &Array) -> Result<Array, Exception> {
    weight.add(Array::from_f32(1.0).as_dtype(weight.dtype())?)
}

/// Packed words, `[outputs, words]`.
fn words(bytes: &[u8], outputs: usize) -> Array {
    let words: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
    Array::from_slice(&words, &[outputs as i32, (words.len() / outputs) as i32])
}

/// Floats of a stored type, kept or widened.
fn floats(bytes: &[u8], dtype: native::Dtype, shape: &[usize], precision: Precision) -> Result<Array, Exception> {
    let shape: Vec<i32> = shape.iter().map(|&length| length as i32).collect();
    let halves = || bytes.as_chunks::<2>().0.iter().copied();
    let array = match dtype {
        native::Dtype::Bf16 => Array::from_slice(&halves().map(half::bf16::from_le_bytes).collect::<Vec<_>>(), &shape),
        native::Dtype::F16 => Array::from_slice(&halves().map(half::f16::from_le_bytes).collect::<Vec<_>>(), &shape),
        native::Dtype::E8m0 => return Err(Exception::custom("MXFP4 weights are not computed on MLX")),
        native::Dtype::F32 => {
            let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
            Array::from_slice(&values, &shape)
        }
    };
    if precision == Precision::Exact { array.as_dtype(Dtype::Float32) } else { Ok(array) }
}

/// A vector that was read as f32, in the type it was stored in or as it is.
fn vector(values: &[f32], dtype: native::Dtype, precision: Precision) -> Result<Array, Exception> {
    let array = Array::from_slice(values, &[values.len() as i32]);
    match (precision, dtype) {
        (Precision::Exact, _) | (_, native::Dtype::F32) => Ok(array),
        (_, native::Dtype::Bf16) => array.as_dtype(Dtype::Bfloat16),
        (_, native::Dtype::E8m0) => Ok(array),
        (_, native::Dtype::F16) => array.as_dtype(Dtype::Float16),
    }
}

/// What MLX refuses while weights are brought to it.
fn refused(error: Exception) -> LoadError {
    LoadError::Device { message: Fault::from(error).0 }
}
