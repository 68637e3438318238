//! Experts on the native kernels: tokens are gathered expert by expert, so each matrix is read once for all that take it.
//!
//! A token adds up its experts in the order of their numbers, whoever else takes them, so its sum does not depend on the
//! batch. Routes are worked out on the host, where the scores already are.

use std::convert::Infallible;

use super::{Cpu, Rows};
use crate::LoadError;
use crate::folder::Folder;
use crate::models;
use crate::ops::Ops;
use crate::projection::Projection;

/// The weights of a layer's experts.
pub(crate) struct Experts {
    router: Projection,
    each: Vec<Expert>,
    chosen: usize,
    normalised: bool,
}

struct Expert {
    gate_up: Projection,
    activation: models::Activation,
    down: Projection,
}

/// Who takes what in one call, kept for its memory.
#[derive(Default)]
pub(super) struct Routes {
    /// Expert, token and weight, in the order of experts, then tokens.
    taken: Vec<(usize, usize, f32)>,
    /// The experts of one token by falling score.
    order: Vec<usize>,
}

impl Experts {
    pub(super) fn load(cpu: &mut Cpu, folder: &Folder, experts: &models::Experts) -> Result<Self, LoadError> {
        let each = experts.each.iter().map(|gated| {
            Ok::<_, LoadError>(Expert {
                gate_up: cpu.matrix(folder, &gated.gate_up)?,
                activation: gated.activation,
                down: cpu.matrix(folder, &gated.down)?,
            })
        });
        let each = each.collect::<Result<_, _>>()?;
        let router = cpu.matrix(folder, &experts.router)?;
        Ok(Self { router, each, chosen: experts.chosen, normalised: experts.normalised })
    }

    pub(super) fn forward(&self, cpu: &mut Cpu, x: &Rows) -> Result<Rows, Infallible> {
        let mut scores = cpu.linear(&self.router, x)?;
        let mut routes = std::mem::take(&mut cpu.routes);
        routes.find(&mut scores, self.chosen, self.normalised);
        cpu.done(scores);
        let mut sum = cpu.take(x.count, x.width);
        sum.all_mut().fill(0.0);
        for taken in routes.taken.chunk_by(|left, right| left.0 == right.0) {
            let expert = &self.each[taken[0].0];
            let mut some = cpu.take(taken.len(), x.width);
            for ((_, token, _), row) in taken.iter().zip(some.all_mut().chunks_exact_mut(x.width)) {
                row.copy_from_slice(&x.numbers[token * x.width..(token + 1) * x.width]);
            }
            let gate_up = cpu.linear(&expert.gate_up, &some)?;
            cpu.done(some);
            let gated = cpu.gate(expert.activation, gate_up)?;
            let out = cpu.linear(&expert.down, &gated)?;
            cpu.done(gated);
            for ((_, token, weight), row) in taken.iter().zip(out.all().chunks_exact(x.width)) {
                let sum = &mut sum.numbers[token * x.width..(token + 1) * x.width];
                sum.iter_mut().zip(row).for_each(|(sum, y)| *sum += weight * y);
            }
            cpu.done(out);
        }
        cpu.routes = routes;
        Ok(sum)
    }
}

impl Routes {
    /// The highest scores of each token and their softmax, which `normalised` makes add up to one. Of equal scores the
    /// first goes before.
    fn find(&mut self, scores: &mut Rows, chosen: usize, normalised: bool) {
        self.taken.clear();
        let width = scores.width;
        for (token, scores) in scores.all_mut().chunks_exact_mut(width).enumerate() {
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
            self.order.clear();
            self.order.extend(0..width);
            let falling = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
            self.order.sort_unstable_by(falling);
            let first = &self.order[..chosen];
            let sum: f32 = match normalised {
                true => first.iter().map(|&expert| scores[expert]).sum(),
                false => scores.iter().sum(),
            };
            self.taken.extend(first.iter().map(|&expert| (expert, token, scores[expert] / sum)));
        }
        self.taken.sort_unstable_by_key(|&(expert, token, _)| (expert, token));
    }
}
