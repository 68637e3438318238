//! The verbs of a decoder on the native kernels.
//!
//! A token's numbers depend on its own row's tokens alone, never on the other rows, on how a prompt was cut, or on the
//! number of threads, because every kernel keeps that law. Activations that are given back serve the next verb, so a
//! step allocates nothing once the largest has been seen.

mod delta;
mod experts;
mod latent;

use std::convert::Infallible;

use self::delta::Delta;
use self::experts::{Experts, Routes};
use self::latent::Latent;

use crate::folder::Folder;
use crate::models::{self, Description};
use crate::native::{
    self, Angles, Gate, HeadNorm, Heads, KvCache, Precision, Rope, Shape, add, attend, layer_norm, prepare, rms_norm,
    silu_mul, swiglu_clipped,
};
use crate::ops::{Attention, Ops, Step};
use crate::projection::{Machine, Projection};
use crate::{ForwardError, LoadError, Options};

/// The machine: threads, working memory, keys and values.
pub(crate) struct Cpu {
    machine: Machine,
    precision: Precision,
    caches: Vec<KvCache>,
    /// The cache of each layer, and the layer's place in it.
    places: Vec<(usize, usize)>,
    /// Each with the angles of the step's positions.
    ropes: Vec<(Rope, Angles)>,
    /// Memory of activations that were given back.
    free: Vec<Vec<f32>>,
    routes: Routes,
    /// The form of the layers that keep states, and how many there are.
    recurrent: Option<(native::DeltaShape, usize)>,
    /// How many of them were loaded.
    deltas: usize,
    states: Option<native::DeltaStates>,
    /// Empty between calls; keeps its memory.
    delta_spans: Vec<native::DeltaSpan>,
}

/// Activations: `[count, width]` in `numbers`, from `first` on, where a cache line begins.
pub(crate) struct Rows {
    numbers: Vec<f32>,
    first: usize,
    count: usize,
    width: usize,
}

/// The weights of a norm.
pub(crate) struct Norm {
    kind: models::NormKind,
    run: usize,
    weight: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    fn of_heads(&self) -> HeadNorm<'_> {
        let centred = self.kind == models::NormKind::Layer;
        HeadNorm { run: self.run, centred, weight: &self.weight, epsilon: self.epsilon }
    }
}

impl Cpu {
    /// A machine for one model.
    pub fn new(description: &Description, options: &Options) -> Result<Self, LoadError> {
        let shapes = description.caches();
        let mut places = vec![(0, 0); description.layers.len()];
        for (cache, shape) in shapes.iter().enumerate() {
            shape.layers.iter().enumerate().for_each(|(at, &layer)| places[layer] = (cache, at));
        }
        let cache = |shape: &models::CacheShape| {
            let models::CacheShape { kv_heads, head_dim, layers } = shape;
            KvCache::new(layers.len(), options.blocks as usize, *kv_heads, *head_dim, options.keep)
        };
        Ok(Self {
            machine: Machine::new(options.threads),
            precision: options.precision,
            caches: shapes.iter().map(cache).collect::<Result<_, _>>()?,
            places,
            ropes: description.ropes.iter().map(|rope| (rope.table(), Angles::default())).collect(),
            free: Vec::new(),
            routes: Routes::default(),
            recurrent: description.recurrent(),
            deltas: 0,
            states: None,
            delta_spans: Vec::new(),
        })
    }

    /// Bytes of the keys and values of a block.
    pub fn block_bytes(&self) -> usize {
        self.caches.iter().map(|cache| cache.block(0).len()).sum()
    }

    /// What a block holds.
    pub fn read_block(&self, block: u32) -> Vec<u8> {
        self.caches.iter().map(|cache| cache.block(block)).collect::<Vec<_>>().concat()
    }

    /// Fills a block with what `read_block` gave for the same model.
    pub fn write_block(&mut self, block: u32, mut contents: &[u8]) {
        for cache in &mut self.caches {
            let held = cache.block_mut(block);
            let (of_cache, rest) = contents.split_at(held.len());
            held.copy_from_slice(of_cache);
            contents = rest;
        }
    }

    /// Makes memory of one more block ready; false when enough is.
    pub fn touch_ahead(&mut self) -> bool {
        self.caches.iter_mut().any(KvCache::touch_ahead)
    }

    /// What computes, in words.
    pub fn describe(&self) -> String {
        self.machine.pool.describe()
    }

    /// Memory for `[count, width]`, with arbitrary numbers: the smallest that suffices, or else the largest, grown.
    fn take(&mut self, count: usize, width: usize) -> Rows {
        let before = native::LINE / size_of::<f32>();
        let needs = count * width + before;
        let fit = |length: usize| if length >= needs { (0, length) } else { (1, usize::MAX - length) };
        let best = (0..self.free.len()).min_by_key(|&at| fit(self.free[at].len()));
        let mut numbers = best.map(|at| self.free.swap_remove(at)).unwrap_or_default();
        if numbers.len() < needs {
            numbers.resize(needs, 0.0);
        }
        let first = numbers.as_ptr().align_offset(native::LINE).min(before);
        Rows { numbers, first, count, width }
    }
}

impl Rows {
    fn all(&self) -> &[f32] {
        &self.numbers[self.first..][..self.count * self.width]
    }

    fn all_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.first..][..self.count * self.width]
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.all()[index * self.width..][..self.width]
    }

    fn row_mut(&mut self, index: usize) -> &mut [f32] {
        let width = self.width;
        &mut self.all_mut()[index * width..][..width]
    }
}

impl Ops for Cpu {
    type Rows = Rows;
    type Matrix = Projection;
    type Norm = Norm;
    type Experts = Experts;
    type Latent = Latent;
    type Delta = Delta;
    type Fault = Infallible;

    fn matrix(&mut self, folder: &Folder, stack: &models::Stack) -> Result<Projection, LoadError> {
        Projection::load(folder, stack, self.precision, &self.machine.pool)
    }

    fn gate_matrix(&mut self, folder: &Folder, stack: &models::Stack) -> Result<Projection, LoadError> {
        Projection::load_gate(folder, stack, self.precision, &self.machine.pool)
    }

    fn norm_weights(&mut self, folder: &Folder, norm: &models::Norm) -> Result<Norm, LoadError> {
        let mut weight = folder.vector(&norm.weight)?;
        if norm.less_one {
            weight.iter_mut().for_each(|factor| *factor += 1.0);
        }
        Ok(Norm { kind: norm.kind, run: norm.weight.width(), weight, epsilon: norm.epsilon })
    }

    fn expert_weights(&mut self, folder: &Folder, experts: &models::Experts) -> Result<Experts, LoadError> {
        Experts::load(self, folder, experts)
    }

    fn latent_weights(&mut self, folder: &Folder, latent: &models::Latent) -> Result<Latent, LoadError> {
        Latent::load(self, folder, latent)
    }

    fn delta_weights(&mut self, folder: &Folder, delta: &models::Delta) -> Result<Delta, LoadError> {
        self.load_delta(folder, delta)
    }

    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        self.caches.iter_mut().for_each(|cache| cache.copy(from, to));
        Ok(())
    }

    fn begin(&mut self, step: &Step<'_>) -> Result<(), Infallible> {
        let positions = step.spans.iter().flat_map(|span| span.start..span.start + span.len);
        self.ropes.iter_mut().for_each(|(rope, angles)| rope.angles(positions.clone(), angles));
        Ok(())
    }

    fn embed(&mut self, table: &Projection, step: &Step<'_>, scale: f32) -> Result<Rows, Infallible> {
        let width = table.inputs();
        let mut stream = self.take(step.tokens.len(), width);
        for (token, row) in step.tokens.iter().zip(stream.all_mut().chunks_exact_mut(width)) {
            table.row(*token as usize, row);
        }
        if scale != 1.0 {
            stream.all_mut().iter_mut().for_each(|x| *x *= scale);
        }
        Ok(stream)
    }

    fn linear(&mut self, matrix: &Projection, x: &Rows) -> Result<Rows, Infallible> {
        let mut out = self.take(x.count, matrix.outputs());
        matrix.forward(&mut self.machine, x.all(), x.count, out.all_mut());
        Ok(out)
    }

    fn linear_onto(&mut self, matrix: &Projection, x: &Rows, mut stream: Rows) -> Result<Rows, Infallible> {
        if matrix.adds() {
            matrix.forward_onto(&mut self.machine, x.all(), x.count, stream.all_mut());
            return Ok(stream);
        }
        let branch = self.linear(matrix, x)?;
        self.add(stream, branch, 1.0)
    }

    fn gated(&mut self, matrix: &Projection, activation: models::Activation, x: &Rows) -> Result<Rows, Infallible> {
        if !matrix.gates() {
            let gate_up = self.linear(matrix, x)?;
            return self.gate(activation, gate_up);
        }
        let gate = match activation {
            models::Activation::Silu => Gate::Silu,
            models::Activation::ClippedSwiglu => Gate::Clipped,
            models::Activation::GeluTanh => Gate::GeluTanh,
        };
        let mut gated = self.take(x.count, matrix.outputs() / 2);
        matrix.forward_gated(&mut self.machine, gate, x.all(), gated.all_mut());
        Ok(gated)
    }

    fn norm(&mut self, norm: &Norm, x: &Rows) -> Result<Rows, Infallible> {
        let mut out = self.take(x.count, x.width);
        let pool = &self.machine.pool;
        match norm.kind {
            models::NormKind::Rms => rms_norm(pool, x.all(), &norm.weight, norm.epsilon, out.all_mut()),
            models::NormKind::Layer => layer_norm(pool, x.all(), &norm.weight, None, norm.epsilon, out.all_mut()),
        }
        Ok(out)
    }

    fn attend(
        &mut self,
        attention: &Attention<Self>,
        mut qkv: Rows,
        step: &Step<'_>,
        cut: bool,
    ) -> Result<Rows, Infallible> {
        let models::Attention { heads, kv_heads, head_dim, window, rope, scale, softcap, sharpening } = attention.shape;
        let (cache, layer) = self.places[attention.layer];
        let Self { machine, caches, ropes, .. } = self;
        let pool = &machine.pool;
        let stride = qkv.width;
        let queries = Heads { stride, offset: 0, count: heads, dim: head_dim };
        let keys = Heads { offset: heads * head_dim, count: kv_heads, ..queries };
        let x = qkv.all_mut();
        let (of_queries, of_keys) = attention.qk_norm.as_ref().map(|(q, k)| (q.of_heads(), k.of_heads())).unzip();
        let rope = rope.map(|rope| (&ropes[rope].0, &ropes[rope].1));
        prepare(pool, x, &[(queries, of_queries), (keys, of_keys)], rope);
        if let Some(sharpening) = sharpening {
            sharpen(x, queries, sharpening, step);
        }
        let values = &x[keys.offset + kv_heads * head_dim..];
        caches[cache].append(pool, layer, step.spans, &x[keys.offset..], values, stride);
        let mut spans = step.spans;
        if cut {
            let chosen = self.wanted(&qkv, step)?;
            self.done(std::mem::replace(&mut qkv, chosen));
            spans = step.wanted_spans;
        }
        let mut attended = self.take(qkv.count, heads * head_dim);
        let Self { machine, caches, .. } = self;
        let window = window.map(|positions| positions as u32);
        let sinks = attention.sinks.as_deref();
        let shape = Shape { heads, stride, scale, window, ahead: 0, softcap, sinks };
        let layer = caches[cache].layer(layer);
        attend(&machine.pool, &mut machine.scratch, layer, qkv.all(), spans, &shape, attended.all_mut());
        self.done(qkv);
        Ok(attended)
    }

    fn part_gates(&mut self, attention: &models::Attention, x: Rows) -> Result<(Rows, Rows), Infallible> {
        let models::Attention { heads, head_dim, .. } = *attention;
        let width = heads * head_dim;
        let (mut qkv, mut gates) = (self.take(x.count, x.width - width), self.take(x.count, width));
        let rows = qkv.all_mut().chunks_exact_mut(x.width - width).zip(gates.all_mut().chunks_exact_mut(width));
        for ((qkv, gates), x) in rows.zip(x.all().chunks_exact(x.width)) {
            let heads = qkv.chunks_exact_mut(head_dim).zip(gates.chunks_exact_mut(head_dim));
            for ((query, gate), x) in heads.zip(x.chunks_exact(2 * head_dim)) {
                query.copy_from_slice(&x[..head_dim]);
                gate.copy_from_slice(&x[head_dim..]);
            }
            qkv[width..].copy_from_slice(&x[2 * width..]);
        }
        self.done(x);
        Ok((qkv, gates))
    }

    fn open(&mut self, gate: Rows, mut x: Rows) -> Result<Rows, Infallible> {
        let width = x.width;
        native::open(&self.machine.pool, gate.all(), x.all_mut(), width);
        self.done(gate);
        Ok(x)
    }

    fn enter_latent(&mut self, latent: &Latent, x: Rows) -> Result<Rows, Infallible> {
        latent.enter(self, x)
    }

    fn leave_latent(&mut self, latent: &Latent, attended: Rows) -> Result<Rows, Infallible> {
        latent.leave(self, attended)
    }

    fn recur(&mut self, delta: &Delta, x: Rows, step: &Step<'_>) -> Result<Rows, Infallible> {
        self.run_delta(delta, x, step)
    }

    fn gate(&mut self, activation: models::Activation, gate_up: Rows) -> Result<Rows, Infallible> {
        let width = gate_up.width / 2;
        let mut gated = self.take(gate_up.count, width);
        if gate_up.count == 0 {
            self.done(gate_up);
            return Ok(gated);
        }
        let (pool, x, out) = (&self.machine.pool, gate_up.all(), gated.all_mut());
        match activation {
            models::Activation::Silu => silu_mul(pool, x, &x[width..], 2 * width, width, out),
            models::Activation::ClippedSwiglu => swiglu_clipped(pool, x, width, out),
            models::Activation::GeluTanh => {
                native::gate(pool, native::Activation::GeluTanh, x, &x[width..], 2 * width, width, out);
            }
        }
        self.done(gate_up);
        Ok(gated)
    }

    fn experts(&mut self, experts: &Experts, x: &Rows) -> Result<Rows, Infallible> {
        experts.forward(self, x)
    }

    fn add(&mut self, mut stream: Rows, mut branch: Rows, scale: f32) -> Result<Rows, Infallible> {
        if scale != 1.0 {
            branch.all_mut().iter_mut().for_each(|x| *x *= scale);
        }
        add(&self.machine.pool, stream.all_mut(), branch.all());
        self.done(branch);
        Ok(stream)
    }

    fn wanted(&mut self, x: &Rows, step: &Step<'_>) -> Result<Rows, Infallible> {
        let width = x.width;
        let mut chosen = self.take(step.wanted.len(), width);
        for (index, row) in step.wanted.iter().zip(chosen.all_mut().chunks_exact_mut(width)) {
            row.copy_from_slice(x.row(*index));
        }
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

/// Multiplies each token's queries by what its position asks for.
fn sharpen(x: &mut [f32], queries: Heads, sharpening: models::Sharpening, step: &Step<'_>) {
    let positions = step.spans.iter().flat_map(|span| span.start..span.start + span.len);
    for (row, position) in x.chunks_exact_mut(queries.stride).zip(positions) {
        let factor = sharpening.at(position);
        row[queries.offset..queries.offset + queries.count * queries.dim].iter_mut().for_each(|x| *x *= factor);
    }
}

impl From<Infallible> for ForwardError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests;
