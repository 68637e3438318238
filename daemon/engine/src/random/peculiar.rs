//! What a tiny model of each architecture has beyond the common keys: windows that close and factors that count.

use serde_json::{Map, Value, json};

/// The keys of `config.json` that an architecture adds or changes.
pub(super) fn of(architecture: &str) -> Map<String, Value> {
    let keys = match architecture {
        "cohere" => json!({ "head_dim": 16, "layer_norm_eps": 1e-5, "logit_scale": 0.5 }),
        "cohere2" => json!({
            "head_dim": 16, "layer_norm_eps": 1e-5, "logit_scale": 0.5, "sliding_window": 9, "sliding_window_pattern": 2,
        }),
        "deci" => json!({ "head_dim": 16, "num_key_value_heads": null, "num_key_value_heads_per_layer": [2, 1] }),
        "gemma2" => json!({
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 4.0, "sliding_window": 9,
        }),
        "gemma3_text" => json!({
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "sliding_window": 9,
            "sliding_window_pattern": 2, "rope_local_base_freq": 100.0, "rope_scaling": { "type": "linear", "factor": 8.0 },
        }),
        "glm" => json!({ "attention_bias": true, "tie_word_embeddings": false }),
        "glm4" => json!({ "attention_bias": true, "partial_rotary_factor": 0.5, "tie_word_embeddings": false }),
        "granite" | "granitemoehybrid" => json!({
            "head_dim": 16, "embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.5,
            "logits_scaling": 2.0, "position_embedding_type": "rope",
        }),
        "ministral3" => json!({
            "rope_theta": null, "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 16,
                "llama_4_scaling_beta": 0.3,
            },
        }),
        "nemotron-nas" => json!({
            "head_dim": 16, "intermediate_size": null, "num_key_value_heads": null, "num_hidden_layers": 4,
            "block_configs": [
                { "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 1.5 } },
                { "attention": { "no_op": true }, "ffn": { "ffn_mult": 7.0 } },
                { "attention": { "n_heads_in_group": 4 }, "ffn": { "no_op": true } },
                { "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 3.0 } },
            ],
        }),
        "olmo3" => json!({
            "num_hidden_layers": 4, "sliding_window": 9, "rope_scaling": {
                "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16,
            },
        }),
        "phi3" => json!({
            "head_dim": 16, "partial_rotary_factor": 0.75, "tie_word_embeddings": false,
            "original_max_position_embeddings": 32,
            "rope_scaling": {
                "type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
                "long_factor": [1.0, 1.25, 2.0, 3.0, 4.5, 6.0],
            },
        }),
        "smollm3" => json!({ "no_rope_layer_interval": 2 }),
        _ => of_experts(architecture),
    };
    keys.as_object().cloned().unwrap_or_default()
}

/// The same of architectures that have experts.
fn of_experts(architecture: &str) -> Value {
    match architecture {
        "deepseek_v2" => json!({
            "head_dim": 16, "kv_lora_rank": 32, "q_lora_rank": null, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32,
            "v_head_dim": 16, "n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 2,
            "moe_intermediate_size": 64, "first_k_dense_replace": 1, "topk_method": "group_limited_greedy", "n_group": 3,
            "topk_group": 2, "routed_scaling_factor": 1.5, "rope_scaling": {
                "type": "yarn", "factor": 40.0, "original_max_position_embeddings": 128, "mscale": 0.707,
                "mscale_all_dim": 0.5,
            },
        }),
        "deepseek_v3" | "glm4_moe_lite" => json!({
            "head_dim": 16, "kv_lora_rank": 64, "q_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32,
            "v_head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 1,
            "moe_intermediate_size": 64, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
            "routed_scaling_factor": 2.5, "rope_scaling": {
                "type": "yarn", "factor": 40.0, "original_max_position_embeddings": 128, "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
        }),
        "glm4_moe" => json!({
            "attention_bias": true, "use_qk_norm": true, "n_routed_experts": 6, "num_experts_per_tok": 2,
            "n_shared_experts": 1, "moe_intermediate_size": 64, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
            "routed_scaling_factor": 1.5, "tie_word_embeddings": false,
        }),
        "gpt_oss" => json!({
            "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 9,
            "rope_scaling": {
                "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 128, "truncate": false,
            },
        }),
        "mixtral" => json!({ "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2 }),
        "qwen2_moe" => json!({
            "head_dim": 16, "norm_topk_prob": true, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
            "shared_expert_intermediate_size": 96,
        }),
        "qwen3_5" => hybrid(json!({})),
        "qwen3_next" | "qwen3_5_moe" => hybrid(json!({
            "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": true,
            "shared_expert_intermediate_size": 96,
        })),
        "qwen3_moe" => json!({
            "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": true,
        }),
        _ => json!({}),
    }
}

/// What models of delta nets have: two of three layers keep a state.
fn hybrid(changes: Value) -> Value {
    let mut keys = json!({
        "num_hidden_layers": 3, "full_attention_interval": 3, "partial_rotary_factor": 0.5, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 32,
        "linear_conv_kernel_dim": 4, "tie_word_embeddings": false,
    });
    if let (Some(keys), Some(changes)) = (keys.as_object_mut(), changes.as_object()) {
        keys.extend(changes.clone());
    }
    keys
}
