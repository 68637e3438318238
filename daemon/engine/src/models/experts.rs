//! Layers whose MLP is many, of which each token takes a few.
//!
//! A page describes the dense decoder first, then names the router and the experts of the layers that have them.

use super::{Activation, Experts, Feed, Gated, Layer, Part, Stack};
use crate::LoadError;
use crate::config::Config;

/// The most experts of a layer; the largest models have 512.
const EXPERTS_MAX: usize = 4096;

/// How a family names and chooses its experts.
pub(super) struct Choice<'a> {
    /// The key of `config.json` that counts the experts.
    pub count: &'a str,
    /// The module of a layer that holds router and experts.
    pub module: &'a str,
    /// Gate, up and down of an expert.
    pub matrices: [&'a str; 3],
    /// Width of an expert.
    pub width: usize,
    /// Whether the weights of the chosen add up to one.
    pub normalised: bool,
    /// What an expert's gate goes through.
    pub activation: Activation,
    /// Whether experts and router have biases.
    pub bias: bool,
    /// The router's name in the module.
    pub router: &'a str,
    /// The name in the module under which one tensor holds all experts.
    pub joined: &'a str,
}

/// What most families say.
pub(super) const SILU: Choice<'static> = Choice {
    count: "num_experts",
    module: "mlp",
    matrices: ["gate_proj", "up_proj", "down_proj"],
    width: 0,
    normalised: true,
    activation: Activation::Silu,
    bias: false,
    router: "gate",
    joined: "switch_mlp",
};

impl Choice<'_> {
    /// Puts experts in place of a layer's MLP.
    pub fn place(&self, config: &Config, index: usize, hidden: usize, layer: &mut Layer) -> Result<(), LoadError> {
        let (count, chosen) = (config.count(self.count)?, config.count("num_experts_per_tok")?);
        if chosen > count || count > EXPERTS_MAX {
            return Err(config.problem(format!("a token cannot take {chosen} of {count} experts")));
        }
        let module = format!("model.layers.{index}.{}", self.module);
        let each = (0..count).map(|expert| {
            let part = |matrix, outputs| Part::new(format!("{module}.experts.{expert}.{matrix}"), outputs, self.bias);
            let [gate, up, down] = self.matrices;
            Gated {
                gate_up: Stack { parts: vec![part(gate, self.width), part(up, self.width)], inputs: hidden },
                activation: self.activation,
                down: Stack { parts: vec![part(down, hidden)], inputs: self.width },
            }
        });
        layer.feed.inner = Feed::Experts(Experts {
            router: Stack {
                parts: vec![Part::new(format!("{module}.{}", self.router), count, self.bias)],
                inputs: hidden,
            },
            chosen,
            normalised: self.normalised,
            each: each.collect(),
            joined: format!("{module}.{}", self.joined),
        });
        Ok(())
    }
}
