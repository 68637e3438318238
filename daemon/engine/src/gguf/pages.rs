//! How each architecture of GGUF says what `config.json` says: a page for each, over what all have in common.
//!
//! What a file says and no page asks for is refused by name, so nothing that changes the numbers is left out. The engine's
//! own pages then read the result, and with it decide which tensors there must be.

mod encoders;
mod rope;

use serde_json::{Map, Value, json};

use super::head::Head;
use super::names;
use crate::LoadError;

/// How an architecture is read.
pub(super) struct Page {
    /// `general.architecture`.
    architecture: &'static str,
    /// `model_type`, and the keys of `config.json` that only this architecture has.
    describe: fn(&Source<'_>) -> Result<Map<String, Value>, LoadError>,
    /// Whether the rows of queries and keys lie as llama.cpp's rope of neighbours wants them, and transformers' does not.
    pub turned: bool,
    /// What the file calls a module.
    pub name: fn(&str) -> Option<String>,
    /// Whether texts are read whole, with tokens of the model's own around them.
    pub whole: bool,
}

const fn page(architecture: &'static str, describe: Describe) -> Page {
    Page { architecture, describe, turned: false, name: names::decoder, whole: false }
}

const fn encoder(architecture: &'static str, describe: Describe, name: fn(&str) -> Option<String>) -> Page {
    Page { architecture, describe, turned: false, name, whole: true }
}

type Describe = fn(&Source<'_>) -> Result<Map<String, Value>, LoadError>;

/// The architectures that are read.
const PAGES: [Page; 18] = [
    Page { turned: true, ..page("llama", llama) },
    page("qwen2", |source| source.typed("qwen2", json!({}))),
    page("qwen2moe", qwen2_moe),
    page("qwen3", qwen3),
    page("qwen3moe", qwen3_moe),
    Page { name: names::normed_after, ..page("gemma2", gemma2) },
    Page { name: names::normed_after, ..page("gemma3", gemma3) },
    page("phi3", phi3),
    Page { name: names::normed_after, ..page("olmo2", |source| source.typed("olmo2", json!({}))) },
    Page { turned: true, ..page("smollm3", |source| source.typed("smollm3", json!({}))) },
    Page { turned: true, ..page("granite", granite) },
    page("command-r", |source| cohere(source, "cohere")),
    page("cohere2", |source| cohere(source, "cohere2")),
    page("glm4", glm4),
    Page { name: names::normed_after, ..page("gpt-oss", gpt_oss) },
    encoder("bert", encoders::bert, names::bert),
    encoder("nomic-bert", encoders::nomic_bert, names::nomic_bert),
    encoder("modern-bert", encoders::modern_bert, names::modern_bert),
];

impl Page {
    /// The page of a file's architecture.
    pub fn of(head: &Head<'_>) -> Result<&'static Self, LoadError> {
        let name = head.fields.text("general.architecture")?;
        Self::named(name).ok_or_else(|| {
            let known: Vec<&str> = Self::names().collect();
            LoadError::unsupported(format!("GGUF architecture {name}"), format!("{} are", known.join(", ")))
        })
    }

    /// The architectures that are read.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PAGES.iter().map(|page| page.architecture)
    }

    /// The page of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PAGES.iter().find(|page| page.architecture == name)
    }

    /// A key of the architecture's own.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// `config.json`, without what says how weights are quantized.
    pub fn config(&self, head: &Head<'_>) -> Result<Map<String, Value>, LoadError> {
        let source = Source { head, architecture: self.architecture };
        // What writes the folder asks for it; here, so that it counts as asked.
        self.pooling(head)?;
        let mut config = if self.whole { source.dimensions()? } else { source.common()? };
        config.extend((self.describe)(&source)?);
        match head.fields.unasked(&self.key("")) {
            None => Ok(config),
            Some(key) => Err(LoadError::unsupported(
                format!("{key} of this GGUF file"),
                format!("a {} model without it is", self.architecture),
            )),
        }
    }
}

/// A file, asked about its own architecture.
struct Source<'a> {
    head: &'a Head<'a>,
    architecture: &'static str,
}

impl Source<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str) -> Result<usize, LoadError> {
        self.head.fields.count(&self.key(name))
    }

    fn count_if_any(&self, name: &str) -> Result<Option<usize>, LoadError> {
        self.head.fields.count_if_any(&self.key(name))
    }

    /// A count of which 0 says that there is none.
    fn some(&self, name: &str) -> Result<Option<usize>, LoadError> {
        Ok(self.head.fields.whole_if_any(&self.key(name))?.filter(|count| *count > 0))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, LoadError> {
        self.head.fields.number_if_any(&self.key(name))
    }

    fn holds(&self, tensor: &str) -> bool {
        self.head.tensors.contains_key(tensor)
    }

    /// The width of a head.
    fn head_dim(&self) -> Result<usize, LoadError> {
        let (hidden, heads) = (self.count("embedding_length")?, self.count("attention.head_count")?);
        Ok(self.count_if_any("attention.key_length")?.unwrap_or(hidden / heads))
    }

    /// What every architecture says alike.
    fn dimensions(&self) -> Result<Map<String, Value>, LoadError> {
        let fields = &self.head.fields;
        let layers = self.count("block_count")?;
        if layers > self.head.tensors.len() {
            return Err(
                fields.problem(format!("it claims {layers} layers and has {} tensors", self.head.tensors.len()))
            );
        }
        let embedding = self.head.tensors.get("token_embd.weight");
        let vocabulary = embedding.ok_or_else(|| fields.problem("tensor token_embd.weight is missing"))?.shape[0];
        // Of these two, one only repeats the shape of a tensor, and the other says how the file was made.
        self.count_if_any("vocab_size")?;
        fields.text_if_any(&self.key("tensor_data_layout"))?;
        let mut config = object(json!({
            "hidden_size": self.count("embedding_length")?,
            "intermediate_size": self.count("feed_forward_length")?,
            "num_hidden_layers": layers,
            "num_attention_heads": self.count("attention.head_count")?,
            "vocab_size": vocabulary,
            "max_position_embeddings": self.count("context_length")?,
        }));
        for (key, name) in [("rms_norm_eps", "layer_norm_rms_epsilon"), ("layer_norm_eps", "layer_norm_epsilon")] {
            if let Some(epsilon) = self.number(&format!("attention.{name}"))? {
                config.insert(key.to_string(), json!(epsilon));
            }
        }
        Ok(config)
    }

    /// What every decoder says alike.
    fn common(&self) -> Result<Map<String, Value>, LoadError> {
        let mut config = self.dimensions()?;
        let fields = &self.head.fields;
        let head_dim = self.head_dim()?;
        if self.count_if_any("attention.value_length")?.is_some_and(|width| width != head_dim) {
            return Err(LoadError::unsupported("values of another width than keys", "one width for both is"));
        }
        if fields.flag_if_any(&self.key("attention.causal"))? == Some(false) {
            return Err(LoadError::unsupported("attention that is not causal", "a causal decoder is"));
        }
        let heads = self.count("attention.head_count")?;
        config.extend(object(json!({
            "num_key_value_heads": self.count_if_any("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head_dim,
            "tie_word_embeddings": !self.holds("output.weight"),
        })));
        self.rope(head_dim, &mut config)?;
        Ok(config)
    }

    /// A model type and further keys; those that are null are left out.
    fn typed(&self, model_type: &str, more: Value) -> Result<Map<String, Value>, LoadError> {
        let mut config = object(more);
        config.retain(|_, value| !value.is_null());
        config.insert("model_type".to_string(), json!(model_type));
        Ok(config)
    }

    /// How many experts there are and how many a token takes.
    fn experts(&self) -> Result<(usize, usize), LoadError> {
        let gating = self.some("expert_gating_func")?;
        if gating.is_some_and(|function| function != 1) {
            return Err(LoadError::unsupported("experts that are not chosen by softmax", "softmax is"));
        }
        let (count, router) = (self.count("expert_count")?, self.head.tensors.get("blk.0.ffn_gate_inp.weight"));
        // The description has a page for each expert: a claim must not be larger than what is there.
        if router.is_none_or(|router| router.shape[0] != count) {
            return Err(self.head.fields.problem(format!("it claims {count} experts, and its router knows others")));
        }
        Ok((count, self.count("expert_used_count")?))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Llama, Mistral and Mixtral.
fn llama(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let bias = source.holds("blk.0.attn_q.bias");
    match source.some("expert_count")? {
        Some(_) => {
            let (count, chosen) = source.experts()?;
            source.typed("mixtral", json!({ "num_local_experts": count, "num_experts_per_tok": chosen }))
        }
        None => {
            source.some("expert_used_count")?;
            let mlp_bias = source.holds("blk.0.ffn_gate.bias");
            source.typed("llama", json!({ "attention_bias": bias, "mlp_bias": mlp_bias }))
        }
    }
}

fn qwen2_moe(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let (count, chosen) = source.experts()?;
    let more = json!({
        "num_experts": count, "num_experts_per_tok": chosen, "norm_topk_prob": false, "decoder_sparse_step": 1,
        "moe_intermediate_size": source.count("expert_feed_forward_length")?, "mlp_only_layers": [],
        "shared_expert_intermediate_size": source.count("expert_shared_feed_forward_length")?,
    });
    source.typed("qwen2_moe", more)
}

fn qwen3(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.typed("qwen3", json!({ "attention_bias": source.holds("blk.0.attn_q.bias") }))
}

fn qwen3_moe(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let (count, chosen) = source.experts()?;
    let more = json!({
        "num_experts": count, "num_experts_per_tok": chosen, "norm_topk_prob": true, "decoder_sparse_step": 1,
        "moe_intermediate_size": source.count("expert_feed_forward_length")?, "mlp_only_layers": [],
    });
    source.typed("qwen3_moe", more)
}

/// What scores are divided by the root of: as the file says it, or else the width of a head, but for the largest models.
fn gemma_scalar(source: &Source<'_>, largest: usize) -> Result<Value, LoadError> {
    if let Some(scale) = source.number("attention.scale")?.filter(|scale| *scale > 0.0) {
        return Ok(json!(scale.powi(-2)));
    }
    Ok(match source.count("block_count")? == largest {
        true => json!(source.count("embedding_length")? as f64 / source.count("attention.head_count")? as f64),
        false => json!(source.head_dim()?),
    })
}

fn gemma2(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let more = json!({
        "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": gemma_scalar(source, 46)?,
        "attn_logit_softcapping": source.number("attn_logit_softcapping")?,
        "final_logit_softcapping": source.number("final_logit_softcapping")?,
        "sliding_window": source.count("attention.sliding_window")?,
    });
    source.typed("gemma2", more)
}

fn gemma3(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let more = json!({
        "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": gemma_scalar(source, 62)?,
        "sliding_window": source.count("attention.sliding_window")?,
        "sliding_window_pattern": source.count_if_any("attention.sliding_window_pattern")?.unwrap_or(6),
        "rope_local_base_freq": source.number("rope.freq_base_swa")?.unwrap_or(10_000.0),
    });
    source.typed("gemma3_text", more)
}

fn phi3(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.typed("phi3", json!({ "sliding_window": source.some("attention.sliding_window")? }))
}

fn granite(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let more = json!({
        "attention_bias": source.holds("blk.0.attn_q.bias"), "mlp_bias": source.holds("blk.0.ffn_gate.bias"),
        "attention_multiplier": source.number("attention.scale")?,
        "embedding_multiplier": source.number("embedding_scale")?,
        "residual_multiplier": source.number("residual_scale")?, "logits_scaling": source.number("logit_scale")?,
    });
    source.typed("granite", more)
}

fn cohere(source: &Source<'_>, model_type: &str) -> Result<Map<String, Value>, LoadError> {
    let more = json!({
        "attention_bias": source.holds("blk.0.attn_q.bias"), "logit_scale": source.number("logit_scale")?,
        "sliding_window": source.some("attention.sliding_window")?,
    });
    source.typed(model_type, more)
}

fn glm4(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.typed("glm4", json!({ "attention_bias": source.holds("blk.0.attn_q.bias") }))
}

fn gpt_oss(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let (count, chosen) = source.experts()?;
    let more = json!({
        "num_local_experts": count, "num_experts_per_tok": chosen,
        "intermediate_size": source.count("expert_feed_forward_length")?,
        "sliding_window": source.count("attention.sliding_window")?,
    });
    source.typed("gpt_oss", more)
}
