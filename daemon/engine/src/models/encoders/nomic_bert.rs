//! `nomic_bert`: nomic-embed-text 1 and 1.5. Rotary positions, norms after each branch, a SiLU-gated MLP.
//!
//! Its `config.json` speaks GPT-2's words on the hub and BERT's in newer files; the tensors have one set of names.

use serde_json::json;

use super::{Encoder, Layer, Norm, Order, Pooling, Sight, Source};
use super::{activation, classifies, only};
use crate::LoadError;
use crate::config::Config;
use crate::models::{Part, Rope, Stack};
use crate::native::Activation;

pub(super) fn describe(source: &Source<'_>) -> Result<Encoder, LoadError> {
    let config = source.config;
    refuse_strangers(config)?;
    let hidden = either(config, "n_embd", "hidden_size")?;
    let inner = either(config, "n_inner", "intermediate_size")?;
    let attention = source.attention(either(config, "n_head", "num_attention_heads")?, hidden)?;
    let vocabulary = config.count("vocab_size")?;
    let positions = either(config, "n_positions", "max_position_embeddings")?;
    let epsilon = match config.number_if_any("layer_norm_epsilon")? {
        Some(epsilon) => epsilon,
        None => config.number_if_any("layer_norm_eps")?.unwrap_or(1e-12),
    } as f32;
    let rope = rope(config, attention.head_dim)?;
    let bias = |key: &str| config.flag(key);
    let (qkv_bias, inner_bias, down_bias) = (bias("qkv_proj_bias")?, bias("mlp_fc1_bias")?, bias("mlp_fc2_bias")?);
    let layer = |index: usize| {
        let name = format!("encoder.layers.{index}");
        let part = |module: &str, outputs, bias| Part::new(format!("{name}.{module}"), outputs, bias);
        let norm = |module: &str| Norm::layer(&format!("{name}.{module}"), hidden, epsilon, true);
        Layer {
            attention_norm: Some(norm("norm1")),
            qkv: Stack { parts: vec![part("attn.Wqkv", 3 * hidden, qkv_bias)], inputs: hidden },
            qk_norm: None,
            rope: Some(rope.clone()),
            sight: Sight::ALL,
            output: Stack { parts: vec![part("attn.out_proj", hidden, qkv_bias)], inputs: hidden },
            mlp_norm: norm("norm2"),
            inner: Stack {
                parts: vec![part("mlp.fc12", inner, inner_bias), part("mlp.fc11", inner, inner_bias)],
                inputs: hidden,
            },
            activation: Activation::Silu,
            down: Stack { parts: vec![part("mlp.fc2", hidden, down_bias)], inputs: inner },
            after: None,
        }
    };
    let layers = if config.value("n_layer").is_some() { "n_layer" } else { "num_hidden_layers" };
    Ok(Encoder {
        architecture: config.word("model_type")?.to_string(),
        hidden,
        vocabulary,
        // Rotary positions have no table, so a folder may say that its texts are longer than the first training's.
        context: positions.max(source.settings.length.unwrap_or(0)),
        words: Stack::single("embeddings.word_embeddings", vocabulary, hidden),
        scale: 1.0,
        positions: None,
        segments: match config.value("type_vocab_size").and_then(|rows| rows.as_u64()) {
            Some(0) => None,
            _ => {
                let rows = config.count_if_any("type_vocab_size")?.unwrap_or(2);
                Some(Stack::single("embeddings.token_type_embeddings", rows, hidden))
            }
        },
        embedding_norm: Some(Norm::layer("emb_ln", hidden, epsilon, true)),
        order: Order::After,
        attention,
        layers: (0..source.layers(layers)?).map(layer).collect(),
        norm: None,
        task: source.embed(Pooling::Mean, hidden, &source.settings.dense)?,
        unused: ["pooler.", "cls.", "lm_head."].map(str::to_string).into(),
    })
}

/// A count under its name on the hub, or under the newer one.
fn either(config: &Config, old: &str, new: &str) -> Result<usize, LoadError> {
    config.count_if_any(old)?.map_or_else(|| config.count(new), Ok)
}

fn rope(config: &Config, head_dim: usize) -> Result<Rope, LoadError> {
    match config.number_if_any("rotary_emb_base")? {
        Some(base) => Ok(Rope::plain(base, head_dim)),
        None => Rope::read(config, Some(1000.0), head_dim),
    }
}

/// Refuses what would change the numbers and no model of this family does that loads here.
fn refuse_strangers(config: &Config) -> Result<(), LoadError> {
    if classifies(config)? {
        return Err(LoadError::unsupported("a nomic_bert classifier", "a nomic_bert embedder is"));
    }
    only(config, "rotary_emb_fraction", &[json!(1.0), json!(1)])?;
    only(config, "rotary_emb_interleaved", &[json!(false)])?;
    only(config, "rotary_emb_scale_base", &[])?;
    only(config, "rotary_scaling_factor", &[])?;
    only(config, "prenorm", &[json!(false)])?;
    only(config, "parallel_block", &[json!(false)])?;
    only(config, "use_rms_norm", &[json!(false)])?;
    only(config, "causal", &[json!(false)])?;
    only(config, "activation_function", &[json!("swiglu")])?;
    only(config, "num_experts", &[json!(0)])?;
    match activation(config, "hidden_act", Activation::Silu)? {
        Activation::Silu => Ok(()),
        _ => Err(LoadError::unsupported("a nomic_bert activation besides silu", "silu is")),
    }
}
