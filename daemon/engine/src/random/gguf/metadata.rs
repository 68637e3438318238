//! A folder's configuration and tokenizer in GGUF's keys.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::Gguf;

/// Writes what `config.json` says; returns `general.architecture`.
pub(super) fn describe(dir: &Path, file: &mut Gguf<'_>) -> io::Result<&'static str> {
    let config = read(&dir.join("config.json"))?;
    let architecture = match config["use_bidirectional_attention"].as_bool() {
        // Ollama's first files have the other name, and its tensors those of converters for MLX.
        Some(true) if dir.join("2_Dense").exists() => "gemma-embedding",
        _ => architecture(config["model_type"].as_str().unwrap_or_default())?,
    };
    file.text("general.architecture", architecture);
    counts(&config, architecture, file);
    numbers(&config, architecture, file);
    of_family(&config, architecture, file);
    if architecture.ends_with("bert") {
        whole(&config, architecture, file)
    } else {
        rope(&config, architecture, file)
    }
    let pooling = dir.join("1_Pooling/config.json");
    if pooling.exists() {
        let pooling = read(&pooling)?;
        let modes = ["mean_tokens", "cls_token", "lasttoken"];
        let mode = modes.iter().position(|mode| pooling[format!("pooling_mode_{mode}")] == true);
        file.number(&format!("{architecture}.pooling_type"), mode.map_or(0, |mode| mode as u32 + 1));
    }
    Ok(architecture)
}

/// What a model counts.
fn counts(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let key = |name: &str| format!("{architecture}.{name}");
    let guessing = config["num_nextn_predict_layers"].as_u64().unwrap_or(0);
    let layers = config["num_hidden_layers"].as_u64().unwrap_or(0) + guessing;
    file.number(&key("block_count"), layers as u32);
    file.number(&key("nextn_predict_layers"), guessing as u32);
    for (name, from) in [
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("attention.sliding_window", "sliding_window"),
        ("attention.sliding_window_pattern", "sliding_window_pattern"),
        ("vocab_size", "vocab_size"),
        ("expert_count", experts(architecture)),
        ("expert_used_count", "num_experts_per_tok"),
        ("full_attention_interval", "full_attention_interval"),
        ("ssm.conv_kernel", "linear_conv_kernel_dim"),
        ("ssm.group_count", "linear_num_key_heads"),
        ("ssm.time_step_rank", "linear_num_value_heads"),
        ("ssm.state_size", "linear_key_head_dim"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
        ("rope.scaling.original_context_length", "original_max_position_embeddings"),
    ] {
        // One family's pattern is not in its files, and heads of a latent have other widths.
        let elsewhere = architecture == "cohere2" && name.ends_with("pattern")
            || config["kv_lora_rank"].is_u64() && from == "head_dim"
            || architecture == "deci" && name == "attention.head_count";
        if let Some(count) = config[from].as_u64().filter(|_| !elsewhere) {
            file.number(&key(name), count as u32);
        }
    }
}

/// What a model says in numbers.
fn numbers(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let key = |name: &str| format!("{architecture}.{name}");
    for (name, from) in [
        ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
        ("attention.layer_norm_epsilon", "layer_norm_eps"),
        ("rope.freq_base", "rope_theta"),
        ("rope.freq_base_swa", "rope_local_base_freq"),
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", if architecture == "granite" { "logits_scaling" } else { "logit_scale" }),
    ] {
        if let Some(number) = config[from].as_f64() {
            file.float(&key(name), number as f32);
        }
    }
    if let Some(scalar) = config["query_pre_attn_scalar"].as_f64() {
        file.float(&key("attention.scale"), scalar.powf(-0.5) as f32);
    }
}

/// What only some families say.
fn of_family(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let key = |name: &str| format!("{architecture}.{name}");
    if architecture == "gpt-oss" {
        file.number(&key("expert_feed_forward_length"), config["intermediate_size"].as_u64().unwrap_or(0) as u32);
    }
    if config["model_type"] == "olmo3" {
        let layers = config["num_hidden_layers"].as_i64().unwrap_or(0) as i32;
        let pattern = (1..=layers).map(|layer| i32::from(layer % 4 != 0));
        file.numbers(&key("attention.sliding_window_pattern"), pattern.collect::<Vec<_>>().into_iter());
    }
    if config["n_routed_experts"].is_u64() {
        in_groups(config, architecture, file);
    }
    if let Some(heads) = config["linear_num_value_heads"].as_u64() {
        let width = heads * config["linear_value_head_dim"].as_u64().unwrap_or(0);
        file.number(&key("ssm.inner_size"), width as u32);
    }
    if let Some(blocks) = config["block_configs"].as_array() {
        by_layer(config, blocks, file);
    }
    if config["kv_lora_rank"].is_u64() {
        heads_of_latent(config, architecture, file);
    }
}

/// The key of `config.json` that counts experts.
fn experts(architecture: &str) -> &'static str {
    match architecture {
        "deepseek2" | "glm4moe" => "n_routed_experts",
        name if name.starts_with("qwen") => "num_experts",
        _ => "num_local_experts",
    }
}

/// What a model says of experts in groups.
fn in_groups(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let key = |name: &str| format!("{architecture}.{name}");
    for (name, from) in [
        ("leading_dense_block_count", "first_k_dense_replace"),
        ("expert_shared_count", "n_shared_experts"),
        ("expert_group_count", "n_group"),
        ("expert_group_used_count", "topk_group"),
    ] {
        if let Some(count) = config[from].as_u64() {
            file.number(&key(name), count as u32);
        }
    }
    let softmax = config["model_type"] == "deepseek_v2";
    file.number(&key("expert_gating_func"), if softmax { 1 } else { 2 });
    file.float(&key("expert_weights_scale"), config["routed_scaling_factor"].as_f64().unwrap_or(1.0) as f32);
    file.flag(&key("expert_weights_norm"), config["norm_topk_prob"].as_bool().unwrap_or(!softmax));
}

/// Heads and widths of layers that differ.
fn by_layer(config: &Value, blocks: &[Value], file: &mut Gguf<'_>) {
    let (heads, hidden) = (config["num_attention_heads"].as_i64().unwrap_or(0), config["hidden_size"].as_f64());
    let group = |block: &Value| block["attention"]["n_heads_in_group"].as_i64();
    let all = |block: &Value| if group(block).is_some() { heads as i32 } else { 0 };
    let shared = |block: &Value| group(block).map_or(0, |group| (heads / group) as i32);
    let width = |block: &Value| {
        let factor = block["ffn"]["ffn_mult"].as_f64().filter(|_| block["ffn"]["no_op"] != true);
        factor.map_or(0, |factor| ((2.0 * factor * hidden.unwrap_or(0.0) / 3.0) as u32).next_multiple_of(256) as i32)
    };
    file.numbers("deci.attention.head_count", blocks.iter().map(all));
    file.numbers("deci.attention.head_count_kv", blocks.iter().map(shared));
    file.numbers("deci.feed_forward_length", blocks.iter().map(width));
}

/// The widths of heads that read a latent: as one matrix of them is wide in old files, and apart from the latent in new ones.
fn heads_of_latent(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let key = |name: &str| format!("{architecture}.attention.{name}");
    let count = |name: &str| config[name].as_u64().unwrap_or(0) as u32;
    let (rank, turned) = (count("kv_lora_rank"), count("qk_rope_head_dim"));
    let widths = (turned + count("qk_nope_head_dim"), count("v_head_dim"));
    file.number(&key("kv_lora_rank"), rank);
    file.number(&key("q_lora_rank"), count("q_lora_rank"));
    // As the makers of random models leave the two.
    let apart = config["model_type"] != "deepseek_v2";
    let (keys, values) = if apart { (rank + turned, rank) } else { widths };
    file.number(&key("key_length"), keys);
    file.number(&key("value_length"), values);
    if apart {
        file.number(&key("key_length_mla"), widths.0);
        file.number(&key("value_length_mla"), widths.1);
    }
}

/// What an encoder says beside what all say.
fn whole(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let key = |name: &str| format!("{architecture}.{name}");
    file.flag(&key("attention.causal"), false);
    if let Some(count) = config["type_vocab_size"].as_u64() {
        file.number("tokenizer.ggml.token_type_count", count as u32);
    }
    match architecture {
        "nomic-bert" => file.float(&key("rope.freq_base"), 1_000.0),
        "modern-bert" => {
            file.float(&key("rope.freq_base"), 160_000.0);
            file.number(&key("attention.sliding_window"), config["local_attention"].as_u64().unwrap_or(128) as u32);
            let pooling = if config["classifier_pooling"] == "mean" { 1 } else { 2 };
            file.number(&key("classifier.pooling_type"), pooling);
        }
        _ => {}
    }
    if config["architectures"][0].as_str().is_some_and(|class| class.ends_with("ForSequenceClassification")) {
        file.number(&key("pooling_type"), 4);
    }
}

/// What GGUF calls a `model_type`.
fn architecture(model_type: &str) -> io::Result<&'static str> {
    Ok(match model_type {
        "llama" | "mixtral" => "llama",
        "mistral" | "ministral3" => "mistral3",
        "nemotron-nas" => "deci",
        "qwen2" => "qwen2",
        "qwen2_moe" => "qwen2moe",
        "qwen3" => "qwen3",
        "qwen3_moe" => "qwen3moe",
        "qwen3_next" => "qwen3next",
        "qwen3_5" => "qwen35",
        "qwen3_5_moe" => "qwen35moe",
        "gemma2" => "gemma2",
        "gemma3_text" => "gemma3",
        "phi3" => "phi3",
        "olmo2" | "olmo3" => "olmo2",
        "smollm3" => "smollm3",
        "granite" => "granite",
        "cohere" => "command-r",
        "cohere2" => "cohere2",
        "glm4" => "glm4",
        "glm4_moe" => "glm4moe",
        "deepseek_v2" | "deepseek_v3" | "glm4_moe_lite" => "deepseek2",
        "gpt_oss" => "gpt-oss",
        "bert" => "bert",
        "nomic_bert" => "nomic-bert",
        "modernbert" => "modern-bert",
        other => return Err(io::Error::other(format!("no GGUF file is written of {other}"))),
    })
}

fn rope(config: &Value, architecture: &str, file: &mut Gguf<'_>) {
    let head_dim = config["head_dim"].as_u64().unwrap_or(0) as f64;
    let share = if architecture == "glm4moe" { 0.5 } else { 1.0 };
    let dims = head_dim * config["partial_rotary_factor"].as_f64().unwrap_or(share);
    let dims = config["qk_rope_head_dim"].as_f64().unwrap_or(dims);
    file.number(&format!("{architecture}.rope.dimension_count"), dims as u32);
    let newer = &config["rope_parameters"];
    let scaling = if newer.is_object() { newer } else { &config["rope_scaling"] };
    for (name, key) in [("rope.freq_base", "rope_theta"), ("attention.temperature_scale", "llama_4_scaling_beta")] {
        if let Some(number) = newer[key].as_f64() {
            file.float(&format!("{architecture}.{name}"), number as f32);
        }
    }
    let list = |key: &str| -> Option<Vec<f32>> {
        scaling[key].as_array().map(|list| list.iter().filter_map(|number| Some(number.as_f64()? as f32)).collect())
    };
    for (name, key) in [("rope_factors_long.weight", "long_factor"), ("rope_factors_short.weight", "short_factor")] {
        if let Some(factors) = list(key) {
            file.vector(name, factors);
        }
    }
    let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str());
    if let (Some(kind), Some(factor)) = (kind, scaling["factor"].as_f64()) {
        file.text(&format!("{architecture}.rope.scaling.type"), kind);
        file.float(&format!("{architecture}.rope.scaling.factor"), factor as f32);
    }
    if let Some(weight) = scaling["mscale_all_dim"].as_f64() {
        let tenth = if architecture == "deepseek2" { 0.1 } else { 1.0 };
        file.float(&format!("{architecture}.rope.scaling.yarn_log_multiplier"), weight as f32 * tenth);
    }
    if let Some(original) = scaling["original_max_position_embeddings"].as_u64() {
        file.number(&format!("{architecture}.rope.scaling.original_context_length"), original as u32);
    }
}

/// Writes a byte-level tokenizer, the chat template and the token that ends a turn.
pub(super) fn letters(dir: &Path, file: &mut Gguf<'_>, split: &str) -> io::Result<()> {
    let tokenizer = read(&dir.join("tokenizer.json"))?;
    let vocabulary = tokenizer["model"]["vocab"].as_object().cloned().unwrap_or_default();
    let added = tokenizer["added_tokens"].as_array().cloned().unwrap_or_default();
    let ids =
        vocabulary.values().filter_map(Value::as_u64).chain(added.iter().filter_map(|token| token["id"].as_u64()));
    let count = ids.max().map_or(0, |id| id as usize + 1);
    let (mut words, mut kinds) = (vec![String::new(); count], vec![1; count]);
    for (word, id) in &vocabulary {
        words[id.as_u64().unwrap_or(0) as usize].clone_from(word);
    }
    for token in &added {
        let id = token["id"].as_u64().unwrap_or(0) as usize;
        words[id] = token["content"].as_str().unwrap_or_default().to_string();
        kinds[id] = if token["special"] == Value::Bool(true) { 3 } else { 4 };
    }
    let config = read(&dir.join("tokenizer_config.json"))?;
    for (role, key) in [("cls_token", "cls"), ("sep_token", "seperator"), ("eos_token", "eos")] {
        let id = config[role].as_str().and_then(|token| words.iter().position(|word| word == token));
        if let Some(id) = id {
            file.number(&format!("tokenizer.ggml.{key}_token_id"), id as u32);
        }
    }
    let merge = |pair: &Value| match pair {
        Value::String(both) => both.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default()),
    };
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", split);
    file.texts("tokenizer.ggml.tokens", words.into_iter());
    file.numbers("tokenizer.ggml.token_type", kinds.into_iter());
    let merges = tokenizer["model"]["merges"].as_array().cloned().unwrap_or_default();
    file.texts("tokenizer.ggml.merges", merges.iter().map(merge));
    if let Ok(template) = fs::read_to_string(dir.join("chat_template.jinja")) {
        file.text("tokenizer.chat_template", &template);
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Value> {
    let value = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
    Ok(if matches!(value, Value::Object(_)) { value } else { Value::Object(Map::new()) })
}
