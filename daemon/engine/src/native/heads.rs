//! Queries and keys on their way from the projection to attention: each head normed and turned, in one pass over a row.
//!
//! Where a row's heads lie is said here too. Decoders and encoders call it before keys and values are stored.

#[cfg(test)]
mod tests;

use super::elementwise::{centre_rows, norm_rows};
use super::memory::by_rows;
use super::rope::{Angles, Rope};
use super::{Isa, Pool};

/// Where the heads of each row lie in a matrix of rows `stride` apart: `count` heads of `dim` from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// f32 per row of the matrix.
    pub stride: usize,
    /// First f32 of the first head within a row.
    pub offset: usize,
    /// Number of heads.
    pub count: usize,
    /// f32 per head.
    pub dim: usize,
}

/// The norm of heads: x / sqrt(mean(x^2) + epsilon) * weight, for each run of numbers, which is a head or all of them
/// together.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// Numbers that are normed together.
    pub run: usize,
    /// Whether the mean is taken off before.
    pub centred: bool,
    /// One factor per number of a run that all share, or of several runs that follow one another.
    pub weight: &'a [f32],
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

impl HeadNorm<'_> {
    /// Norms all heads of a row.
    fn apply(&self, isa: Isa, heads: &mut [f32]) {
        if self.run == self.weight.len() {
            return self.apply_to_runs(isa, heads, self.weight);
        }
        let weights = self.weight.chunks_exact(self.run).cycle();
        heads.chunks_exact_mut(self.run).zip(weights).for_each(|(run, weight)| self.apply_to_runs(isa, run, weight));
    }

    /// Norms runs that share their factors.
    fn apply_to_runs(&self, isa: Isa, runs: &mut [f32], weight: &[f32]) {
        match self.centred {
            false => norm_rows(isa, runs, weight, self.epsilon),
            true => centre_rows(isa, runs, weight, None, self.epsilon),
        }
    }
}

/// Norms the heads of each group in every row of `x` and turns them by the row's angles, in place. All groups have one
/// stride; what lies outside of them stays.
pub fn prepare(pool: &Pool, x: &mut [f32], groups: &[(Heads, Option<HeadNorm<'_>>)], rope: Option<(&Rope, &Angles)>) {
    let Some((first, _)) = groups.first() else { return };
    let stride = first.stride;
    for (heads, norm) in groups {
        assert_eq!(heads.stride, stride, "heads of one matrix");
        assert!(heads.offset + heads.count * heads.dim <= stride, "heads end with their row");
        let runs = |norm: &HeadNorm<'_>| {
            norm.weight.len().is_multiple_of(norm.run) && (heads.count * heads.dim).is_multiple_of(norm.weight.len())
        };
        assert!(norm.as_ref().is_none_or(runs), "runs of the norm divide the heads");
        if let Some((rope, angles)) = rope {
            rope.check(angles, x.len() / stride, heads.dim);
        }
    }
    if rope.is_none() && groups.iter().all(|(_, norm)| norm.is_none()) {
        return;
    }
    let isa = pool.isa();
    by_rows(pool, x, stride, &|first, rows| {
        for (r, row) in rows.chunks_exact_mut(stride).enumerate() {
            for (heads, norm) in groups {
                let heads_of_row = &mut row[heads.offset..heads.offset + heads.count * heads.dim];
                if let Some(norm) = norm {
                    norm.apply(isa, heads_of_row);
                }
                if let Some((rope, angles)) = rope {
                    rope.turn(isa, angles, first + r, heads_of_row, heads.dim);
                }
            }
        }
    });
}
