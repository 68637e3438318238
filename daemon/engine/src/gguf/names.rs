//! Which tensor of a GGUF file holds a module of the engine's description.
//!
//! The description names what a model needs in transformers' words; this is the dictionary to llama.cpp's. One name differs
//! between families, and a flag of the page says how.

/// The file's name, without `.weight` or `.bias`, of a module; `None` for one that GGUF has no name for.
///
/// `after` says that `post_attention_layernorm` norms what attention gives, where in others it norms what the MLP takes.
pub(super) fn of(module: &str, after: bool) -> Option<String> {
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
        "self_attn.sinks" => "attn_sinks",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.gate" | "mlp.router" | "block_sparse_moe.gate" => "ffn_gate_inp",
        "mlp.shared_expert.gate_proj" => "ffn_gate_shexp",
        "mlp.shared_expert.up_proj" => "ffn_up_shexp",
        "mlp.shared_expert.down_proj" => "ffn_down_shexp",
        "mlp.shared_expert_gate" => "ffn_gate_inp_shexp",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if after => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_self_attn_layernorm" => "post_attention_norm",
        "post_feedforward_layernorm" | "post_mlp_layernorm" => "post_ffw_norm",
        _ => expert(module)?,
    };
    Some(format!("blk.{index}.{name}"))
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
