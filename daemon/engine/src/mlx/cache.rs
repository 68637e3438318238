//! Keys and values in MLX arrays: `[kv_heads, blocks * 32, head_dim]` a layer, written and read by block tables.
//!
//! A step's slots are worked out once. New keys are scattered into a layer's array, whose old value nobody else holds, so
//! MLX writes in place; a row's keys are gathered in order of position. Nothing is computed here.

use mlx_rs::Array;
use mlx_rs::error::Exception;
use mlx_rs::ops::indexing::{scatter_single, take_axis};
use mlx_rs::ops::zeros_dtype;

use super::indices;
use crate::native::{BLOCK_TOKENS, Span};

/// The cache of every layer, and the slots of the step in hand.
pub(super) struct Cache {
    slots: i32,
    layers: Vec<Option<(Array, Array)>>,
    /// The slots of the step's new tokens, in order.
    new: Array,
    /// The slots of all positions of each row.
    rows: Vec<Array>,
}

impl Cache {
    /// Room for so many blocks in each layer; memory is taken when a layer is first written.
    pub fn new(layers: usize, blocks: usize) -> Self {
        Self {
            slots: (blocks * BLOCK_TOKENS) as i32,
            layers: vec![None; layers],
            new: indices(std::iter::empty()),
            rows: Vec::new(),
        }
    }

    /// Works out where the positions of a step's rows lie.
    pub fn begin(&mut self, spans: &[Span<'_>]) {
        let slot = |span: &Span<'_>, at: u32| {
            let at = at as usize;
            span.blocks[at / BLOCK_TOKENS] as usize * BLOCK_TOKENS + at % BLOCK_TOKENS
        };
        let new = spans.iter().flat_map(|span| (span.start..span.start + span.len).map(move |at| slot(span, at)));
        self.new = indices(new);
        let row = |span: &Span<'_>| indices((0..span.start + span.len).map(|at| slot(span, at)));
        self.rows = spans.iter().map(row).collect();
    }

    /// Makes one block hold what another holds, in every layer that has been written.
    pub fn copy(&mut self, from: u32, to: u32) -> Result<(), Exception> {
        let slots = |block: u32| indices((0..BLOCK_TOKENS).map(|at| block as usize * BLOCK_TOKENS + at));
        let (from, to) = (slots(from), slots(to));
        for layer in &mut self.layers {
            let Some((keys, values)) = layer.take() else { continue };
            let copied = |x: Array| scattered(&x, &to, &take_axis(&x, &from, 1)?);
            *layer = Some((copied(keys)?, copied(values)?));
        }
        Ok(())
    }

    /// Stores the step's keys and values, `[kv_heads, tokens, head_dim]` each.
    pub fn append(&mut self, layer: usize, k: &Array, v: &Array) -> Result<(), Exception> {
        let (keys, values) = match self.layers[layer].take() {
            Some(held) => held,
            None => {
                let room = |x: &Array| zeros_dtype(&[x.dim(0), self.slots, x.dim(2)], x.dtype());
                (room(k)?, room(v)?)
            }
        };
        self.layers[layer] = Some((scattered(&keys, &self.new, k)?, scattered(&values, &self.new, v)?));
        Ok(())
    }

    /// All keys and values of a row so far, `[1, kv_heads, positions, head_dim]` each.
    pub fn row(&self, layer: usize, row: usize) -> Result<(Array, Array), Exception> {
        let held = self.layers[layer].as_ref().ok_or_else(|| Exception::custom("a layer is read before it is written"));
        let (keys, values) = held?;
        let of = |x: &Array| take_axis(x, &self.rows[row], 1)?.expand_dims(0);
        Ok((of(keys)?, of(values)?))
    }

    /// Everything that must be computed before the next step.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten().flat_map(|(keys, values)| [keys, values])
    }
}

/// `x`, `[kv_heads, slots, head_dim]`, with `[kv_heads, count, head_dim]` at so many slots.
fn scattered(x: &Array, slots: &Array, new: &Array) -> Result<Array, Exception> {
    // An update holds, for each index, a slice of the array with one slot.
    scatter_single(x, slots, new.transpose_axes(&[1, 0, 2])?.expand_dims(2)?, 1)
}
