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
    routing: models::Routing,
    /// What is added to the weights to choose by.
    bias: Option<Vec<f32>>,
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
    /// The experts of one token by falling preference.
    order: Vec<usize>,
    /// What they are chosen by.
    preference: Vec<f32>,
    /// The same of their groups, and a group by falling preference.
    groups: Vec<(f32, usize)>,
    group: Vec<f32>,
}

impl Experts {
    pub(super) fn load(cpu: &mut Cpu, folder: &Folder, experts: &models::Experts) -> Result<Self, LoadError> {
        let each = experts.each.iter().map(|gated| {
            Ok::<_, LoadError>(Expert {
                gate_up: cpu.gate_matrix(folder, &gated.gate_up)?,
                activation: gated.activation,
                down: cpu.matrix(folder, &gated.down)?,
            })
        });
        let each = each.collect::<Result<_, _>>()?;
        let router = cpu.matrix(folder, &experts.router)?;
        let bias = experts.routing.bias.as_ref().map(|bias| folder.vector(bias)).transpose()?;
        Ok(Self { router, each, chosen: experts.chosen, routing: experts.routing.clone(), bias })
    }

    pub(super) fn forward(&self, cpu: &mut Cpu, x: &Rows) -> Result<Rows, Infallible> {
        let mut scores = cpu.linear(&self.router, x)?;
        let mut routes = std::mem::take(&mut cpu.routes);
        routes.find(&mut scores, self);
        cpu.done(scores);
        let mut sum = cpu.take(x.count, x.width);
        sum.all_mut().fill(0.0);
        for taken in routes.taken.chunk_by(|left, right| left.0 == right.0) {
            let expert = &self.each[taken[0].0];
            let mut some = cpu.take(taken.len(), x.width);
            for ((_, token, _), row) in taken.iter().zip(some.all_mut().chunks_exact_mut(x.width)) {
                row.copy_from_slice(x.row(*token));
            }
            let gated = cpu.gated(&expert.gate_up, expert.activation, &some)?;
            cpu.done(some);
            let out = cpu.linear(&expert.down, &gated)?;
            cpu.done(gated);
            for ((_, token, weight), row) in taken.iter().zip(out.all().chunks_exact(x.width)) {
                let sum = sum.row_mut(*token);
                sum.iter_mut().zip(row).for_each(|(sum, y)| *sum += weight * y);
            }
            cpu.done(out);
        }
        cpu.routes = routes;
        Ok(sum)
    }
}

impl Routes {
    /// The experts of each token and their weights. Of equal ones the first goes before.
    fn find(&mut self, scores: &mut Rows, experts: &Experts) {
        self.taken.clear();
        let (width, routing) = (scores.width, &experts.routing);
        for (token, scores) in scores.all_mut().chunks_exact_mut(width).enumerate() {
            weigh(scores, routing.sigmoid);
            self.preference.clear();
            self.preference.extend_from_slice(scores);
            if let Some(bias) = &experts.bias {
                self.preference.iter_mut().zip(bias).for_each(|(preference, bias)| *preference += bias);
            }
            if let Some(groups) = &routing.groups {
                self.leave_out(groups);
            }
            self.order.clear();
            self.order.extend(0..width);
            let falling = |a: &usize, b: &usize| self.preference[*b].total_cmp(&self.preference[*a]).then(a.cmp(b));
            self.order.sort_unstable_by(falling);
            let first = &self.order[..experts.chosen];
            let sum: f32 = match (routing.normalised, routing.sigmoid) {
                (true, _) => first.iter().map(|&expert| scores[expert]).sum(),
                (false, false) => scores.iter().sum(),
                (false, true) => 1.0,
            };
            let weight = |expert: usize| scores[expert] / sum * routing.scale;
            self.taken.extend(first.iter().map(|&expert| (expert, token, weight(expert))));
        }
        self.taken.sort_unstable_by_key(|&(expert, token, _)| (expert, token));
    }

    /// Makes the experts of all but the best groups count as nothing.
    fn leave_out(&mut self, groups: &models::Groups) {
        let size = self.preference.len() / groups.count;
        self.groups.clear();
        for (index, group) in self.preference.chunks_exact(size).enumerate() {
            self.group.clear();
            self.group.extend_from_slice(group);
            self.group.sort_unstable_by(|a, b| b.total_cmp(a));
            self.groups.push((self.group[..groups.by].iter().sum(), index));
        }
        self.groups.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, index) in &self.groups[groups.chosen..] {
            self.preference[index * size..(index + 1) * size].fill(0.0);
        }
    }
}

/// Scores become weights: each through a sigmoid, or in proportion to a softmax.
fn weigh(scores: &mut [f32], sigmoid: bool) {
    if sigmoid {
        return scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
    }
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
}
