//! `bert`, and `roberta`, `xlm-roberta` and `camembert`, which differ in where positions begin and in the head: learned
//! positions, norms after each branch, an ungated MLP.

use serde_json::json;

use super::{Encoder, Head, Layer, Norm, Order, Pooling, Positions, Score, Sight, Source, Task};
use super::{activation, classifies, only, refuse_labels};
use crate::LoadError;
use crate::models::{Part, Stack};
use crate::native::Activation;

pub(super) fn describe(source: &Source<'_>) -> Result<Encoder, LoadError> {
    let prefix = source.prefix("bert.", PROBE)?;
    let mut encoder = describe_family(source, &prefix, 0)?;
    encoder.task = match classifies(source.config)? {
        true => Task::Rerank(head(&format!("{prefix}pooler.dense"), "classifier", encoder.hidden)),
        false => source.embed(Pooling::Mean, encoder.hidden, &source.settings.dense)?,
    };
    Ok(encoder)
}

pub(super) fn describe_roberta(source: &Source<'_>) -> Result<Encoder, LoadError> {
    let prefix = source.prefix("roberta.", PROBE)?;
    let padding = source.config.value("pad_token_id").and_then(|id| id.as_u64()).unwrap_or(1);
    let mut encoder = describe_family(source, &prefix, padding.min(1 << 20) as usize + 1)?;
    encoder.task = match classifies(source.config)? {
        true => Task::Rerank(head("classifier.dense", "classifier.out_proj", encoder.hidden)),
        false => source.embed(Pooling::Mean, encoder.hidden, &source.settings.dense)?,
    };
    Ok(encoder)
}

const PROBE: &str = "embeddings.word_embeddings.weight";

/// What all of them share; positions begin at row `first` of their table.
fn describe_family(source: &Source<'_>, prefix: &str, first: usize) -> Result<Encoder, LoadError> {
    let config = source.config;
    only(config, "position_embedding_type", &[json!("absolute")])?;
    only(config, "is_decoder", &[json!(false)])?;
    only(config, "add_cross_attention", &[json!(false)])?;
    if classifies(config)? {
        refuse_labels(config)?;
    }
    let hidden = config.count("hidden_size")?;
    let attention = source.attention(config.count("num_attention_heads")?, hidden)?;
    let rows = config.count("max_position_embeddings")?;
    let context = rows.checked_sub(first).filter(|context| *context > 0);
    let context =
        context.ok_or_else(|| config.problem(format!("max_position_embeddings {rows} leaves no position")))?;
    let vocabulary = config.count("vocab_size")?;
    let epsilon = config.number_if_any("layer_norm_eps")?.unwrap_or(1e-12) as f32;
    let table = |name: &str, rows| Stack::single(format!("{prefix}embeddings.{name}"), rows, hidden);
    let shape = Shape {
        hidden,
        inner: config.count("intermediate_size")?,
        epsilon,
        activation: activation(config, "hidden_act", Activation::Gelu)?,
    };
    Ok(Encoder {
        architecture: config.word("model_type")?.to_string(),
        hidden,
        vocabulary,
        context,
        words: table("word_embeddings", vocabulary),
        scale: 1.0,
        positions: Some(Positions { table: table("position_embeddings", rows), first }),
        segments: Some(table("token_type_embeddings", config.count_if_any("type_vocab_size")?.unwrap_or(2))),
        embedding_norm: Some(Norm::layer(&format!("{prefix}embeddings.LayerNorm"), hidden, epsilon, true)),
        order: Order::After,
        attention,
        layers: (0..source.layers("num_hidden_layers")?)
            .map(|index| shape.layer(&format!("{prefix}encoder.layer.{index}")))
            .collect(),
        norm: None,
        task: Task::Embed(Pooling::Mean, Vec::new()),
        unused: ["pooler.", "cls.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids"]
            .iter()
            .flat_map(|name| [(*name).to_string(), format!("{prefix}{name}")])
            .collect(),
    })
}

/// What every layer has.
struct Shape {
    hidden: usize,
    inner: usize,
    epsilon: f32,
    activation: Activation,
}

impl Shape {
    fn layer(&self, name: &str) -> Layer {
        let part = |module: &str, outputs| Part::new(format!("{name}.{module}"), outputs, true);
        let norm = |module: &str| Norm::layer(&format!("{name}.{module}"), self.hidden, self.epsilon, true);
        let (hidden, inner) = (self.hidden, self.inner);
        let heads = ["query", "key", "value"].map(|module| part(&format!("attention.self.{module}"), hidden));
        Layer {
            attention_norm: Some(norm("attention.output.LayerNorm")),
            qkv: Stack { parts: heads.into(), inputs: hidden },
            qk_norm: None,
            rope: None,
            sight: Sight::ALL,
            output: Stack { parts: vec![part("attention.output.dense", hidden)], inputs: hidden },
            mlp_norm: norm("output.LayerNorm"),
            inner: Stack { parts: vec![part("intermediate.dense", inner)], inputs: hidden },
            activation: self.activation,
            down: Stack { parts: vec![part("output.dense", hidden)], inputs: inner },
            after: None,
        }
    }
}

fn head(dense: &str, score: &str, hidden: usize) -> Head {
    let stack = |name: &str, outputs| Stack { parts: vec![Part::new(name, outputs, true)], inputs: hidden };
    Head {
        pooling: Pooling::First,
        dense: Some((stack(dense, hidden), Activation::Tanh)),
        norm: None,
        score: Score::Matrix(stack(score, 1)),
    }
}
