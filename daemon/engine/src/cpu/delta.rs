//! Delta nets on the native kernels, and the states of sequences.

use std::convert::Infallible;

use super::{Cpu, Rows};
use crate::LoadError;
use crate::folder::Folder;
use crate::models;
use crate::native::{DeltaSpan, DeltaStates, DeltaWeights};
use crate::ops::{Ops, Step};

/// The weights of a layer, and its place among those that keep states.
pub(crate) struct Delta {
    weights: DeltaWeights,
    place: usize,
    /// Width of what it gives.
    width: usize,
}

impl Cpu {
    /// Reserves room for so many states.
    pub fn reserve_states(&mut self, states: u32) -> Result<(), LoadError> {
        if let Some((shape, layers)) = self.recurrent {
            self.states = Some(DeltaStates::new(shape, layers, states as usize)?);
        }
        Ok(())
    }

    /// Bytes of a state.
    pub fn state_bytes(&self) -> usize {
        self.states.as_ref().map_or(0, |states| states.slot(0).len())
    }

    /// What a state holds.
    pub fn read_state(&self, state: u32) -> Vec<u8> {
        self.states.as_ref().map_or_else(Vec::new, |states| states.slot(state).to_vec())
    }

    /// Fills a state with what `read_state` gave for the same model.
    pub fn write_state(&mut self, state: u32, contents: &[u8]) {
        if let Some(states) = &mut self.states {
            states.slot_mut(state).copy_from_slice(contents);
        }
    }

    pub(super) fn load_delta(&mut self, folder: &Folder, delta: &models::Delta) -> Result<Delta, LoadError> {
        let norm = (folder.vector(&delta.norm.weight)?, delta.norm.epsilon);
        let (conv, decay) = (folder.vector(&delta.conv)?, folder.vector(&delta.decay)?);
        let weights = DeltaWeights::pack(&delta.shape, &conv, &decay, folder.vector(&delta.decay_bias)?, norm);
        let place = self.deltas;
        self.deltas += 1;
        Ok(Delta { weights, place, width: delta.shape.value_heads * delta.shape.value_dim })
    }

    pub(super) fn run_delta(&mut self, delta: &Delta, x: Rows, step: &Step<'_>) -> Result<Rows, Infallible> {
        let mut out = self.take(x.count, delta.width);
        let spans = step.spans.iter().zip(step.states);
        let span = |(span, state): (&crate::native::Span<'_>, &crate::State)| DeltaSpan {
            len: span.len as usize,
            from: state.from,
            to: state.to,
        };
        let mut named = std::mem::take(&mut self.delta_spans);
        named.clear();
        named.extend(spans.map(span));
        if let Some(states) = &mut self.states {
            let (pool, scratch) = (&self.machine.pool, &mut self.machine.scratch);
            states.forward(pool, scratch, (delta.place, &delta.weights), x.all(), &named, out.all_mut());
        }
        self.delta_spans = named;
        self.done(x);
        Ok(out)
    }
}
