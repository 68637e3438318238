//! Decoders that were trained to embed or to judge, Qwen3-Embedding, EmbeddingGemma and Qwen3-Reranker: their own page
//! describes them, and tokens see only what came before, unless the file says that they see both ways. A text's last token is
//! its vector, or the mean of those that see both ways; of a pair the last says whether the document answers the query, in a
//! word or as a score.

use super::{Dense, Encoder, Head, Layer, Norm, Order, Pooling, Score, Settings, Sight, Source, Task, Word};
use super::{classifies, refuse_labels};
use crate::LoadError;
use crate::config::Config;
use crate::models::{self, Description, Stack, Vector};
use crate::native::Activation;

pub(super) fn describe(source: &Source<'_>) -> Result<Encoder, LoadError> {
    let (config, settings) = (source.config, source.settings);
    let causal = config.flag_if_any("is_causal")?.unwrap_or(true);
    let mutual = is_mutual(config)?;
    if is_gemma(config)? && (classifies(config)? || settings.answers.is_some()) {
        return Err(LoadError::unsupported("a gemma3_text model that scores", "one that embeds is"));
    }
    let unasked: &[&str] = if is_gemma(config)? { &[BOTH_WAYS] } else { &["is_causal"] };
    let description = Description::read(&config.without(unasked), &|_| false)?;
    if !causal && description.layers.iter().any(|layer| layer.mixer.inner.attention.window.is_some()) {
        return Err(LoadError::unsupported("is_causal false with layers that slide", "with layers that see all it is"));
    }
    let bare = (source.has)("embed_tokens.weight") && !(source.has)("model.embed_tokens.weight");
    let names = Names { bare };
    let layers = description.layers.iter().map(|layer| names.layer(layer, &description, mutual || !causal));
    let layers = layers.collect::<Option<_>>();
    let layers = layers.ok_or_else(|| {
        LoadError::unsupported(format!("a {} model that embeds", description.architecture), "one of Llama's shape is")
    })?;
    let hidden = description.hidden;
    Ok(Encoder {
        hidden,
        vocabulary: description.vocabulary,
        context: description.context,
        words: names.stack(&description.embedding),
        // Those that generate round it, as they are computed in bf16; embedders are computed in f32.
        scale: if description.embedding_scale == 1.0 { 1.0 } else { (hidden as f32).sqrt() },
        positions: None,
        segments: None,
        embedding_norm: None,
        order: Order::Before,
        attention: description.layers[0].mixer.inner.attention,
        layers,
        norm: Some(names.norm(&description.norm)),
        task: match judges(config, settings)? {
            true => Task::Rerank(names.judge(source, &description)?),
            false if mutual => gemma_embeds(source, hidden)?,
            false => source.embed(Pooling::Last, hidden, &settings.dense)?,
        },
        unused: vec!["lm_head.".to_string()],
        architecture: description.architecture,
    })
}

/// The key of `config.json` that says that tokens see ahead as far as back.
const BOTH_WAYS: &str = "use_bidirectional_attention";

fn is_gemma(config: &Config) -> Result<bool, LoadError> {
    Ok(config.word("model_type")? == "gemma3_text")
}

/// Whether it is a Gemma 3 whose tokens see both ways, as EmbeddingGemma's do.
fn is_mutual(config: &Config) -> Result<bool, LoadError> {
    Ok(is_gemma(config)? && config.flag(BOTH_WAYS)?)
}

/// Whether the matrices that a vector goes through lie among the model's own, as mlx-embeddings and the import of GGUF write
/// them. Before the weights are there, it is foreseen where the modules' folders are not.
pub(super) fn keeps_projections(source: &Source<'_>) -> bool {
    let foreseen = !are_there(source) && source.settings.lost.is_some();
    is_gemma(source.config).is_ok_and(|gemma| gemma) && (foreseen || (source.has)("dense.0.weight"))
}

/// Whether the weights are there.
fn are_there(source: &Source<'_>) -> bool {
    ["", "model."].iter().any(|prefix| (source.has)(&format!("{prefix}embed_tokens.weight")))
}

/// EmbeddingGemma's vector: the mean through two matrices, which its modules or the names of converters say.
fn gemma_embeds(source: &Source<'_>, hidden: usize) -> Result<Task, LoadError> {
    if !keeps_projections(source) {
        if source.settings.pooling.is_none() && are_there(source) {
            let supported =
                "one with it is, as it says which matrices a vector goes through; download the folder again";
            return Err(LoadError::unsupported("an EmbeddingGemma without its modules.json", supported));
        }
        return source.embed(Pooling::Mean, hidden, &source.settings.dense);
    }
    let dense = |index: usize, inputs, outputs| Dense {
        module: format!("dense.{index}"),
        inputs,
        outputs,
        bias: false,
        activation: None,
    };
    source.embed(Pooling::Mean, hidden, &[dense(0, hidden, 4 * hidden), dense(1, 4 * hidden, hidden)])
}

/// Whether a decoder was trained to judge pairs: it has a classifier, its files name the two words, or it is published
/// under the name of those that do, as conversions are and what was fetched before the files said it. What the user calls
/// it does not count: it says nothing of how it was trained.
pub(super) fn judges(config: &Config, settings: &Settings) -> Result<bool, LoadError> {
    let named = config.folder_name().to_ascii_lowercase().contains("qwen3-reranker");
    let told = settings.answers.is_some() || config.value("classifier_from_token").is_some();
    Ok(config.word("model_type")? == "qwen3" && (named || told || classifies(config)?))
}

/// Whether a decoder was trained to embed: its tokens see both ways, or it is published under the name of those that do, as
/// conversions have lost the files that say it.
pub(super) fn embeds(config: &Config) -> Result<bool, LoadError> {
    let named = config.folder_name().to_ascii_lowercase().contains("qwen3-embedding");
    Ok(is_mutual(config)? || named && config.word("model_type")? == "qwen3")
}

/// How tensors are named: saved alone, a decoder's body loses its prefix.
struct Names {
    bare: bool,
}

impl Names {
    /// What makes a score of the last token.
    fn judge(&self, source: &Source<'_>, description: &Description) -> Result<Head, LoadError> {
        let config = source.config;
        let hidden = description.hidden;
        let score = if classifies(config)? {
            refuse_labels(config)?;
            Score::Matrix(Stack::single("score", 1, hidden))
        } else {
            let tied = config.flag_if_any("tie_word_embeddings")?.unwrap_or(!(source.has)("lm_head.weight"));
            let words = config.words_if_any("classifier_from_token")?.unwrap_or(vec!["no", "yes"]);
            let [no, yes] = words[..] else {
                return Err(config.problem("classifier_from_token does not list two words".to_string()));
            };
            let head = (!tied).then(|| Stack::single("lm_head", description.vocabulary, hidden));
            let told = source.settings.answers;
            let [yes, no] = [(yes, told.map(|told| told.yes)), (no, told.map(|told| told.no))];
            let word = |(text, told): (&str, _)| Word { text: text.to_string(), told };
            Score::Words { head, yes: word(yes), no: word(no) }
        };
        Ok(Head { pooling: Pooling::Last, dense: None, norm: None, score })
    }

    fn name(&self, name: &str) -> String {
        let bare = name.strip_prefix("model.").filter(|_| self.bare);
        bare.unwrap_or(name).to_string()
    }

    fn stack(&self, stack: &Stack) -> Stack {
        let mut stack = stack.clone();
        stack.parts.iter_mut().for_each(|part| part.name = self.name(&part.name));
        stack
    }

    fn norm(&self, norm: &models::Norm) -> Norm {
        Norm {
            weight: Vector { name: self.name(&norm.weight.name), ..norm.weight.clone() },
            less_one: norm.less_one,
            bias: None,
            epsilon: norm.epsilon,
            centred: false,
        }
    }

    /// The layer of an encoder, if it is like one: two branches, normed before and perhaps after, and nothing else.
    fn layer(&self, layer: &models::Layer, description: &Description, mutual: bool) -> Option<Layer> {
        let (mixer, feed) = (layer.mixer()?, layer.feed()?);
        let models::Feed::Gated(gated) = &feed.inner else { return None };
        let (attention, first) = (mixer.inner.attention, description.layers[0].mixer.inner.attention);
        let before = [mixer.before.as_ref()?, feed.before.as_ref()?];
        let after = mixer.after.as_ref().zip(feed.after.as_ref());
        let plain = layer.norms().all(|norm| norm.kind == models::NormKind::Rms)
            && mixer.after.is_some() == feed.after.is_some()
            && !layer.parallel
            && layer.residual_scale == 1.0
            && mixer.inner.sinks.is_none()
            && matches!(mixer.inner.form, models::Form::Plain)
            && attention.softcap.is_none()
            && attention.sharpening.is_none()
            && (attention.scale, attention.kv_heads) == (first.scale, first.kv_heads);
        let heads_alone = mixer.inner.qk_norm.as_ref().is_none_or(|(q, _)| q.weight.dims == [attention.head_dim]);
        (plain && heads_alone).then_some(Layer {
            attention_norm: Some(self.norm(before[0])),
            qkv: self.stack(&mixer.inner.qkv),
            qk_norm: mixer.inner.qk_norm.as_ref().map(|(q, k)| (self.norm(q), self.norm(k))),
            rope: attention.rope.map(|rope| description.ropes[rope].clone()),
            sight: sight(attention.window.map(|window| window as u32), mutual),
            output: self.stack(&mixer.inner.output),
            mlp_norm: self.norm(before[1]),
            inner: self.stack(&gated.gate_up),
            activation: match gated.activation {
                models::Activation::Silu => Activation::Silu,
                models::Activation::GeluTanh => Activation::GeluTanh,
                models::Activation::ClippedSwiglu => return None,
            },
            down: self.stack(&gated.down),
            after: after.map(|(mixer, feed)| (self.norm(mixer), self.norm(feed))),
        })
    }
}

/// Whom a token sees. One that sees both ways sees half a window each way, as ModernBERT's do.
fn sight(window: Option<u32>, mutual: bool) -> Sight {
    match window {
        window if !mutual => Sight { window, ahead: 0 },
        None => Sight::ALL,
        Some(window) => Sight { window: Some(window / 2 + 1), ahead: window / 2 },
    }
}
