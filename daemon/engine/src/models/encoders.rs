//! What an encoder is, as data: which matrices and norms each layer has, how tokens see each other, and what becomes of
//! the last layer: the vector of a text, or the score of a pair.
//!
//! A page per architecture turns `config.json` into an [`Encoder`]; [`Settings`] is what sentence-transformers' files add.
//! Decoders that were trained to embed are adopted from their own page. Nothing here touches a weight. A feature that no
//! page handles is refused by name.

mod bert;
mod decoder;
mod modernbert;
mod nomic_bert;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use settings::{Dense, Pooling, Settings};

use super::{Attention, Part, Rope, Stack, Vector};
use crate::LoadError;
use crate::config::Config;
use crate::native::Activation;
use crate::text::Tokenizer;

/// The architectures that load as encoders, by `model_type`.
const SUPPORTED: [&str; 6] = ["bert", "roberta", "xlm-roberta", "camembert", "nomic_bert", "modernbert"];

/// A whole encoder.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    /// `model_type`.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Token ids that it knows.
    pub vocabulary: usize,
    /// Positions that it was configured for.
    pub context: usize,
    /// One row per token id.
    pub words: Stack,
    /// What they are multiplied by.
    pub scale: f32,
    /// One row per position, where positions are learned.
    pub positions: Option<Positions>,
    /// One row per segment: the first text of a pair, and the second.
    pub segments: Option<Stack>,
    /// The norm of the embeddings' sum.
    pub embedding_norm: Option<Norm>,
    /// Where each layer's norms stand.
    pub order: Order,
    /// The heads of every layer.
    pub attention: Attention,
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// The norm after the last layer.
    pub norm: Option<Norm>,
    /// What it is for.
    pub task: Task,
    /// Beginnings of the names of tensors that another task of the same model would use.
    pub unused: Vec<String>,
}

/// Learned positions.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    /// One row per position.
    pub table: Stack,
    /// The row of a text's first token.
    pub first: usize,
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `x += branch(norm(x))`.
    Before,
    /// `x = norm(x + branch(x))`.
    After,
}

/// One layer: attention and an MLP, each with its norm.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The norm of attention; some first layers have none.
    pub attention_norm: Option<Norm>,
    /// Queries, keys and values, stacked in this order.
    pub qkv: Stack,
    /// Norms over each head of the queries and of the keys.
    pub qk_norm: Option<(Norm, Norm)>,
    /// How positions turn queries and keys, where they do.
    pub rope: Option<Rope>,
    /// Whom a token sees.
    pub sight: Sight,
    /// The projection back to the residual stream.
    pub output: Stack,
    /// The norm of the MLP.
    pub mlp_norm: Norm,
    /// Into the MLP. Twice as wide as what `down` reads, it is a gate and then what the gate multiplies.
    pub inner: Stack,
    /// The MLP's activation, or its gate's.
    pub activation: Activation,
    /// The projection back to the residual stream.
    pub down: Stack,
    /// The norms of what attention and the MLP give, before it is added.
    pub after: Option<(Norm, Norm)>,
}

/// Whom a token sees besides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Itself and so many minus one before it; `None` is all.
    pub window: Option<u32>,
    /// So many after it.
    pub ahead: u32,
}

impl Sight {
    /// Everybody sees everybody.
    pub const ALL: Sight = Sight { window: None, ahead: u32::MAX };
}

/// A norm.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// The factors.
    pub weight: Vector,
    /// Whether they are stored less one.
    pub less_one: bool,
    /// What is added.
    pub bias: Option<Vector>,
    /// What is added to the variance or mean square.
    pub epsilon: f32,
    /// Whether the mean is taken off first.
    pub centred: bool,
}

/// What becomes of the last layer.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// One vector for a text: pooled, then through these matrices and what follows each.
    Embed(Pooling, Vec<(Stack, Option<Activation>)>),
    /// One score for a pair of texts.
    Rerank(Head),
}

/// What turns a pair's tokens into a score.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Which tokens count.
    pub pooling: Pooling,
    /// A matrix before the last one, and the activation after it.
    pub dense: Option<(Stack, Activation)>,
    /// The norm after that.
    pub norm: Option<Norm>,
    /// What scores.
    pub score: Score,
}

/// What gives a score.
#[derive(Clone, Debug)]
pub(crate) enum Score {
    /// A matrix of one output.
    Matrix(Stack),
    /// How much rather a decoder would say one word than another: yes than no. The matrix that scores tokens, or none if the
    /// table of words does.
    Words {
        /// The matrix that scores tokens.
        head: Option<Stack>,
        /// The word that counts.
        yes: Word,
        /// The word that counts against it.
        no: Word,
    },
}

/// A word that is one token.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// How it is spelled.
    pub text: String,
    /// The token that the folder says it is.
    pub told: Option<u32>,
}

impl Word {
    /// Its token, below the vocabulary. A folder that names another token answers in other words, and asks for them in
    /// another way than is known here.
    pub fn token(&self, tokenizer: &Tokenizer, vocabulary: usize) -> Result<u32, LoadError> {
        let word = &self.text;
        let token = tokenizer.token_id(word).filter(|token| (*token as usize) < vocabulary);
        let token = token
            .ok_or_else(|| LoadError::unsupported(format!("a judge without the token {word}"), "yes and no are"))?;
        match self.told {
            Some(told) if told != token => {
                let found = format!("LogitScore of token {told}");
                Err(LoadError::unsupported(
                    found,
                    format!("Qwen3-Reranker's, which are yes and no, is ({word} is {token})"),
                ))
            }
            _ => Ok(token),
        }
    }
}

impl Head {
    fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let score = match &self.score {
            Score::Matrix(stack) => Some(stack),
            Score::Words { head, .. } => head.as_ref(),
        };
        self.dense.iter().map(|(stack, _)| stack).chain(score)
    }
}

/// What a page reads: the files of a folder, and which tensors it has.
pub(super) struct Source<'a> {
    pub config: &'a Config,
    pub settings: &'a Settings,
    /// Whether the weights hold a tensor.
    pub has: &'a dyn Fn(&str) -> bool,
}

impl Encoder {
    /// Whether a folder's model is an encoder: by its architecture, or because it was trained to embed or to score.
    pub fn is_meant(config: &Config, settings: &Settings) -> Result<bool, LoadError> {
        let architecture = config.word("model_type")?;
        let told = settings.pooling.is_some() || settings.answers.is_some() || settings.lost.is_some();
        let named = decoder::judges(config, settings)? || decoder::embeds(config)?;
        Ok(told || SUPPORTED.contains(&architecture) || classifies(config)? || named)
    }

    /// Describes the encoder of a folder. `has` says which tensors there are, because names come with and without a prefix.
    pub fn read(config: &Config, settings: &Settings, has: &dyn Fn(&str) -> bool) -> Result<Self, LoadError> {
        let source = Source { config, settings, has };
        if let Some(path) = settings.lost.as_ref().filter(|_| !decoder::keeps_projections(&source)) {
            return Err(settings::missing(path));
        }
        let encoder = match config.word("model_type")? {
            "bert" => bert::describe(&source),
            "roberta" | "xlm-roberta" | "camembert" => bert::describe_roberta(&source),
            "nomic_bert" => nomic_bert::describe(&source),
            "modernbert" => modernbert::describe(&source),
            "qwen3" | "gemma3_text" => decoder::describe(&source),
            other => {
                let supported = format!("{}, qwen3 and gemma3_text are", SUPPORTED.join(", "));
                Err(LoadError::unsupported(format!("an encoder of model_type {other}"), supported))
            }
        }?;
        let reranks = matches!(encoder.task, Task::Rerank(_));
        if settings.lower && reranks {
            return Err(LoadError::unsupported("do_lower_case of a reranker", "that of an embedder is"));
        }
        if !settings.dense.is_empty() && reranks {
            return Err(LoadError::unsupported("a Dense module of a reranker", "that of an embedder is"));
        }
        Ok(encoder)
    }

    /// How many numbers a text becomes.
    pub fn width(&self) -> usize {
        match &self.task {
            Task::Embed(_, dense) => dense.last().map_or(self.hidden, |(stack, _)| stack.outputs()),
            Task::Rerank(_) => 1,
        }
    }

    /// Whether it was trained to answer a question about a pair of texts, and must be asked that.
    pub fn judges(&self) -> bool {
        self.architecture == "qwen3" && matches!(self.task, Task::Rerank(_))
    }

    /// Refuses a judge whose tokenizer lacks the words that it answers in.
    pub fn check_words(&self, tokenizer: &Tokenizer) -> Result<(), LoadError> {
        match &self.task {
            Task::Rerank(Head { score: Score::Words { yes, no, .. }, .. }) => {
                [yes, no].into_iter().try_for_each(|word| word.token(tokenizer, self.vocabulary).map(drop))
            }
            _ => Ok(()),
        }
    }

    /// Every stack of matrices, in the order of the computation.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let positions = self.positions.as_ref().map(|positions| &positions.table);
        let layers = self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.output, &layer.inner, &layer.down]);
        let (dense, head) = match &self.task {
            Task::Embed(_, dense) => (Some(dense.iter().map(|(stack, _)| stack)), None),
            Task::Rerank(head) => (None, Some(head.stacks())),
        };
        std::iter::once(&self.words)
            .chain(positions)
            .chain(&self.segments)
            .chain(layers)
            .chain(dense.into_iter().flatten())
            .chain(head.into_iter().flatten())
    }

    /// Every norm, in the order of the computation.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let layers = self.layers.iter().flat_map(|layer| {
            let heads = layer.qk_norm.iter().flat_map(|(q, k)| [q, k]);
            let after = layer.after.iter().flat_map(|(attention, mlp)| [attention, mlp]);
            layer.attention_norm.iter().chain(heads).chain(std::iter::once(&layer.mlp_norm)).chain(after)
        });
        let head = if let Task::Rerank(head) = &self.task { head.norm.as_ref() } else { None };
        self.embedding_norm.iter().chain(layers).chain(&self.norm).chain(head)
    }
}

impl Norm {
    /// A layer norm of module `name`, with a bias if there is one.
    fn layer(name: &str, length: usize, epsilon: f32, biased: bool) -> Self {
        let vector = |part: &str| Vector::new(format!("{name}.{part}"), length);
        let bias = biased.then(|| vector("bias"));
        Self { weight: vector("weight"), less_one: false, bias, epsilon, centred: true }
    }
}

impl Source<'_> {
    /// What stands before the names of the model's own tensors: nothing, or `prefix` where they are part of a larger model.
    fn prefix(&self, prefix: &str, probe: &str) -> Result<String, LoadError> {
        let named = |prefix: &str| (self.has)(&format!("{prefix}{probe}"));
        let larger = named(prefix) || (!named("") && classifies(self.config)?);
        Ok(if larger { prefix.to_string() } else { String::new() })
    }

    /// How the tokens of a text become its vector: pooled, in the `usual` way where the folder does not say, and then through
    /// these matrices.
    fn embed(&self, usual: Pooling, hidden: usize, dense: &[Dense]) -> Result<Task, LoadError> {
        let mut width = hidden;
        let mut matrices = Vec::with_capacity(dense.len());
        for Dense { module, inputs, outputs, bias, activation } in dense {
            if *inputs != width {
                return Err(self.config.problem(format!("{module} reads {inputs} numbers of a vector of {width}")));
            }
            width = *outputs;
            matrices.push((Stack { parts: vec![Part::new(module, width, *bias)], inputs: *inputs }, *activation));
        }
        Ok(Task::Embed(self.settings.pooling.unwrap_or(usual), matrices))
    }

    /// The heads, all of one width.
    fn attention(&self, heads: usize, hidden: usize) -> Result<Attention, LoadError> {
        if !hidden.is_multiple_of(heads) {
            return Err(self.config.problem(format!("a width of {hidden} does not divide into {heads} heads")));
        }
        let head_dim = hidden / heads;
        let scale = (head_dim as f32).powf(-0.5);
        Ok(Attention {
            heads,
            kv_heads: heads,
            head_dim,
            window: None,
            rope: None,
            scale,
            softcap: None,
            sharpening: None,
        })
    }

    /// The number of layers, within reason.
    fn layers(&self, key: &str) -> Result<usize, LoadError> {
        let layers = self.config.count(key)?;
        if layers > LAYERS_MAX {
            return Err(self.config.problem(format!("{key} is {layers}, more than {LAYERS_MAX}")));
        }
        Ok(layers)
    }
}

/// The most layers; the largest encoders have fewer than 100.
const LAYERS_MAX: usize = 1024;

/// Whether the model ends in a classifier.
fn classifies(config: &Config) -> Result<bool, LoadError> {
    let words = config.words_if_any("architectures")?.unwrap_or_default();
    Ok(words.iter().any(|name| name.ends_with("ForSequenceClassification")))
}

/// Refuses a classifier with more than one label: a reranker gives one score.
fn refuse_labels(config: &Config) -> Result<(), LoadError> {
    let labels = match config.value("id2label").and_then(|labels| labels.as_object()) {
        Some(labels) => labels.len(),
        None => config.count_if_any("num_labels")?.unwrap_or(1),
    };
    match labels {
        1 => Ok(()),
        _ => Err(LoadError::unsupported(format!("a classifier of {labels} labels"), "a reranker with one score is")),
    }
}

/// The activation that a key names.
fn activation(config: &Config, key: &str, usual: Activation) -> Result<Activation, LoadError> {
    Ok(match config.word_if_any(key)? {
        None => usual,
        Some("gelu") => Activation::Gelu,
        Some("gelu_new" | "gelu_fast" | "gelu_pytorch_tanh") => Activation::GeluTanh,
        Some("silu" | "swish") => Activation::Silu,
        Some("relu") => Activation::Relu,
        Some("tanh") => Activation::Tanh,
        Some(other) => {
            let supported = "gelu, gelu_new, gelu_pytorch_tanh, silu, relu and tanh are";
            return Err(LoadError::unsupported(format!("activation {other}"), supported));
        }
    })
}

/// Refuses a key whose value asks for what no page here does.
fn only(config: &Config, key: &str, usual: &[serde_json::Value]) -> Result<(), LoadError> {
    match config.value(key) {
        Some(value) if !usual.contains(value) => {
            let list: Vec<String> = usual.iter().map(ToString::to_string).collect();
            let usual = if list.is_empty() { "a model without it".to_string() } else { list.join(" or ") };
            Err(LoadError::unsupported(format!("{key} {value}"), format!("{usual} is")))
        }
        _ => Ok(()),
    }
}
