//! Decoders that were trained to embed or to judge, Qwen3-Embedding and Qwen3-Reranker: their own page describes them, and
//! tokens see only what came before, unless `is_causal` is false. A text's last token is its vector; of a pair it says
//! whether the document answers the query, in a word or as a score.

use super::{Encoder, Head, Layer, Norm, Order, Pooling, Score, Settings, Sight, Source, Task, Word};
use super::{classifies, refuse_labels};
use crate::LoadError;
use crate::config::Config;
use crate::models::{self, Description, Stack, Vector};
use crate::native::Activation;

pub(super) fn describe(source: &Source<'_>) -> Result<Encoder, LoadError> {
    let causal = source.config.flag_if_any("is_causal")?.unwrap_or(true);
    let description = Description::read(&source.config.without(&["is_causal"]), &|_| false)?;
    if !causal && description.layers.iter().any(|layer| layer.mixer.inner.attention.window.is_some()) {
        return Err(LoadError::unsupported("is_causal false with layers that slide", "with layers that see all it is"));
    }
    let ahead = if causal { 0 } else { Sight::ALL.ahead };
    let bare = (source.has)("embed_tokens.weight") && !(source.has)("model.embed_tokens.weight");
    let names = Names { bare };
    let layers = description.layers.iter().map(|layer| names.layer(layer, &description, ahead));
    let layers = layers.collect::<Option<_>>().filter(|_| description.embedding_scale == 1.0);
    let layers = layers.ok_or_else(|| {
        LoadError::unsupported(format!("a {} model that embeds", description.architecture), "one of Llama's shape is")
    })?;
    Ok(Encoder {
        hidden: description.hidden,
        vocabulary: description.vocabulary,
        context: description.context,
        words: names.stack(&description.embedding),
        positions: None,
        segments: None,
        embedding_norm: None,
        order: Order::Before,
        attention: description.layers[0].mixer.inner.attention,
        layers,
        norm: Some(names.norm(&description.norm)),
        task: match judges(source.config, source.settings)? {
            true => Task::Rerank(names.judge(source, &description)?),
            false => Task::Embed(source.pooling(Pooling::Last)),
        },
        unused: vec!["lm_head.".to_string()],
        architecture: description.architecture,
    })
}

/// Whether a decoder was trained to judge pairs: it has a classifier, its files name the two words, or it is published
/// under the name of those that do, as conversions are and what was fetched before the files said it. What the user calls
/// it does not count: it says nothing of how it was trained.
pub(super) fn judges(config: &Config, settings: &Settings) -> Result<bool, LoadError> {
    let named = config.folder_name().to_ascii_lowercase().contains("qwen3-reranker");
    let told = settings.answers.is_some() || config.value("classifier_from_token").is_some();
    Ok(config.word("model_type")? == "qwen3" && (named || told || classifies(config)?))
}

/// Whether a decoder was trained to embed, by the name it is published under: conversions have lost the files that say it.
pub(super) fn embeds(config: &Config) -> Result<bool, LoadError> {
    let named = config.folder_name().to_ascii_lowercase().contains("qwen3-embedding");
    Ok(named && config.word("model_type")? == "qwen3")
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
        let weight = Vector { name: self.name(&norm.weight.name), ..norm.weight.clone() };
        Norm::rms(weight, norm.epsilon)
    }

    /// The layer of an encoder, if it is like one: two branches, normed before, and nothing else.
    fn layer(&self, layer: &models::Layer, description: &Description, ahead: u32) -> Option<Layer> {
        let (mixer, feed) = (layer.mixer()?, layer.feed()?);
        let models::Feed::Gated(gated) = &feed.inner else { return None };
        let attention = mixer.inner.attention;
        let norms = [mixer.before.as_ref()?, feed.before.as_ref()?];
        let plain = gated.activation == models::Activation::Silu
            && norms.iter().all(|norm| norm.kind == models::NormKind::Rms && !norm.less_one)
            && mixer.after.is_none()
            && feed.after.is_none()
            && !layer.parallel
            && layer.residual_scale == 1.0
            && mixer.inner.sinks.is_none()
            && matches!(mixer.inner.form, models::Form::Plain)
            && attention.softcap.is_none()
            && attention.sharpening.is_none()
            && attention.scale == (attention.head_dim as f32).powf(-0.5)
            && attention.kv_heads == description.layers[0].mixer.inner.attention.kv_heads;
        let heads_alone = mixer.inner.qk_norm.as_ref().is_none_or(|(q, _)| q.weight.dims == [attention.head_dim]);
        (plain && heads_alone).then(|| Layer {
            attention_norm: Some(self.norm(norms[0])),
            qkv: self.stack(&mixer.inner.qkv),
            qk_norm: mixer.inner.qk_norm.as_ref().map(|(q, k)| (self.norm(q), self.norm(k))),
            rope: attention.rope.map(|rope| description.ropes[rope].clone()),
            sight: Sight { window: attention.window.map(|window| window as u32), ahead },
            output: self.stack(&mixer.inner.output),
            mlp_norm: self.norm(norms[1]),
            inner: self.stack(&gated.gate_up),
            activation: Activation::Silu,
            down: self.stack(&gated.down),
        })
    }
}
