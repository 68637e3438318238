//! Layers whose MLP is many, of which each token takes a few.
//!
//! A page describes the dense decoder first, then names the router and the experts of the layers that have them.

use super::{Activation, Experts, Feed, Gated, Groups, Layer, Part, Routing, Shared, Stack, Vector};
use crate::LoadError;
use crate::config::Config;

/// The most experts of a layer; the largest models have 512.
const EXPERTS_MAX: usize = 4096;

/// How a family names and chooses its experts.
pub(super) struct Choice<'a> {
    /// What the names of the model's tensors begin with.
    pub prefix: &'a str,
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
    /// The MLP that all tokens take.
    pub shared: Option<SharedChoice<'a>>,
}

/// How a family names the MLP beside its experts.
pub(super) struct SharedChoice<'a> {
    /// Its name in the module.
    pub name: &'a str,
    /// Its width.
    pub width: usize,
    /// The name of its gate in the module.
    pub gate: Option<&'a str>,
}

/// What most families say.
pub(super) const SILU: Choice<'static> = Choice {
    prefix: "model",
    count: "num_experts",
    module: "mlp",
    matrices: ["gate_proj", "up_proj", "down_proj"],
    width: 0,
    normalised: true,
    activation: Activation::Silu,
    bias: false,
    router: "gate",
    joined: "switch_mlp",
    shared: None,
};

impl Choice<'_> {
    /// Puts experts in place of a layer's MLP.
    pub fn place(&self, config: &Config, index: usize, hidden: usize, layer: &mut Layer) -> Result<(), LoadError> {
        let (count, chosen) = (config.count(self.count)?, config.count("num_experts_per_tok")?);
        if chosen > count || count > EXPERTS_MAX {
            return Err(config.problem(format!("a token cannot take {chosen} of {count} experts")));
        }
        let module = format!("{}.layers.{index}.{}", self.prefix, self.module);
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
            routing: Routing { sigmoid: false, bias: None, groups: None, normalised: self.normalised, scale: 1.0 },
            shared: self.shared.as_ref().map(|shared| shared.describe(&module, hidden)),
            each: each.collect(),
            joined: format!("{module}.{}", self.joined),
        });
        Ok(())
    }
}

impl SharedChoice<'_> {
    fn describe(&self, module: &str, hidden: usize) -> Shared {
        let part = |matrix, outputs| Part::new(format!("{module}.{}.{matrix}", self.name), outputs, false);
        let gated = Gated {
            gate_up: Stack {
                parts: ["gate_proj", "up_proj"].map(|matrix| part(matrix, self.width)).to_vec(),
                inputs: hidden,
            },
            activation: Activation::Silu,
            down: Stack { parts: vec![part("down_proj", hidden)], inputs: self.width },
        };
        Shared { gated, gate: self.gate.map(|gate| Stack::single(format!("{module}.{gate}"), 1, hidden)) }
    }
}

/// Whether a layer of Qwen has one MLP and no experts.
pub(super) fn is_dense(config: &Config, layer: usize) -> Result<bool, LoadError> {
    let step = config.count_if_any("decoder_sparse_step")?.unwrap_or(1);
    let listed = config.value("mlp_only_layers").and_then(|list| list.as_array());
    Ok(!(layer + 1).is_multiple_of(step) || listed.is_some_and(|list| list.contains(&layer.into())))
}

/// Puts DeepSeek's experts into the layers that have them: some of many in groups, and some that all tokens take. Gates go
/// through a softmax in version 2, and each through a sigmoid in version 3, which has a bias to choose by.
pub(super) fn place_grouped(
    config: &Config,
    layers: &mut [Layer],
    hidden: usize,
    sigmoid: bool,
) -> Result<(), LoadError> {
    if config.count_if_any("n_routed_experts")?.is_none() {
        return Ok(());
    }
    let width = config.count("moe_intermediate_size")?;
    let normalised = config.flag("norm_topk_prob")?;
    let shared = config.count_if_any("n_shared_experts")?;
    let shared = shared.map(|count| SharedChoice { name: "shared_experts", width: width * count, gate: None });
    let choice = Choice { count: "n_routed_experts", width, shared, ..SILU };
    let sparse = sparse_layers(config, layers.len())?;
    for (index, layer) in layers.iter_mut().enumerate().filter(|(index, _)| sparse[*index]) {
        choice.place(config, index, hidden, layer)?;
        let Feed::Experts(experts) = &mut layer.feed.inner else { continue };
        let count = experts.each.len();
        let bias = format!("model.layers.{index}.mlp.gate.e_score_correction_bias");
        experts.routing = Routing {
            sigmoid,
            bias: sigmoid.then_some(Vector::new(bias, count)),
            groups: groups(config, count, experts.chosen, sigmoid)?,
            normalised,
            scale: config.number_if_any("routed_scaling_factor")?.unwrap_or(1.0) as f32,
        };
    }
    Ok(())
}

/// Which layers have experts: as listed, or else all but the first ones and those between the steps.
fn sparse_layers(config: &Config, layers: usize) -> Result<Vec<bool>, LoadError> {
    let Some(types) = config.words_if_any("mlp_layer_types")? else {
        let dense = config.whole_if_any("first_k_dense_replace")?.unwrap_or(0);
        let step = config.count_if_any("moe_layer_freq")?.unwrap_or(1);
        return Ok((0..layers).map(|layer| layer >= dense && layer.is_multiple_of(step)).collect());
    };
    if types.len() != layers {
        return Err(config.problem(format!("mlp_layer_types lists {} of {layers} layers", types.len())));
    }
    let is_sparse = |name| match name {
        "sparse" => Ok(true),
        "dense" => Ok(false),
        other => Err(LoadError::unsupported(format!("{other} in mlp_layer_types"), "sparse and dense are")),
    };
    types.into_iter().map(is_sparse).collect()
}

/// The groups that a token takes its experts from, unless it may take from all.
fn groups(config: &Config, experts: usize, taken: usize, sigmoid: bool) -> Result<Option<Groups>, LoadError> {
    let by = match config.word_if_any("topk_method")? {
        Some("greedy" | "gready") if !sigmoid => return Ok(None),
        Some("group_limited_greedy") if !sigmoid => 1,
        Some("noaux_tc") | None if sigmoid => 2,
        None => return Ok(None),
        Some(other) => {
            let known = if sigmoid { "noaux_tc is" } else { "greedy and group_limited_greedy are" };
            return Err(LoadError::unsupported(format!("topk_method {other}"), known));
        }
    };
    let (count, chosen) =
        (config.count_if_any("n_group")?.unwrap_or(1), config.count_if_any("topk_group")?.unwrap_or(1));
    let fits = experts.is_multiple_of(count) && chosen <= count && taken <= experts / count * chosen;
    match fits && (count == 1 || by <= experts / count) {
        true => Ok((count > 1 && chosen < count).then_some(Groups { count, chosen, by })),
        false => Err(config.problem(format!("{chosen} of {count} groups of {experts} experts cannot give {taken}"))),
    }
}
