//! The verbs of a decoder on the native kernels.
//!
//! A token's numbers depend on its own row's tokens alone, never on the other rows, on how a prompt was cut, or on the
//! number of threads, because every kernel keeps that law. Activations that are given back serve the next verb, so a
//! step allocates nothing once the largest has been seen.

use std::convert::Infallible;

use crate::folder::Folder;
use crate::models::{self, Description};
use crate::native::{Angles, Heads, KvCache, Precision, Rope, Shape, add, attend, rms_norm, rms_norm_heads, silu_mul};
use crate::ops::{Attention, Ops, Step};
use crate::projection::{Machine, Projection};
use crate::{ForwardError, LoadError, Options};

/// The machine: threads, working memory, keys and values.
pub(crate) struct Cpu {
    machine: Machine,
    precision: Precision,
    cache: KvCache,
    rope: Rope,
    angles: Angles,
    /// Memory of activations that were given back.
    free: Vec<Vec<f32>>,
}

/// Activations: `[count, width]` at the head of `numbers`.
pub(crate) struct Rows {
    numbers: Vec<f32>,
    count: usize,
    width: usize,
}

/// The weights of a norm.
pub(crate) struct Norm {
    weight: Vec<f32>,
    epsilon: f32,
}

impl Cpu {
    /// A machine for one model.
    pub fn new(description: &Description, options: &Options) -> Result<Self, LoadError> {
        let models::Attention { kv_heads, head_dim, .. } = description.attention();
        let (layers, blocks) = (description.layers.len(), options.blocks as usize);
        Ok(Self {
            machine: Machine::new(options.threads),
            precision: options.precision,
            cache: KvCache::new(layers, blocks, kv_heads, head_dim, options.precision)?,
            rope: Rope::new(head_dim, description.rope.base, &description.rope.scaling),
            angles: Angles::default(),
            free: Vec::new(),
        })
    }

    /// Bytes of the keys and values of a block.
    pub fn block_bytes(&self) -> usize {
        self.cache.block(0).len()
    }

    /// What a block holds.
    pub fn read_block(&self, block: u32) -> Vec<u8> {
        self.cache.block(block).to_vec()
    }

    /// Fills a block with what `read_block` gave for the same model.
    pub fn write_block(&mut self, block: u32, contents: &[u8]) {
        self.cache.block_mut(block).copy_from_slice(contents);
    }

    /// What computes, in words.
    pub fn describe(&self) -> String {
        self.machine.pool.describe()
    }

    /// Memory for `[count, width]`, with arbitrary numbers: the smallest that suffices, or else the largest, grown.
    fn take(&mut self, count: usize, width: usize) -> Rows {
        let needs = count * width;
        let fit = |length: usize| if length >= needs { (0, length) } else { (1, usize::MAX - length) };
        let best = (0..self.free.len()).min_by_key(|&at| fit(self.free[at].len()));
        let mut numbers = best.map(|at| self.free.swap_remove(at)).unwrap_or_default();
        if numbers.len() < needs {
            numbers.resize(needs, 0.0);
        }
        Rows { numbers, count, width }
    }
}

impl Rows {
    fn all(&self) -> &[f32] {
        &self.numbers[..self.count * self.width]
    }

    fn all_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.count * self.width]
    }
}

impl Ops for Cpu {
    type Rows = Rows;
    type Matrix = Projection;
    type Norm = Norm;
    type Fault = Infallible;

    fn matrix(&mut self, folder: &Folder, stack: &models::Stack) -> Result<Projection, LoadError> {
        Projection::load(folder, stack, self.precision, &self.machine.pool)
    }

    fn norm_weights(&mut self, folder: &Folder, norm: &models::Norm) -> Result<Norm, LoadError> {
        Ok(Norm { weight: folder.vector(&norm.weight)?, epsilon: norm.epsilon })
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        self.cache.copy(from, to);
        Ok(())
    }

    fn begin(&mut self, step: &Step<'_>) -> Result<(), Infallible> {
        let positions = step.spans.iter().flat_map(|span| span.start..span.start + span.len);
        self.rope.angles(positions, &mut self.angles);
        Ok(())
    }

    fn embed(&mut self, table: &Projection, step: &Step<'_>) -> Result<Rows, Infallible> {
        let width = table.inputs();
        let mut stream = self.take(step.tokens.len(), width);
        for (token, row) in step.tokens.iter().zip(stream.all_mut().chunks_exact_mut(width)) {
            table.row(*token as usize, row);
        }
        Ok(stream)
    }

    fn linear(&mut self, matrix: &Projection, x: &Rows) -> Result<Rows, Infallible> {
        let mut out = self.take(x.count, matrix.outputs());
        matrix.forward(&mut self.machine, x.all(), x.count, out.all_mut());
        Ok(out)
    }

    fn norm(&mut self, norm: &Norm, x: &Rows) -> Result<Rows, Infallible> {
        let mut out = self.take(x.count, x.width);
        rms_norm(&self.machine.pool, x.all(), &norm.weight, norm.epsilon, out.all_mut());
        Ok(out)
    }

    fn attend(&mut self, attention: &Attention<Self>, mut qkv: Rows, step: &Step<'_>) -> Result<Rows, Infallible> {
        let models::Attention { heads, kv_heads, head_dim, window } = attention.shape;
        let mut attended = self.take(qkv.count, heads * head_dim);
        let Self { machine, cache, rope, angles, .. } = self;
        let pool = &machine.pool;
        let stride = qkv.width;
        let queries = Heads { stride, offset: 0, count: heads, dim: head_dim };
        let keys = Heads { offset: heads * head_dim, count: kv_heads, ..queries };
        let x = qkv.all_mut();
        if let Some((of_queries, of_keys)) = &attention.qk_norm {
            rms_norm_heads(pool, x, queries, &of_queries.weight, of_queries.epsilon);
            rms_norm_heads(pool, x, keys, &of_keys.weight, of_keys.epsilon);
        }
        rope.apply(pool, angles, x, queries);
        rope.apply(pool, angles, x, keys);
        let values = &x[keys.offset + kv_heads * head_dim..];
        cache.append(pool, attention.layer, step.spans, &x[keys.offset..], values, stride);
        let shape = Shape {
            heads,
            stride,
            scale: (head_dim as f32).powf(-0.5),
            window: window.map(|positions| positions as u32),
            ahead: 0,
            softcap: None,
        };
        let layer = cache.layer(attention.layer);
        attend(pool, &mut machine.scratch, layer, x, step.spans, &shape, attended.all_mut());
        self.done(qkv);
        Ok(attended)
    }

    fn gate(&mut self, gate_up: Rows) -> Result<Rows, Infallible> {
        let width = gate_up.width / 2;
        let mut gated = self.take(gate_up.count, width);
        let x = gate_up.all();
        silu_mul(&self.machine.pool, x, &x[width..], 2 * width, width, gated.all_mut());
        self.done(gate_up);
        Ok(gated)
    }

    fn add(&mut self, mut stream: Rows, branch: Rows) -> Result<Rows, Infallible> {
        add(&self.machine.pool, stream.all_mut(), branch.all());
        self.done(branch);
        Ok(stream)
    }

    fn wanted(&mut self, x: Rows, step: &Step<'_>) -> Result<Rows, Infallible> {
        let width = x.width;
        let mut chosen = self.take(step.wanted.len(), width);
        for (index, row) in step.wanted.iter().zip(chosen.all_mut().chunks_exact_mut(width)) {
            row.copy_from_slice(&x.numbers[index * width..(index + 1) * width]);
        }
        self.done(x);
        Ok(chosen)
    }

    fn done(&mut self, x: Rows) {
        self.free.push(x.numbers);
    }

    fn logits(&mut self, head: &Projection, x: Rows, step: &Step<'_>, logits: &mut Vec<f32>) -> Result<(), Infallible> {
        logits.resize(step.wanted.len() * head.outputs(), 0.0);
        head.forward(&mut self.machine, x.all(), x.count, logits);
        self.done(x);
        Ok(())
    }
}

impl From<Infallible> for ForwardError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests;
