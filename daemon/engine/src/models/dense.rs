//! The shape that Llama, Mistral and Qwen share: pre-norm attention with grouped heads and rotate-half rope, then a
//! SiLU-gated MLP, under the tensor names of transformers.
//!
//! A page says what its family adds; this builds the description and refuses what none of them does.

use super::{Attention, Description, Layer, Norm, Part, Rope, Stack, Vector};
use crate::LoadError;
use crate::config::Config;

/// What distinguishes a family.
pub(super) struct Family {
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether attention's output has a bias.
    pub output_bias: bool,
    /// Whether the MLP's matrices have biases.
    pub mlp_bias: bool,
    /// Whether each head of queries and keys is normed.
    pub qk_norm: bool,
    /// The rope base where the file does not give one; `None` makes it a must.
    pub rope_base: Option<f64>,
    /// What each layer sees where `layer_types` does not say: a function of the layer's index.
    pub window: fn(&Config, usize) -> Result<Option<usize>, LoadError>,
}

impl Family {
    /// Describes a decoder of this family.
    pub fn describe(&self, config: &Config) -> Result<Description, LoadError> {
        refuse_strangers(config)?;
        let hidden = config.count("hidden_size")?;
        let vocabulary = config.count("vocab_size")?;
        let attention = attention(config, hidden)?;
        let rope = Rope::read(config, self.rope_base)?;
        let windows = self.windows(config)?;
        let intermediate = config.count("intermediate_size")?;
        let epsilon = config.number_if_any("rms_norm_eps")?;
        let epsilon = epsilon.ok_or_else(|| config.problem("rms_norm_eps is missing".to_string()))? as f32;
        let layers = windows.into_iter().enumerate().map(|(index, window)| {
            let attention = Attention { window, ..attention };
            self.layer(&format!("model.layers.{index}"), hidden, intermediate, attention, epsilon)
        });
        Ok(Description {
            architecture: config.word("model_type")?.to_string(),
            hidden,
            vocabulary,
            context: rope.context(config.count("max_position_embeddings")?),
            rope,
            embedding: Stack::single("model.embed_tokens", vocabulary, hidden),
            layers: layers.collect(),
            norm: norm("model.norm", hidden, epsilon),
            head: None,
        })
    }

    fn layer(&self, name: &str, hidden: usize, intermediate: usize, attention: Attention, epsilon: f32) -> Layer {
        let Attention { heads, kv_heads, head_dim, .. } = attention;
        let part = |module: &str, outputs, bias| Part { name: format!("{name}.{module}"), outputs, bias };
        let head_norm = |module: &str| norm(&format!("{name}.self_attn.{module}"), head_dim, epsilon);
        Layer {
            attention_norm: norm(&format!("{name}.input_layernorm"), hidden, epsilon),
            qkv: Stack {
                parts: vec![
                    part("self_attn.q_proj", heads * head_dim, self.qkv_bias),
                    part("self_attn.k_proj", kv_heads * head_dim, self.qkv_bias),
                    part("self_attn.v_proj", kv_heads * head_dim, self.qkv_bias),
                ],
                inputs: hidden,
            },
            qk_norm: self.qk_norm.then(|| (head_norm("q_norm"), head_norm("k_norm"))),
            attention,
            output: Stack { parts: vec![part("self_attn.o_proj", hidden, self.output_bias)], inputs: heads * head_dim },
            mlp_norm: norm(&format!("{name}.post_attention_layernorm"), hidden, epsilon),
            gate_up: Stack {
                parts: vec![
                    part("mlp.gate_proj", intermediate, self.mlp_bias),
                    part("mlp.up_proj", intermediate, self.mlp_bias),
                ],
                inputs: hidden,
            },
            down: Stack { parts: vec![part("mlp.down_proj", hidden, self.mlp_bias)], inputs: intermediate },
        }
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
        types.into_iter().map(|name| listed_window(config, name)).collect()
    }
}

/// The most layers; the largest models have fewer than 200.
const LAYERS_MAX: usize = 1024;

fn listed_window(config: &Config, layer_type: &str) -> Result<Option<usize>, LoadError> {
    match layer_type {
        "full_attention" => Ok(None),
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
    Ok(Attention { heads, kv_heads, head_dim, window: None })
}

/// Refuses what would change the numbers and no family here does.
fn refuse_strangers(config: &Config) -> Result<(), LoadError> {
    match config.word_if_any("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(LoadError::unsupported(format!("activation {other}"), "silu is")),
    }
    if config.flag("rope_traditional")? {
        return Err(LoadError::unsupported("rope_traditional", "rope that turns halves of a head is"));
    }
    if config.number_if_any("partial_rotary_factor")?.is_some_and(|share| share != 1.0) {
        return Err(LoadError::unsupported("partial_rotary_factor", "rope that turns whole heads is"));
    }
    if let Some(file) = config.word_if_any("model_file")? {
        return Err(LoadError::unsupported(format!("model code in {file}"), "built-in architectures are"));
    }
    Ok(())
}

fn norm(module: &str, length: usize, epsilon: f32) -> Norm {
    Norm { weight: Vector { name: format!("{module}.weight"), length }, epsilon }
}
