//! The verbs of a decoder on MLX, Apple's array library: Metal on a Mac; on Linux its CPU library, for tests.
//!
//! Everything is lazy: a verb adds nodes to a graph, and [`Ops::logits`] computes what is owed, keys and values too. MLX
//! knows no block table, so a row's keys are gathered before they are attended to. A product's sums may be cut differently
//! for other numbers of rows, so here a row's last bits may depend on its batch, which the native kernels never allow.
//! A feature that these verbs lack is refused by name when a model is loaded. The one room of the crate `mlx_rs`.

mod cache;
mod weights;

#[cfg(test)]
mod tests;

use std::convert::Infallible;

use mlx_rs::error::Exception;
use mlx_rs::fast::{self, ScaledDotProductAttentionMask as Mask};
use mlx_rs::nn::gelu_approximate;
use mlx_rs::ops::indexing::{IndexOp, take_axis};
use mlx_rs::ops::{concatenate, sigmoid};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Device, Dtype};

use self::cache::Cache;
use self::weights::{Matrix, Norm, Rope};
use crate::folder::Folder;
use crate::models::{self, Description};
use crate::native::{Precision, Span};
use crate::ops::{Attention, Ops, Step};
use crate::{ForwardError, LoadError, Options};

/// The machine: keys and values, and what is known of the step in hand.
pub(crate) struct Mlx {
    precision: Precision,
    cache: Cache,
    /// Blocks to be copied when the next step begins, where a fault can be told.
    copies: Vec<(u32, u32)>,
    ropes: Vec<Rope>,
}

/// What MLX says when something fails.
#[derive(Debug)]
pub(crate) struct Fault(String);

impl Mlx {
    /// A machine for one model.
    pub fn new(description: &Description, options: &Options) -> Result<Self, LoadError> {
        if description
            .layers
            .iter()
            .any(|layer| layer.mixer().is_some_and(|mixer| mixer.inner.attention.softcap.is_some()))
        {
            return Err(LoadError::unsupported("attn_logit_softcapping on MLX", "on the CPU it is"));
        }
        let sharpened = |layer: &models::Layer| layer.mixer().is_some_and(|it| it.inner.attention.sharpening.is_some());
        if description.layers.iter().any(sharpened) {
            return Err(LoadError::unsupported("llama_4_scaling_beta on MLX", "on the CPU it is"));
        }
        let layers = description.layers.len();
        Ok(Self {
            precision: options.precision,
            copies: Vec::new(),
            cache: Cache::new(layers, options.blocks as usize),
            ropes: description.ropes.iter().map(Rope::new).collect(),
        })
    }

    /// Makes one block hold what another holds, once a step needs it.
    pub fn copy_block_later(&mut self, from: u32, to: u32) {
        self.copies.push((from, to));
    }

    /// What computes, in words.
    pub fn describe(&self) -> String {
        format!("MLX, {}", Device::default())
    }
}

impl Ops for Mlx {
    type Rows = Array;
    type Matrix = Matrix;
    type Norm = Norm;
    type Experts = Infallible;
    type Latent = Infallible;
    type Delta = Infallible;
    type Fault = Fault;

    fn matrix(&mut self, folder: &Folder, stack: &models::Stack) -> Result<Matrix, LoadError> {
        Matrix::load(folder, stack, self.precision)
    }

    fn norm_weights(&mut self, folder: &Folder, norm: &models::Norm) -> Result<Norm, LoadError> {
        Norm::load(folder, norm, self.precision)
    }

    fn expert_weights(&mut self, _: &Folder, _: &models::Experts) -> Result<Infallible, LoadError> {
        Err(LoadError::unsupported("a model of experts on MLX", "on the CPU it is"))
    }

    fn latent_weights(&mut self, _: &Folder, _: &models::Latent) -> Result<Infallible, LoadError> {
        Err(LoadError::unsupported("latent attention on MLX", "on the CPU it is"))
    }

    fn delta_weights(&mut self, _: &Folder, _: &models::Delta) -> Result<Infallible, LoadError> {
        Err(LoadError::unsupported("a delta net on MLX", "on the CPU it is"))
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        Ok(self.cache.copy(from, to)?)
    }

    fn begin(&mut self, step: &Step<'_>) -> Result<(), Fault> {
        for (from, to) in std::mem::take(&mut self.copies) {
            self.copy_block(from, to)?;
        }
        self.cache.begin(step.spans);
        Ok(())
    }

    fn embed(&mut self, table: &Matrix, step: &Step<'_>, scale: f32) -> Result<Array, Fault> {
        let rows = table.rows(&indices(step.tokens.iter().map(|&token| token as usize)))?;
        Ok(scaled(rows, scale)?)
    }

    fn linear(&mut self, matrix: &Matrix, x: &Array) -> Result<Array, Fault> {
        Ok(matrix.forward(x)?)
    }

    fn norm(&mut self, norm: &Norm, x: &Array) -> Result<Array, Fault> {
        Ok(norm.forward(x)?)
    }

    fn attend(&mut self, attention: &Attention<Self>, qkv: Array, step: &Step<'_>, cut: bool) -> Result<Array, Fault> {
        let models::Attention { heads, kv_heads, head_dim, window, rope, scale, .. } = attention.shape;
        let rope = rope.map(|rope| &self.ropes[rope]);
        let (of_queries, of_keys) = match &attention.qk_norm {
            Some((queries, keys)) => (Some(queries), Some(keys)),
            None => (None, None),
        };
        let dim = head_dim as i32;
        let q = turned(rope, &part(&qkv, 0, heads, dim)?, of_queries, step.spans)?;
        let k = turned(rope, &part(&qkv, heads, kv_heads, dim)?, of_keys, step.spans)?;
        let v = part(&qkv, heads + kv_heads, kv_heads, dim)?.transpose_axes(&[1, 0, 2])?;
        self.cache.append(attention.layer, &k, &v)?;
        let mut attended = Vec::with_capacity(step.spans.len());
        let mut first = 0;
        for (row, span) in step.spans.iter().enumerate() {
            let len = span.len as i32;
            let q = q.index((.., first..first + len, ..)).expand_dims(0)?;
            let (k, v) = self.cache.row(attention.layer, row)?;
            let mask = window.and_then(|window| window_mask(span, window));
            let mask = mask.as_ref().map(Mask::Array).or((len > 1).then_some(Mask::Causal));
            let out = fast::scaled_dot_product_attention(&q, &k, &v, scale, mask, None)?;
            attended.push(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[len, heads as i32 * dim])?);
            first += len;
        }
        let attended = match attended.as_slice() {
            [_] => attended.remove(0),
            _ => concatenate(&attended, 0)?,
        };
        if cut { self.wanted(&attended, step) } else { Ok(attended) }
    }

    fn part_gates(&mut self, attention: &models::Attention, x: Array) -> Result<(Array, Array), Fault> {
        let (heads, dim) = (attention.heads as i32, attention.head_dim as i32);
        let both = x.index((.., ..2 * heads * dim)).reshape(&[-1, heads, 2 * dim])?;
        let flat = |part: Array| part.reshape(&[-1, heads * dim]);
        let queries = flat(both.index((.., .., ..dim)))?;
        let qkv = concatenate(&[queries, x.index((.., 2 * heads * dim..))], -1)?;
        Ok((qkv, flat(both.index((.., .., dim..)))?))
    }

    fn open(&mut self, gate: Array, x: Array) -> Result<Array, Fault> {
        Ok(x.multiply(sigmoid(&gate)?)?)
    }

    fn enter_latent(&mut self, latent: &Infallible, _: Array) -> Result<Array, Fault> {
        match *latent {}
    }

    fn leave_latent(&mut self, latent: &Infallible, _: Array) -> Result<Array, Fault> {
        match *latent {}
    }

    fn recur(&mut self, delta: &Infallible, _: Array, _: &Step<'_>) -> Result<Array, Fault> {
        match *delta {}
    }

    fn gate(&mut self, activation: models::Activation, gate_up: Array) -> Result<Array, Fault> {
        let width = gate_up.dim(-1) / 2;
        let (gate, up) = (gate_up.index((.., ..width)), gate_up.index((.., width..)));
        let active = match activation {
            models::Activation::Silu => gate.multiply(sigmoid(&gate)?)?,
            models::Activation::GeluTanh => gelu_approximate(&gate)?,
            models::Activation::ClippedSwiglu => {
                return Err(Fault("a clipped gate is not computed on MLX".to_string()));
            }
        };
        Ok(active.multiply(up)?)
    }

    fn experts(&mut self, experts: &Infallible, _: &Array) -> Result<Array, Fault> {
        match *experts {}
    }

    fn add(&mut self, stream: Array, branch: Array, scale: f32) -> Result<Array, Fault> {
        Ok(stream.add(scaled(branch, scale)?)?)
    }

    fn wanted(&mut self, x: &Array, step: &Step<'_>) -> Result<Array, Fault> {
        Ok(match step.wanted {
            [] => x.clone(),
            wanted => take_axis(x, indices(wanted.iter().copied()), 0)?,
        })
    }

    fn done(&mut self, x: Array) {
        drop(x);
    }

    fn logits(&mut self, head: &Matrix, x: Array, step: &Step<'_>, logits: &mut Vec<f32>) -> Result<(), Fault> {
        logits.clear();
        if step.wanted.is_empty() {
            // A graph that is never computed would grow with every step.
            return Ok(eval(self.cache.arrays())?);
        }
        let scores = head.forward(&x)?.as_dtype(Dtype::Float32)?.contiguous()?;
        eval(self.cache.arrays().chain([&scores]))?;
        logits.extend_from_slice(scores.try_as_slice::<f32>().map_err(|error| Fault(error.to_string()))?);
        Ok(())
    }
}

/// Heads `first..first + count` of `[tokens, width]`: `[tokens, count, dim]`.
fn part(x: &Array, first: usize, count: usize, dim: i32) -> Result<Array, Exception> {
    let (first, count) = (first as i32, count as i32);
    x.index((.., first * dim..(first + count) * dim)).reshape(&[-1, count, dim])
}

/// `[tokens, heads, dim]` to `[heads, tokens, dim]`, each head normed, and turned by its row's positions.
fn turned(rope: Option<&Rope>, x: &Array, norm: Option<&Norm>, spans: &[Span<'_>]) -> Result<Array, Exception> {
    let normed = match norm {
        // All heads together, where the norm is that long.
        Some(norm) => norm.forward(x.reshape(&[x.dim(0), -1, norm.length()])?)?.reshape(x.shape())?,
        None => x.clone(),
    };
    let x = normed.transpose_axes(&[1, 0, 2])?;
    let Some(rope) = rope else { return Ok(x) };
    if let [span] = spans {
        return rope.apply(&x, span.start);
    }
    let mut first = 0;
    let rows = spans.iter().map(|span| {
        let row = x.index((.., first..first + span.len as i32, ..));
        first += span.len as i32;
        rope.apply(&row, span.start)
    });
    concatenate(&rows.collect::<Result<Vec<_>, _>>()?, 1)
}

/// x times a factor of its own type.
fn scaled(x: Array, factor: f32) -> Result<Array, Exception> {
    if factor == 1.0 { Ok(x) } else { x.multiply(Array::from_f32(factor).as_dtype(x.dtype())?) }
}

/// Which positions each of the span's tokens sees, `[tokens, positions]`; nothing where the window leaves none out.
fn window_mask(span: &Span<'_>, window: usize) -> Option<Array> {
    let (start, end) = (span.start as usize, (span.start + span.len) as usize);
    let sees = |token: usize, position: usize| position <= token && token < position + window;
    let seen: Vec<bool> = (start..end).flat_map(|token| (0..end).map(move |at| sees(token, at))).collect();
    (end > window).then(|| Array::from_slice(&seen, &[span.len as i32, end as i32]))
}

/// An array of indices.
fn indices(values: impl Iterator<Item = usize>) -> Array {
    let values: Vec<u32> = values.map(|value| value as u32).collect();
    Array::from_slice(&values, &[values.len() as i32])
}

impl From<Exception> for Fault {
    fn from(error: Exception) -> Self {
        Self(error.what().to_string())
    }
}

impl From<Fault> for ForwardError {
    fn from(fault: Fault) -> Self {
        Self::Device { message: fault.0 }
    }
}
