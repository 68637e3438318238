//! Latent attention on the native kernels: heads are brought into the latent and out of it, and the cache knows one key.
//!
//! What is turned of a head comes first, because rope turns the first dimensions. The values are the latent once more, as
//! the cache stores both alike; what would be turned of them is nothing, and read past.

use std::convert::Infallible;

use super::{Cpu, Norm, Rows};
use crate::LoadError;
use crate::folder::Folder;
use crate::models::{self, LatentHeads};
use crate::native::{Heads, PerHead, Places, prepare};
use crate::ops::Ops;
use crate::projection::Projection;

/// What a layer of latent attention has between its projections.
pub(crate) struct Latent {
    /// The norm and the second step of the queries.
    queries: Option<(Norm, Projection)>,
    norm: Norm,
    heads: usize,
    rank: usize,
    /// What is turned of a head, what is not, and the width of its values.
    widths: (usize, usize, usize),
    into: PerHead,
    out_of: PerHead,
}

impl Latent {
    pub(super) fn load(cpu: &mut Cpu, folder: &Folder, latent: &models::Latent) -> Result<Self, LoadError> {
        let queries = match &latent.queries {
            Some((norm, stack)) => Some((cpu.norm_weights(folder, norm)?, cpu.matrix(folder, stack)?)),
            None => None,
        };
        let ((_, plain, values), rank) = (latent.widths, latent.rank);
        let precision = cpu.precision;
        let (heads, into, out_of) = match &latent.heads {
            LatentHeads::Joined(stack) => {
                let joined = cpu.matrix(folder, stack)?;
                let heads = stack.outputs() / (plain + values);
                let keys = transposed(&joined, heads, plain, plain + values);
                let into = PerHead::pack((heads, rank, plain), precision, |head, output, row| {
                    row.copy_from_slice(&keys[(head * rank + output) * plain..][..plain]);
                });
                let out_of = PerHead::pack((heads, values, rank), precision, |head, output, row| {
                    joined.row(head * (plain + values) + plain + output, row);
                });
                (heads, into, out_of)
            }
            LatentHeads::Apart(keys, values_of) => {
                let mut load = |stacks: &[models::Stack], shape| {
                    let heads = stacks.iter().map(|stack| cpu.matrix(folder, stack)).collect::<Result<Vec<_>, _>>()?;
                    let row = |head: usize, output: usize, row: &mut [f32]| heads[head].row(output, row);
                    Ok::<_, LoadError>(PerHead::pack(shape, precision, row))
                };
                let heads = keys.len();
                (heads, load(keys, (heads, rank, plain))?, load(values_of, (heads, values, rank))?)
            }
        };
        let norm = cpu.norm_weights(folder, &latent.norm)?;
        Ok(Self { queries, norm, heads, rank, widths: latent.widths, into, out_of })
    }

    /// Queries, key and value in the space of the latent.
    pub(super) fn enter(&self, cpu: &mut Cpu, mut x: Rows) -> Result<Rows, Infallible> {
        let Self { heads, rank, widths: (turned, plain, _), .. } = *self;
        let latent_at = x.width - rank - turned;
        self.norm_part(cpu, &self.norm, &mut x, latent_at);
        let queries = match &self.queries {
            None => None,
            Some((norm, second)) => {
                self.norm_part(cpu, norm, &mut x, 0);
                let mut first = cpu.take(x.count, second.inputs());
                for (to, from) in first.all_mut().chunks_exact_mut(second.inputs()).zip(x.all().chunks_exact(x.width)) {
                    to.copy_from_slice(&from[..second.inputs()]);
                }
                let queries = cpu.linear(second, &first)?;
                cpu.done(first);
                Some(queries)
            }
        };
        let width = turned + rank;
        let mut out = cpu.take(x.count, (heads + 2) * width);
        let (from, stride) = queries.as_ref().map_or((x.all(), x.width), |queries| (queries.all(), queries.width));
        for (row, out) in out.all_mut().chunks_exact_mut((heads + 2) * width).enumerate() {
            let queries = &from[row * stride..];
            for head in 0..heads {
                let part = &queries[head * (plain + turned) + plain..][..turned];
                out[head * width..][..turned].copy_from_slice(part);
            }
            let (latent, key) = x.all()[row * x.width + latent_at..][..rank + turned].split_at(rank);
            let (keys, values) = out[heads * width..].split_at_mut(width);
            keys[..turned].copy_from_slice(key);
            keys[turned..].copy_from_slice(latent);
            // What is read past must not stretch the scale that a value's numbers may share.
            values[..turned].fill(0.0);
            values[turned..].copy_from_slice(latent);
        }
        let to = Places { stride: out.width, offset: turned, step: width };
        let places = Places { stride, offset: 0, step: plain + turned };
        self.into.forward(&cpu.machine.pool, (from, places), (out.all_mut(), to), x.count);
        if let Some(queries) = queries {
            cpu.done(queries);
        }
        cpu.done(x);
        Ok(out)
    }

    /// The values of each head.
    pub(super) fn leave(&self, cpu: &mut Cpu, attended: Rows) -> Result<Rows, Infallible> {
        let Self { heads, rank, widths: (turned, _, values), .. } = *self;
        let mut out = cpu.take(attended.count, heads * values);
        let from = Places { stride: attended.width, offset: turned, step: turned + rank };
        let to = Places { stride: heads * values, offset: 0, step: values };
        self.out_of.forward(&cpu.machine.pool, (attended.all(), from), (out.all_mut(), to), attended.count);
        cpu.done(attended);
        Ok(out)
    }

    /// Norms a part of each row in place.
    fn norm_part(&self, cpu: &Cpu, norm: &Norm, x: &mut Rows, offset: usize) {
        let part = Heads { stride: x.width, offset, count: 1, dim: norm.weight.len() };
        prepare(&cpu.machine.pool, x.all_mut(), &[(part, Some(norm.of_heads()))], None);
    }
}

/// `[heads, columns, rows]` of the first `rows` of each head's rows of a matrix.
fn transposed(matrix: &Projection, heads: usize, rows: usize, step: usize) -> Vec<f32> {
    let columns = matrix.inputs();
    let (mut numbers, mut row) = (vec![0.0; heads * columns * rows], vec![0.0; columns]);
    for head in 0..heads {
        for at in 0..rows {
            matrix.row(head * step + at, &mut row);
            for (column, number) in row.iter().enumerate() {
                numbers[(head * columns + column) * rows + at] = *number;
            }
        }
    }
    numbers
}
