//! Which tensor of a GGUF file holds a module of the engine's description.
//!
//! The description names what a model needs in transformers' words; this is the dictionary to llama.cpp's, of decoders and of
//! each family of encoders. A page says which of these functions it is read by. Each gives the file's name of a module, without
//! `.weight` or `.bias`, and `None` for a module that GGUF has no name for.

/// Of a decoder in which `post_attention_layernorm` norms what the MLP takes.
pub(super) fn decoder(module: &str) -> Option<String> {
    any_decoder(module, false)
}

/// Of Qwen3-Next, which has the two factors of a delta net's heads in one matrix.
pub(super) fn qwen3_next(module: &str) -> Option<String> {
    match module.strip_suffix(".linear_attn.in_proj_a").or_else(|| module.strip_suffix(".linear_attn.in_proj_b")) {
        Some(layer) => normed_after(&format!("{layer}.linear_attn.in_proj_ba")),
        None => normed_after(module),
    }
}

/// Of Qwen 3.5, whose text is a part of it.
pub(super) fn qwen3_5(module: &str) -> Option<String> {
    normed_after(module.strip_prefix("language_model.")?)
}

/// Of EmbeddingGemma, whose matrices after pooling are called after sentence-transformers' folders.
pub(super) fn gemma_embedding(module: &str) -> Option<String> {
    match module {
        "dense.0" | "2_Dense.linear" => Some("dense_2".to_string()),
        "dense.1" | "3_Dense.linear" => Some("dense_3".to_string()),
        _ => normed_after(module),
    }
}

/// Of Gemma 3, under whose name Ollama's first files of EmbeddingGemma go.
pub(super) fn gemma3(module: &str) -> Option<String> {
    match module {
        "dense.0" | "dense.1" => Some(module.to_string()),
        _ => normed_after(module),
    }
}

/// Of a decoder in which it norms what attention gives.
pub(super) fn normed_after(module: &str) -> Option<String> {
    any_decoder(module, true)
}

fn any_decoder(module: &str, after: bool) -> Option<String> {
    let whole = match module {
        "model.embed_tokens" => Some("token_embd"),
        "model.norm" => Some("output_norm"),
        "lm_head" => Some("output"),
        _ => None,
    };
    if let Some(name) = whole {
        return Some(name.to_string());
    }
    let (index, module) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let name = match module {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.gate" | "mlp.router" | "block_sparse_moe.gate" => "ffn_gate_inp",
        "mlp.shared_expert.gate_proj" | "mlp.shared_experts.gate_proj" => "ffn_gate_shexp",
        "mlp.shared_expert.up_proj" | "mlp.shared_experts.up_proj" => "ffn_up_shexp",
        "mlp.shared_expert.down_proj" | "mlp.shared_experts.down_proj" => "ffn_down_shexp",
        "mlp.shared_expert_gate" => "ffn_gate_inp_shexp",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if after => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_self_attn_layernorm" => "post_attention_norm",
        "post_feedforward_layernorm" | "post_mlp_layernorm" => "post_ffw_norm",
        _ => latent(module).or_else(|| delta(module)).or_else(|| expert(module))?,
    };
    Some(format!("blk.{index}.{name}"))
}

/// Attention in a latent space.
fn latent(module: &str) -> Option<&'static str> {
    match module.strip_prefix("self_attn.")? {
        "q_a_proj" => Some("attn_q_a"),
        "q_a_layernorm" => Some("attn_q_a_norm"),
        "q_b_proj" => Some("attn_q_b"),
        "kv_a_proj_with_mqa" => Some("attn_kv_a_mqa"),
        "kv_a_layernorm" => Some("attn_kv_a_norm"),
        "kv_b_proj" => Some("attn_kv_b"),
        "embed_q" => Some("attn_k_b"),
        "unembed_out" => Some("attn_v_b"),
        _ => None,
    }
}

/// A delta net.
fn delta(module: &str) -> Option<&'static str> {
    match module.strip_prefix("linear_attn.")? {
        "in_proj_qkvz" => Some("ssm_in"),
        "in_proj_ba" => Some("ssm_ba"),
        "in_proj_qkv" => Some("attn_qkv"),
        "in_proj_z" => Some("attn_gate"),
        "in_proj_a" => Some("ssm_alpha"),
        "in_proj_b" => Some("ssm_beta"),
        "norm" => Some("ssm_norm"),
        "out_proj" => Some("ssm_out"),
        _ => None,
    }
}

/// The whole name of the tensor that holds a decoder's vector, but for norms and biases, which follow their module.
pub(super) fn vector(name: &str) -> Option<String> {
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    let (index, name) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let tensor = match name {
        "self_attn.sinks" => "attn_sinks.weight",
        "mlp.gate.e_score_correction_bias" => "exp_probs_b.bias",
        "linear_attn.conv1d.weight" => "ssm_conv1d.weight",
        "linear_attn.A_log" => "ssm_a",
        "linear_attn.dt_bias" => "ssm_dt.bias",
        _ => return None,
    };
    Some(format!("blk.{index}.{tensor}"))
}

/// The tensor that holds one matrix of all experts.
fn expert(module: &str) -> Option<&'static str> {
    let (experts, matrix) = module.rsplit_once('.')?;
    if !matches!(experts, "mlp.switch_mlp" | "mlp.experts" | "block_sparse_moe.switch_mlp") {
        return None;
    }
    match matrix {
        "gate_proj" => Some("ffn_gate_exps"),
        "up_proj" => Some("ffn_up_exps"),
        "down_proj" => Some("ffn_down_exps"),
        _ => None,
    }
}

/// Of BERT and its kin.
pub(super) fn bert(module: &str) -> Option<String> {
    let whole = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("pooler.dense", "cls"),
        ("classifier", "cls.output"),
    ];
    let of_layer = [
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ];
    encoder(module, &whole, "encoder.layer.", &of_layer)
}

/// Of nomic-bert.
pub(super) fn nomic_bert(module: &str) -> Option<String> {
    let whole = [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("emb_ln", "token_embd_norm"),
    ];
    let of_layer = [
        ("attn.Wqkv", "attn_qkv"),
        ("attn.out_proj", "attn_output"),
        ("norm1", "attn_output_norm"),
        ("mlp.fc11", "ffn_up"),
        ("mlp.fc12", "ffn_gate"),
        ("mlp.fc2", "ffn_down"),
        ("norm2", "layer_output_norm"),
    ];
    encoder(module, &whole, "encoder.layers.", &of_layer)
}

/// Of ModernBERT.
pub(super) fn modern_bert(module: &str) -> Option<String> {
    let whole = [
        ("embeddings.tok_embeddings", "token_embd"),
        ("embeddings.norm", "token_embd_norm"),
        ("final_norm", "output_norm"),
        ("head.dense", "cls"),
        ("head.norm", "cls.norm"),
        ("classifier", "cls.output"),
    ];
    let of_layer = [
        ("attn_norm", "attn_norm"),
        ("attn.Wqkv", "attn_qkv"),
        ("attn.Wo", "attn_output"),
        ("mlp_norm", "ffn_norm"),
        ("mlp.Wi", "ffn_up"),
        ("mlp.Wo", "ffn_down"),
    ];
    encoder(module, &whole, "layers.", &of_layer)
}

/// Looks a module up among those of the whole model, and among those of the layers, which follow a beginning.
fn encoder(module: &str, whole: &[(&str, &str)], layers: &str, of_layer: &[(&str, &str)]) -> Option<String> {
    let find =
        |table: &[(&str, &str)], module: &str| Some(table.iter().find(|(known, _)| *known == module)?.1.to_string());
    find(whole, module).or_else(|| {
        let (index, module) = module.strip_prefix(layers)?.split_once('.')?;
        Some(format!("blk.{index}.{}", find(of_layer, module)?))
    })
}
