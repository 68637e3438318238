//! `modernbert`: rotary positions, norms before each branch, a GELU-gated MLP; most layers see a window both ways, every
//! third one sees all.

use super::{Encoder, Head, Layer, Norm, Order, Pooling, Score, Sight, Source, Task};
use super::{activation, classifies, refuse_labels};
use crate::LoadError;
use crate::config::Config;
use crate::models::{Part, Rope, Stack};
use crate::native::Activation;

pub(super) fn describe(source: &Source<'_>) -> Result<Encoder, LoadError> {
    let config = source.config;
    let prefix = source.prefix("model.", "embeddings.tok_embeddings.weight")?;
    let hidden = config.count("hidden_size")?;
    let vocabulary = config.count("vocab_size")?;
    let page = Page {
        hidden,
        inner: config.count("intermediate_size")?,
        epsilon: config.number_if_any("norm_eps")?.unwrap_or(1e-5) as f32,
        norm_bias: config.flag("norm_bias")?,
        attention_bias: config.flag("attention_bias")?,
        mlp_bias: config.flag("mlp_bias")?,
        activation: activation(config, "hidden_activation", Activation::Gelu)?,
    };
    let attention = source.attention(config.count("num_attention_heads")?, hidden)?;
    let head_dim = attention.head_dim;
    let everywhere =
        Form { sight: Sight::ALL, rope: rope(config, "full_attention", "global_rope_theta", 160_000.0, head_dim)? };
    let half = (config.count_if_any("local_attention")?.unwrap_or(128) / 2) as u32;
    let nearby = Form {
        sight: Sight { window: Some(half + 1), ahead: half },
        rope: rope(config, "sliding_attention", "local_rope_theta", 10_000.0, head_dim)?,
    };
    let slides = slides(config, source.layers("num_hidden_layers")?)?;
    let layers = slides.into_iter().enumerate().map(|(index, slides)| {
        let form = if slides { &nearby } else { &everywhere };
        page.layer(&format!("{prefix}layers.{index}"), index == 0, form)
    });
    Ok(Encoder {
        architecture: config.word("model_type")?.to_string(),
        hidden,
        vocabulary,
        context: config.count("max_position_embeddings")?,
        words: Stack::single(format!("{prefix}embeddings.tok_embeddings"), vocabulary, hidden),
        scale: 1.0,
        positions: None,
        segments: None,
        embedding_norm: Some(page.norm(&format!("{prefix}embeddings.norm"))),
        order: Order::Before,
        attention,
        layers: layers.collect(),
        norm: Some(page.norm(&format!("{prefix}final_norm"))),
        task: match classifies(config)? {
            true => Task::Rerank(page.head(config)?),
            false => source.embed(Pooling::Mean, hidden, &source.settings.dense)?,
        },
        unused: ["head.", "decoder."].map(str::to_string).into(),
    })
}

/// What every layer has.
struct Page {
    hidden: usize,
    inner: usize,
    epsilon: f32,
    norm_bias: bool,
    attention_bias: bool,
    mlp_bias: bool,
    activation: Activation,
}

/// How the layers of one kind see.
struct Form {
    sight: Sight,
    rope: Rope,
}

impl Page {
    fn norm(&self, name: &str) -> Norm {
        Norm::layer(name, self.hidden, self.epsilon, self.norm_bias)
    }

    fn layer(&self, name: &str, first: bool, form: &Form) -> Layer {
        let stack = |module: &str, outputs, inputs, bias| Stack {
            parts: vec![Part::new(format!("{name}.{module}"), outputs, bias)],
            inputs,
        };
        let (hidden, inner) = (self.hidden, self.inner);
        Layer {
            // The embeddings were normed just before.
            attention_norm: (!first).then(|| self.norm(&format!("{name}.attn_norm"))),
            qkv: stack("attn.Wqkv", 3 * hidden, hidden, self.attention_bias),
            qk_norm: None,
            rope: Some(form.rope.clone()),
            sight: form.sight,
            output: stack("attn.Wo", hidden, hidden, self.attention_bias),
            mlp_norm: self.norm(&format!("{name}.mlp_norm")),
            inner: stack("mlp.Wi", 2 * inner, hidden, self.mlp_bias),
            activation: self.activation,
            down: stack("mlp.Wo", hidden, inner, self.mlp_bias),
            after: None,
        }
    }

    fn head(&self, config: &Config) -> Result<Head, LoadError> {
        refuse_labels(config)?;
        let stack =
            |name: &str, outputs, bias| Stack { parts: vec![Part::new(name, outputs, bias)], inputs: self.hidden };
        Ok(Head {
            pooling: match config.word_if_any("classifier_pooling")?.unwrap_or("cls") {
                "cls" => Pooling::First,
                "mean" => Pooling::Mean,
                other => {
                    let found = format!("classifier_pooling {other}");
                    return Err(LoadError::unsupported(found, "cls and mean are"));
                }
            },
            dense: Some((
                stack("head.dense", self.hidden, config.flag("classifier_bias")?),
                activation(config, "classifier_activation", Activation::Gelu)?,
            )),
            norm: Some(self.norm("head.norm")),
            score: Score::Matrix(stack("classifier", 1, true)),
        })
    }
}

/// Which layers see a window only.
fn slides(config: &Config, layers: usize) -> Result<Vec<bool>, LoadError> {
    let Some(types) = config.words_if_any("layer_types")? else {
        let every = config.count_if_any("global_attn_every_n_layers")?.unwrap_or(3);
        return Ok((0..layers).map(|layer| !layer.is_multiple_of(every)).collect());
    };
    if types.len() != layers {
        return Err(config.problem(format!("layer_types lists {} of {layers} layers", types.len())));
    }
    let slides = |name| match name {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => Err(LoadError::unsupported(format!("layer type {other}"), "full_attention and sliding_attention are")),
    };
    types.into_iter().map(slides).collect()
}

/// The rope of one kind of layer, in the older or the newer form of the file.
fn rope(config: &Config, kind: &str, key: &str, usual: f64, head_dim: usize) -> Result<Rope, LoadError> {
    if config.value("rope_scaling").is_some() {
        return Err(LoadError::unsupported("rope_scaling in modernbert", "a table for each layer type is"));
    }
    if let Some(table) =
        config.object_if_any("rope_parameters")?.map(|table| table.object_if_any(kind)).transpose()?.flatten()
    {
        return Rope::of_table(&table, config, Some(usual), head_dim);
    }
    Ok(Rope::plain(config.number_if_any(key)?.unwrap_or(usual), head_dim))
}
