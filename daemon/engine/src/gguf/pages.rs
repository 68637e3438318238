//! How each architecture of GGUF says what `config.json` says: a page for each, over what all have in common.
//!
//! What a file says and no page asks for is refused by name, so nothing that changes the numbers is left out. The engine's
//! own pages then read the result, and with it decide which tensors there must be.

mod deci;
mod encoders;
mod hybrid;
mod latent;
mod rope;

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::head::Head;
use super::names;
use crate::LoadError;

/// What `expert_gating_func` says of experts that are chosen by softmax, and of those each by a sigmoid.
const SOFTMAX: usize = 1;
const SIGMOID: usize = 2;

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
    /// What models of its kind say alike.
    alike: Describe,
    /// How the heads of delta nets lie.
    pub values: Values,
}

/// How the heads of values of a delta net lie in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Those of a key head follow one another, as in transformers.
    Grouped,
    /// So they do, and the two factors of a head lie in one matrix.
    Paired,
    /// The first of each key head, then the second of each.
    Tiled,
}

const fn page(architecture: &'static str, describe: Describe) -> Page {
    Page {
        architecture,
        describe,
        turned: false,
        name: names::decoder,
        whole: false,
        alike: |source| source.common(),
        values: Values::Grouped,
    }
}

const fn encoder(architecture: &'static str, describe: Describe, name: fn(&str) -> Option<String>) -> Page {
    Page { name, whole: true, alike: |source| source.dimensions(), ..page(architecture, describe) }
}

type Describe = fn(&Source<'_>) -> Result<Map<String, Value>, LoadError>;

/// The architectures that are read.
const PAGES: [Page; 26] = [
    Page { turned: true, ..page("llama", llama) },
    page("qwen2", |source| source.typed("qwen2", json!({}))),
    page("qwen2moe", qwen2_moe),
    page("qwen3", qwen3),
    page("qwen3moe", qwen3_moe),
    Page { name: names::qwen3_next, values: Values::Paired, ..page("qwen3next", hybrid::qwen3_next) },
    Page { name: names::qwen3_5, values: Values::Tiled, ..page("qwen35", hybrid::qwen3_5) },
    Page { name: names::qwen3_5, values: Values::Tiled, ..page("qwen35moe", hybrid::qwen3_5_moe) },
    Page { name: names::normed_after, ..page("gemma2", gemma2) },
    Page { name: names::gemma3, ..page("gemma3", gemma3) },
    Page { name: names::gemma_embedding, ..page("gemma-embedding", gemma_embedding) },
    page("phi3", phi3),
    Page { name: names::normed_after, ..page("olmo2", olmo) },
    Page { turned: true, ..page("smollm3", |source| source.typed("smollm3", json!({}))) },
    Page { turned: true, ..page("granite", granite) },
    page("command-r", |source| cohere(source, "cohere")),
    page("cohere2", |source| cohere(source, "cohere2")),
    page("glm4", glm4),
    Page { turned: true, alike: |source| source.deci(), ..page("deci", deci::deci) },
    Page { turned: true, ..page("mistral3", mistral_3) },
    Page { name: names::normed_after, ..page("glm4moe", latent::glm4_moe) },
    Page { alike: |source| source.latent(), ..page("deepseek2", latent::deepseek) },
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

    /// The layers after the model's own, which guess tokens ahead; they are not read.
    pub fn guesses(&self, head: &Head<'_>) -> Result<Range<usize>, LoadError> {
        let count = head.fields.whole_if_any(&self.key("nextn_predict_layers"))?.unwrap_or(0);
        let all = head.fields.count(&self.key("block_count"))?;
        match all.checked_sub(count).filter(|own| *own > 0) {
            Some(own) => Ok(own..all),
            None => Err(head.fields.problem(format!("of its {all} layers {count} guess tokens ahead"))),
        }
    }

    /// `config.json`, without what says how weights are quantized.
    pub fn config(&self, head: &Head<'_>) -> Result<Map<String, Value>, LoadError> {
        let source = Source { head, architecture: self.architecture, layers: self.guesses(head)?.start };
        // What writes the folder asks for it; here, so that it counts as asked.
        self.pooling(head)?;
        let mut config = (self.alike)(&source)?;
        config.extend((self.describe)(&source)?);
        // Where a page says both, the one that holds more takes the place of the other.
        if config.contains_key("rope_parameters") {
            config.remove("rope_scaling");
        }
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
    /// How many layers the model has, without those that guess ahead.
    layers: usize,
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

    /// What every architecture says alike, but for heads and the MLP, which may differ from layer to layer.
    fn size(&self) -> Result<Map<String, Value>, LoadError> {
        let fields = &self.head.fields;
        let layers = self.layers;
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
            "num_hidden_layers": layers,
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

    /// What every architecture of like layers says alike.
    fn dimensions(&self) -> Result<Map<String, Value>, LoadError> {
        let mut config = self.size()?;
        config.insert("num_attention_heads".to_string(), json!(self.count("attention.head_count")?));
        if let Some(width) = self.count_if_any("feed_forward_length")? {
            config.insert("intermediate_size".to_string(), json!(width));
        }
        Ok(config)
    }

    /// What every decoder says alike.
    fn common(&self) -> Result<Map<String, Value>, LoadError> {
        let mut config = self.dimensions()?;
        let heads = self.count("attention.head_count")?;
        let shared = self.count_if_any("attention.head_count_kv")?.unwrap_or(heads);
        config.insert("num_key_value_heads".to_string(), json!(shared));
        self.heads(self.head_dim()?, &mut config)?;
        Ok(config)
    }

    /// Writes what decoders say of heads of a width.
    fn heads(&self, head_dim: usize, config: &mut Map<String, Value>) -> Result<(), LoadError> {
        let fields = &self.head.fields;
        if self.count_if_any("attention.value_length")?.is_some_and(|width| width != head_dim) {
            return Err(LoadError::unsupported("values of another width than keys", "one width for both is"));
        }
        let causal = fields.flag_if_any(&self.key("attention.causal"))?;
        if causal == Some(false) && self.architecture != "gemma-embedding" {
            return Err(LoadError::unsupported("attention that is not causal", "a causal decoder is"));
        }
        config.insert("head_dim".to_string(), json!(head_dim));
        config.insert("tie_word_embeddings".to_string(), json!(!self.holds("output.weight")));
        self.rope(head_dim, config)
    }

    /// A model type and further keys; those that are null are left out.
    fn typed(&self, model_type: &str, more: Value) -> Result<Map<String, Value>, LoadError> {
        let mut config = object(more);
        config.retain(|_, value| !value.is_null());
        config.insert("model_type".to_string(), json!(model_type));
        Ok(config)
    }

    /// How many experts there are and how many a token takes, chosen by softmax.
    fn experts(&self) -> Result<(usize, usize), LoadError> {
        let gating = self.some("expert_gating_func")?;
        if gating.is_some_and(|function| function != SOFTMAX) {
            return Err(LoadError::unsupported("experts that are not chosen by softmax", "softmax is"));
        }
        self.experts_from(0)
    }

    /// How many experts there are and how many a token takes; `first` is the first layer that has some.
    fn experts_from(&self, first: usize) -> Result<(usize, usize), LoadError> {
        let router = self.head.tensors.get(format!("blk.{first}.ffn_gate_inp.weight").as_str());
        let count = self.count("expert_count")?;
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
    let mut config = source.typed("gemma3_text", more)?;
    if source.holds("dense.0.weight") {
        config.insert("use_bidirectional_attention".to_string(), json!(true));
    }
    Ok(config)
}

/// EmbeddingGemma. Its matrices after pooling are left out unless a converter is asked for them.
fn gemma_embedding(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    // Repeats the shapes of tensors.
    for name in ["dense_2_feat_in", "dense_2_feat_out", "dense_3_feat_in", "dense_3_feat_out"] {
        source.some(name)?;
    }
    if !source.holds("dense_2.weight") {
        let supported = "one converted with --sentence-transformers-dense-modules is";
        return Err(LoadError::unsupported(
            "a GGUF file of EmbeddingGemma without its matrices after pooling",
            supported,
        ));
    }
    let mut config = gemma3(source)?;
    config.insert("use_bidirectional_attention".to_string(), json!(true));
    Ok(config)
}

fn phi3(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.typed("phi3", json!({ "sliding_window": source.some("attention.sliding_window")? }))
}

fn granite(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    // Granite 4's dense files keep the sizes of layers that they do not have.
    for name in ["conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank"] {
        source.count_if_any(&format!("ssm.{name}"))?;
    }
    // Another name of their MLP's width: what the file holds decides.
    source.some("expert_shared_feed_forward_length")?;
    let more = json!({
        "attention_bias": source.holds("blk.0.attn_q.bias"), "mlp_bias": source.holds("blk.0.ffn_gate.bias"),
        "attention_multiplier": source.number("attention.scale")?,
        "embedding_multiplier": source.number("embedding_scale")?,
        "residual_multiplier": source.number("residual_scale")?, "logits_scaling": source.number("logit_scale")?,
    });
    source.typed("granite", more)
}

/// Mistral Small 3.1 and later, and Ministral 3, whose queries grow with their position.
fn mistral_3(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let Some(weight) = source.number("attention.temperature_scale")?.filter(|weight| *weight != 0.0) else {
        return source.typed("mistral", json!({}));
    };
    let mut config = Map::new();
    source.rope(source.head_dim()?, &mut config)?;
    let Some(mut table) = config.remove("rope_scaling").filter(|table| table["rope_type"] == "yarn") else {
        return Err(LoadError::unsupported("attention.temperature_scale without yarn", "Ministral 3 with it is"));
    };
    table["llama_4_scaling_beta"] = json!(weight);
    table["rope_theta"] = config.remove("rope_theta").unwrap_or_default();
    source.typed("ministral3", json!({ "rope_parameters": table }))
}

/// OLMo 2, or 3 where some layers slide.
fn olmo(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let Some(window) = source.some("attention.sliding_window")? else { return source.typed("olmo2", json!({})) };
    let listed = source.head.fields.numbers(&source.key("attention.sliding_window_pattern"))?;
    let kinds = listed.iter().map(|slides| if *slides == 0.0 { "full_attention" } else { "sliding_attention" });
    let kinds: Option<Vec<&str>> = (!listed.is_empty()).then(|| kinds.collect());
    let mut config = Map::new();
    source.rope(source.head_dim()?, &mut config)?;
    let mut whole = config.remove("rope_scaling").unwrap_or_else(|| json!({ "rope_type": "default" }));
    whole["rope_theta"] = config.remove("rope_theta").unwrap_or_default();
    let base = source.number("rope.freq_base_swa")?.map_or_else(|| whole["rope_theta"].clone(), Value::from);
    let sliding = json!({ "rope_type": "default", "rope_theta": base });
    let ropes = json!({ "full_attention": whole, "sliding_attention": sliding });
    source.typed("olmo3", json!({ "sliding_window": window, "layer_types": kinds, "rope_parameters": ropes }))
}

fn cohere(source: &Source<'_>, model_type: &str) -> Result<Map<String, Value>, LoadError> {
    let more = json!({
        "attention_bias": source.holds("blk.0.attn_q.bias"), "logit_scale": source.number("logit_scale")?,
        "sliding_window": source.some("attention.sliding_window")?,
        "use_qk_norm": source.holds("blk.0.attn_q_norm.weight"),
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
