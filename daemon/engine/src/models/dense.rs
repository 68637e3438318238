//! The shape that most families share: pre-norm attention with grouped heads and rope, then a gated MLP, under the tensor
//! names of transformers.
//!
//! A page says what its family adds or changes, before in a [`Family`] or after in the description; this builds the
//! description and refuses what none of them does.

use super::{Activation, Attention, Branch, Description, Feed, Form, Gated, Layer, Mixer, Norm, Part, Rope, Stack};
use crate::LoadError;
use crate::config::Config;

/// What distinguishes a family.
#[derive(Clone, Copy)]
pub(super) struct Family {
    /// What the names of the model's tensors begin with.
    pub prefix: &'static str,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether attention's output has a bias.
    pub output_bias: bool,
    /// Whether the MLP's matrices have biases.
    pub mlp_bias: bool,
    /// Whether queries, keys and values are stored as one matrix.
    pub fused_qkv: bool,
    /// Whether gate and up are stored as one matrix.
    pub fused_gate_up: bool,
    /// What queries and keys are normed by.
    pub qk_norm: QkNorm,
    /// What the MLP's gate goes through.
    pub activation: Activation,
    /// The key of `config.json` that says what norms add to the mean square.
    pub epsilon: &'static str,
    /// The rope base where the file does not give one; `None` makes it a must.
    pub rope_base: Option<f64>,
    /// Whether rope turns neighbours, where others turn halves.
    pub rope_neighbours: bool,
    /// Whether rope may turn a part of each head.
    pub rope_in_part: bool,
    /// Whether `layer_types` may name layers that keep a state in place of keys.
    pub recurrent: bool,
    /// What each layer sees where `layer_types` does not say: a function of the layer's index.
    pub window: fn(&Config, usize) -> Result<Option<usize>, LoadError>,
}

/// What queries and keys are normed by before rope.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QkNorm {
    /// Nothing.
    None,
    /// Each head by itself, with weights that all share.
    Heads,
    /// Each head by itself, with weights of its own.
    OwnHeads,
    /// All heads together.
    Whole,
}

/// What a page says that adds nothing.
pub(super) const PLAIN: Family = Family {
    prefix: "model",
    qkv_bias: false,
    output_bias: false,
    mlp_bias: false,
    fused_qkv: false,
    fused_gate_up: false,
    qk_norm: QkNorm::None,
    activation: Activation::Silu,
    epsilon: "rms_norm_eps",
    rope_base: Some(10_000.0),
    rope_neighbours: false,
    rope_in_part: false,
    recurrent: false,
    window: |_, _| Ok(None),
};

/// The most layers; the largest models have fewer than 200.
pub(super) const LAYERS_MAX: usize = 1024;

impl Family {
    /// Describes a decoder of this family.
    pub fn describe(&self, config: &Config) -> Result<Description, LoadError> {
        self.refuse_strangers(config)?;
        let hidden = config.count("hidden_size")?;
        let vocabulary = config.count("vocab_size")?;
        let attention = attention(config, hidden)?;
        let mut rope = Rope::read(config, self.rope_base, attention.head_dim)?;
        rope.neighbours |= self.rope_neighbours;
        if rope.dims != attention.head_dim && !self.rope_in_part {
            return Err(LoadError::unsupported("partial_rotary_factor", "rope that turns whole heads is"));
        }
        let epsilon = self.epsilon(config)?;
        let intermediate = config.count("intermediate_size")?;
        let layers = self.windows(config)?.into_iter().enumerate().map(|(index, window)| {
            let builder = Builder { name: format!("{}.layers.{index}", self.prefix), hidden, epsilon, family: self };
            builder.layer(Attention { window, ..attention }, intermediate)
        });
        Ok(Description {
            architecture: config.word("model_type")?.to_string(),
            hidden,
            vocabulary,
            context: rope.context(config.count("max_position_embeddings")?).min(unfolded(config)?),
            ropes: vec![rope],
            embedding: Stack::single(format!("{}.embed_tokens", self.prefix), vocabulary, hidden),
            embedding_scale: 1.0,
            layers: layers.collect(),
            norm: Norm::rms(&format!("{}.norm", self.prefix), hidden, epsilon),
            head: None,
            logit_scale: 1.0,
            logit_softcap: None,
            unread: Vec::new(),
        })
    }

    fn epsilon(&self, config: &Config) -> Result<f32, LoadError> {
        let epsilon = config.number_if_any(self.epsilon)?;
        Ok(epsilon.ok_or_else(|| config.problem(format!("{} is missing", self.epsilon)))? as f32)
    }

    /// What each layer sees: as `layer_types` lists it, or else as the family has it.
    fn windows(&self, config: &Config) -> Result<Vec<Option<usize>>, LoadError> {
        let layers = config.count("num_hidden_layers")?;
        if layers > LAYERS_MAX {
            return Err(config.problem(format!("num_hidden_layers is {layers}, more than {LAYERS_MAX}")));
        }
        let Some(types) = config.words_if_any("layer_types")? else {
            return (0..layers).map(|layer| (self.window)(config, layer)).collect();
        };
        if types.len() != layers {
            return Err(config.problem(format!("layer_types lists {} of {layers} layers", types.len())));
        }
        types.into_iter().map(|name| listed_window(config, name, self.recurrent)).collect()
    }

    /// Refuses what would change the numbers and this family does not do.
    fn refuse_strangers(&self, config: &Config) -> Result<(), LoadError> {
        let (known, names): (_, &[&str]) = match self.activation {
            Activation::Silu | Activation::ClippedSwiglu => ("silu is", &["silu", "swish"]),
            // Gemma's first files say gelu and mean its approximation.
            Activation::GeluTanh => ("gelu_pytorch_tanh is", &["gelu_pytorch_tanh", "gelu_tanh", "gelu_new", "gelu"]),
        };
        for key in ["hidden_activation", "hidden_act"] {
            match config.word_if_any(key)? {
                Some(name) if !names.contains(&name) => {
                    return Err(LoadError::unsupported(format!("activation {name}"), known));
                }
                Some(_) => break,
                None => {}
            }
        }
        if config.flag_if_any("rope_traditional")?.is_some_and(|asked| asked != self.rope_neighbours) {
            return Err(LoadError::unsupported("rope_traditional", "rope as the family has it is"));
        }
        if config.flag_if_any("is_causal")? == Some(false) {
            return Err(LoadError::unsupported("is_causal false", "a decoder that sees only back is"));
        }
        if config.flag("use_bidirectional_attention")? {
            return Err(LoadError::unsupported("use_bidirectional_attention", "a decoder that sees only back is"));
        }
        if let Some(file) = config.word_if_any("model_file")? {
            return Err(LoadError::unsupported(format!("model code in {file}"), "built-in architectures are"));
        }
        Ok(())
    }
}

/// One layer in the making.
struct Builder<'a> {
    name: String,
    hidden: usize,
    epsilon: f32,
    family: &'a Family,
}

impl Builder<'_> {
    fn layer(&self, attention: Attention, intermediate: usize) -> Layer {
        Layer {
            mixer: Branch { before: self.norm("input_layernorm"), inner: self.mixer(attention), after: None },
            feed: Branch {
                before: self.norm("post_attention_layernorm"),
                inner: Feed::Gated(self.gated(intermediate)),
                after: None,
            },
            parallel: false,
            residual_scale: 1.0,
            without_mixer: false,
            without_feed: false,
        }
    }

    fn mixer(&self, attention: Attention) -> Mixer {
        let Attention { heads, kv_heads, head_dim, .. } = attention;
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let bias = self.family.qkv_bias;
        let parts = if self.family.fused_qkv {
            vec![self.part("self_attn.qkv_proj", q + 2 * kv, bias)]
        } else {
            let split = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
            split.map(|(module, outputs)| self.part(module, outputs, bias)).to_vec()
        };
        let norm = |module: &str, width| Norm::rms(&format!("{}.self_attn.{module}", self.name), width, self.epsilon);
        let own = |module: &str, heads| norm(module, head_dim).with_dims(vec![heads, head_dim]);
        Mixer {
            qkv: Stack { parts, inputs: self.hidden },
            qk_norm: match self.family.qk_norm {
                QkNorm::None => None,
                QkNorm::Heads => Some((norm("q_norm", head_dim), norm("k_norm", head_dim))),
                QkNorm::OwnHeads => Some((own("q_norm", heads), own("k_norm", kv_heads))),
                QkNorm::Whole => Some((norm("q_norm", q), norm("k_norm", kv))),
            },
            attention,
            sinks: None,
            form: Form::Plain,
            output: Stack {
                parts: vec![self.part("self_attn.o_proj", self.hidden, self.family.output_bias)],
                inputs: q,
            },
        }
    }

    fn gated(&self, intermediate: usize) -> Gated {
        let bias = self.family.mlp_bias;
        let parts = if self.family.fused_gate_up {
            vec![self.part("mlp.gate_up_proj", 2 * intermediate, bias)]
        } else {
            ["mlp.gate_proj", "mlp.up_proj"].map(|module| self.part(module, intermediate, bias)).to_vec()
        };
        Gated {
            gate_up: Stack { parts, inputs: self.hidden },
            activation: self.family.activation,
            down: Stack { parts: vec![self.part("mlp.down_proj", self.hidden, bias)], inputs: intermediate },
        }
    }

    fn part(&self, module: &str, outputs: usize, bias: bool) -> Part {
        Part::new(format!("{}.{module}", self.name), outputs, bias)
    }

    fn norm(&self, module: &str) -> Option<Norm> {
        Some(Norm::rms(&format!("{}.{module}", self.name), self.hidden, self.epsilon))
    }
}

/// Gives layers that slide a rope of their own, `sliding`, unless the file lists one for each type of layer.
pub(super) fn ropes_by_type(description: &mut Description, config: &Config, sliding: Rope) -> Result<(), LoadError> {
    description.ropes.push(sliding);
    let tables = config.object_if_any("rope_parameters")?;
    let head_dim = description.layers[0].mixer.inner.attention.head_dim;
    for (rope, layer_type) in description.ropes.iter_mut().zip(["full_attention", "sliding_attention"]) {
        if let Some(table) = tables.as_ref().map(|tables| tables.object_if_any(layer_type)).transpose()?.flatten() {
            *rope = Rope::of_table(&table, config, Some(rope.base), head_dim)?;
        }
    }
    for layer in &mut description.layers {
        let attention = &mut layer.mixer.inner.attention;
        attention.rope = Some(usize::from(attention.window.is_some()));
    }
    Ok(())
}

/// How far positions reach before they would have to be folded, as Qwen's models of a million tokens do.
fn unfolded(config: &Config) -> Result<usize, LoadError> {
    let table = config.object_if_any("dual_chunk_attention_config")?;
    let reached = table.map(|table| table.count("original_max_position_embeddings")).transpose()?;
    Ok(reached.unwrap_or(usize::MAX))
}

fn listed_window(config: &Config, layer_type: &str, recurrent: bool) -> Result<Option<usize>, LoadError> {
    match layer_type {
        "full_attention" => Ok(None),
        "linear_attention" if recurrent => Ok(None),
        "sliding_attention" => config.count("sliding_window").map(Some),
        other => Err(LoadError::unsupported(format!("layer type {other}"), "full_attention and sliding_attention are")),
    }
}

fn attention(config: &Config, hidden: usize) -> Result<Attention, LoadError> {
    let heads = config.count("num_attention_heads")?;
    let kv_heads = config.count_if_any("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(config.problem(format!("{heads} attention heads cannot share {kv_heads} key and value heads")));
    }
    let head_dim = match config.count_if_any("head_dim")? {
        Some(width) => width,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(config.problem(format!("hidden_size {hidden} does not divide into {heads} heads"))),
    };
    if !head_dim.is_multiple_of(2) {
        return Err(config.problem(format!("a head of {head_dim} has no halves for rope to turn")));
    }
    let scale = (head_dim as f32).powf(-0.5);
    Ok(Attention { heads, kv_heads, head_dim, window: None, rope: Some(0), scale, softcap: None, sharpening: None })
}
