//! What a tiny model of each architecture has beyond the common keys: windows that close and factors that count.

use serde_json::{Map, Value, json};

/// The keys of `config.json` that an architecture adds or changes.
pub(super) fn of(architecture: &str) -> Map<String, Value> {
    let keys = match architecture {
        "cohere" => json!({ "head_dim": 16, "layer_norm_eps": 1e-5, "logit_scale": 0.5 }),
        "cohere2" => json!({
            "head_dim": 16, "layer_norm_eps": 1e-5, "logit_scale": 0.5, "sliding_window": 9, "sliding_window_pattern": 2,
        }),
        "gemma2" => json!({
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 4.0, "sliding_window": 9,
        }),
        "gemma3_text" => json!({
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "sliding_window": 9,
            "sliding_window_pattern": 2, "rope_local_base_freq": 100.0, "rope_scaling": { "type": "linear", "factor": 8.0 },
        }),
        "glm4" => json!({ "attention_bias": true, "partial_rotary_factor": 0.5, "tie_word_embeddings": false }),
        "gpt_oss" => json!({
            "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 9,
            "rope_scaling": {
                "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 128, "truncate": false,
            },
        }),
        "granite" => json!({
            "head_dim": 16, "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5,
            "logits_scaling": 2.0,
        }),
        "mixtral" => json!({ "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2 }),
        "nemotron-nas" => json!({
            "head_dim": 16, "intermediate_size": null, "num_key_value_heads": null, "num_hidden_layers": 4,
            "block_configs": [
                { "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 1.5 } },
                { "attention": { "no_op": true }, "ffn": { "ffn_mult": 7.0 } },
                { "attention": { "n_heads_in_group": 4 }, "ffn": { "no_op": true } },
                { "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 3.0 } },
            ],
        }),
        "phi3" => json!({
            "head_dim": 16, "partial_rotary_factor": 0.75, "tie_word_embeddings": false,
            "original_max_position_embeddings": 32,
            "rope_scaling": {
                "type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
                "long_factor": [1.0, 1.25, 2.0, 3.0, 4.5, 6.0],
            },
        }),
        "qwen3_moe" => json!({
            "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": true,
        }),
        "smollm3" => json!({ "no_rope_layer_interval": 2 }),
        _ => json!({}),
    };
    keys.as_object().cloned().unwrap_or_default()
}
