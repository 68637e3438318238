//! The decoder: one step of token rows through the layers of a description, to the logits of the rows that want them.
//!
//! Written once for every architecture and every machine, in the verbs of [`Ops`]; where a layer differs, its description
//! says so. It validates nothing: [`crate::Model`] has done so.

use crate::LoadError;
use crate::folder::Folder;
use crate::matrix::Matrix;
use crate::models;
use crate::ops::{Attention, Ops, Step};

/// The weights of a decoder.
pub(crate) struct Decoder<O: Ops> {
    embedding: O::Matrix,
    layers: Vec<Layer<O>>,
    norm: O::Norm,
    head: Option<O::Matrix>,
}

struct Layer<O: Ops> {
    attention_norm: O::Norm,
    qkv: O::Matrix,
    attention: Attention<O>,
    output: O::Matrix,
    mlp_norm: O::Norm,
    gate_up: O::Matrix,
    down: O::Matrix,
}

impl<O: Ops> Decoder<O> {
    /// Brings the weights of a folder to the machine; `loaded` hears the bytes of each stack that is done.
    pub fn load(folder: &Folder, ops: &mut O, loaded: &mut dyn FnMut(u64)) -> Result<Self, LoadError> {
        let description = &folder.description;
        let mut loader = Loader { folder, ops, loaded };
        let embedding = loader.matrix(&description.embedding)?;
        let layers = description.layers.iter().enumerate().map(|(index, layer)| loader.layer(index, layer));
        Ok(Self {
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            norm: loader.norm(&description.norm)?,
            head: description.head.as_ref().map(|head| loader.matrix(head)).transpose()?,
        })
    }

    /// Computes a step: keys and values go to the cache, and `logits` becomes `[wanted, vocabulary]`.
    pub fn forward(&self, step: &Step<'_>, ops: &mut O, logits: &mut Vec<f32>) -> Result<(), O::Fault> {
        ops.begin(step)?;
        let mut stream = ops.embed(&self.embedding, step)?;
        for layer in &self.layers {
            let branch = layer.attend(ops, &stream, step)?;
            stream = ops.add(stream, branch)?;
            let branch = layer.feed(ops, &stream)?;
            stream = ops.add(stream, branch)?;
        }
        let chosen = ops.wanted(stream, step)?;
        let normed = ops.norm(&self.norm, &chosen)?;
        ops.done(chosen);
        ops.logits(self.head.as_ref().unwrap_or(&self.embedding), normed, step, logits)
    }
}

impl<O: Ops> Layer<O> {
    /// output(attend(norm(stream))).
    fn attend(&self, ops: &mut O, stream: &O::Rows, step: &Step<'_>) -> Result<O::Rows, O::Fault> {
        let normed = ops.norm(&self.attention_norm, stream)?;
        let qkv = ops.linear(&self.qkv, &normed)?;
        ops.done(normed);
        let attended = ops.attend(&self.attention, qkv, step)?;
        let branch = ops.linear(&self.output, &attended)?;
        ops.done(attended);
        Ok(branch)
    }

    /// down(silu(gate) × up) of norm(stream).
    fn feed(&self, ops: &mut O, stream: &O::Rows) -> Result<O::Rows, O::Fault> {
        let normed = ops.norm(&self.mlp_norm, stream)?;
        let gate_up = ops.linear(&self.gate_up, &normed)?;
        ops.done(normed);
        let gated = ops.gate(gate_up)?;
        let branch = ops.linear(&self.down, &gated)?;
        ops.done(gated);
        Ok(branch)
    }
}

/// Brings a folder's weights to a machine.
struct Loader<'a, O> {
    folder: &'a Folder,
    ops: &'a mut O,
    loaded: &'a mut dyn FnMut(u64),
}

impl<O: Ops> Loader<'_, O> {
    fn layer(&mut self, index: usize, layer: &models::Layer) -> Result<Layer<O>, LoadError> {
        let qk_norm = match &layer.qk_norm {
            Some((queries, keys)) => Some((self.norm(queries)?, self.norm(keys)?)),
            None => None,
        };
        Ok(Layer {
            attention_norm: self.norm(&layer.attention_norm)?,
            qkv: self.matrix(&layer.qkv)?,
            attention: Attention { layer: index, shape: layer.attention, qk_norm },
            output: self.matrix(&layer.output)?,
            mlp_norm: self.norm(&layer.mlp_norm)?,
            gate_up: self.matrix(&layer.gate_up)?,
            down: self.matrix(&layer.down)?,
        })
    }

    fn matrix(&mut self, stack: &models::Stack) -> Result<O::Matrix, LoadError> {
        let matrix = self.ops.matrix(self.folder, stack)?;
        (self.loaded)(self.folder.matrices(stack)?.iter().map(Matrix::bytes).sum());
        Ok(matrix)
    }

    fn norm(&mut self, norm: &models::Norm) -> Result<O::Norm, LoadError> {
        self.ops.norm_weights(self.folder, norm)
    }
}
