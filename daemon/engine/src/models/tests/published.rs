//! What published files say beside the keys that every family has.

use serde_json::{Value, json};

use super::*;

fn refusal(architecture: &str, changes: Value) -> LoadError {
    Description::read(&config(architecture, changes), &|_| true).unwrap_err()
}

#[test]
fn pictures_may_stand_before_or_inside_the_text_of_gemma_3() {
    let text = json!({ "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "sliding_window": 8 });
    let described = |newer: bool| {
        let prefix = if newer { "model.language_model." } else { "language_model.model." };
        let config = config("gemma3", json!({ "text_config": text, "tie_word_embeddings": true }));
        Description::read(&config, &|name| name.starts_with(prefix)).unwrap()
    };
    assert_eq!(described(false).embedding.parts[0].name, "language_model.model.embed_tokens");
    let newer = described(true);
    assert_eq!(newer.embedding.parts[0].name, "model.language_model.embed_tokens");
    assert_eq!(newer.norm.weight.name, "model.language_model.norm.weight");
    for pictures in ["model.vision_tower", "model.multi_modal_projector", "vision_tower"] {
        assert!(newer.unread.contains(&pictures.to_string()), "{pictures}");
    }
}

#[test]
fn layers_of_experts_are_as_listed_or_else_all_but_the_first() {
    let sparse = |changes: Value| -> Vec<bool> {
        let layers = describe("glm4_moe_lite", latent(changes)).layers;
        layers.iter().map(|layer| matches!(layer.feed.inner, Feed::Experts(_))).collect()
    };
    let listed = json!({ "mlp_layer_types": ["dense", "sparse", "dense"], "first_k_dense_replace": null });
    assert_eq!(sparse(listed), [false, true, false]);
    assert_eq!(sparse(json!({})), [false, true, true]);
    assert_eq!(sparse(json!({ "first_k_dense_replace": null })), [false, true, true]);
    let short = refusal("glm4_moe_lite", latent(json!({ "mlp_layer_types": ["dense"] }))).to_string();
    assert!(short.contains("mlp_layer_types lists 1 of 3 layers"), "{short}");
    let other = latent(json!({ "mlp_layer_types": ["dense", "sparse", "hashed"] }));
    let other = refusal("glm4_moe_lite", other);
    assert!(matches!(other, LoadError::Unsupported { .. }) && other.to_string().contains("hashed"), "{other}");
}

#[test]
fn what_a_file_leaves_out_is_as_its_family_has_it_or_a_must() {
    let gemma = |changes| {
        let gemma = describe("gemma2", changes);
        (gemma.layers[0].mixer.inner.attention.softcap, gemma.logit_softcap)
    };
    assert_eq!(gemma(json!({})), (Some(50.0), Some(30.0)));
    let none = json!({ "attn_logit_softcapping": null, "final_logit_softcapping": null });
    assert_eq!(gemma(none), (None, None), "null is none");
    let experts = json!({ "rope_theta": null, "num_local_experts": 4, "num_experts_per_tok": 2 });
    assert_eq!(describe("mixtral", experts).ropes[0].base, 1e6);
    for architecture in ["cohere", "smollm3"] {
        let error = refusal(architecture, json!({ "rope_theta": null })).to_string();
        assert!(error.contains("rope_theta is missing"), "{error}");
    }
    let delta = json!({
        "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "num_hidden_layers": 4, "tie_word_embeddings": true,
    });
    assert_eq!(describe("qwen3_5_text", delta).ropes[0].dims, 4);
}

#[test]
fn another_gate_of_qwen_3_5s_delta_nets_is_refused() {
    let delta = |gate: &str| {
        config(
            "qwen3_5_text",
            json!({
                "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
                "linear_value_head_dim": 16, "num_hidden_layers": 4, "output_gate_type": gate,
            }),
        )
    };
    for gate in ["swish", "silu"] {
        assert!(Description::read(&delta(gate), &|_| true).is_ok(), "{gate}");
    }
    let error = Description::read(&delta("sigmoid"), &|_| true).unwrap_err();
    assert!(error.to_string().contains("output_gate_type sigmoid is not supported"), "{error}");
}

#[test]
fn a_context_reaches_as_far_as_what_is_computed_holds() {
    let chunked =
        json!({ "dual_chunk_attention_config": { "chunk_size": 700, "original_max_position_embeddings": 600 } });
    assert_eq!(describe("qwen2", chunked).context, 600, "beyond it positions would have to be folded");
    assert_eq!(describe("cohere", json!({ "model_max_length": 9000 })).context, 9000);
    assert_eq!(describe("cohere", json!({ "model_max_length": 1e30 })).context, 1000);
    let endless = json!({ "rope_scaling": { "type": "yarn", "factor": 1e300 } });
    assert!(describe("llama", endless).context <= 1 << 28);
}

#[test]
fn a_llama_3_rope_between_no_two_lengths_is_refused() {
    let mut scaling = llama3();
    scaling["low_freq_factor"] = scaling["high_freq_factor"].clone();
    let error = refusal("llama", json!({ "rope_scaling": scaling })).to_string();
    assert!(error.contains("high_freq_factor"), "{error}");
}

#[test]
fn queries_are_sharpened_in_both_spellings_of_rope() {
    let table = json!({
        "rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "llama_4_scaling_beta": 0.1,
    });
    for key in ["rope_scaling", "rope_parameters"] {
        let sharpening = describe("ministral3", json!({ key: table })).layers[0].mixer.inner.attention.sharpening;
        assert_eq!(sharpening.map(|it| (it.weight, it.every)), Some((0.1, 64)), "{key}");
    }
}

#[test]
fn yarn_is_sharpened_by_what_its_authors_call_attn_factor_too() {
    // As DeepSeek-R1-0528-Qwen3-8B has it.
    let yarn = |changes: Value| {
        let mut table = json!({
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
            "attn_factor": 0.8782488562869419,
        });
        table.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({ "rope_scaling": table })
    };
    let magnitude = |changes| match describe("qwen3", yarn(changes)).ropes[0].scaling {
        Scaling::Yarn { magnitude, .. } => magnitude.unwrap(),
        ref other => panic!("{other:?} is no yarn"),
    };
    assert!((magnitude(json!({})) - 1.0).abs() < 1e-12, "{}", magnitude(json!({})));
    assert_eq!(magnitude(json!({ "attention_factor": 1.25 })), 1.25, "this is the whole");
    assert_eq!(magnitude(json!({ "extrapolation_factor": 1.0, "attention_factor": 1.5 })), 1.5);
    let error = refusal("qwen3", yarn(json!({ "extrapolation_factor": 0.5 })));
    assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("extrapolation_factor of 0.5"), "{error}");
}

#[test]
fn sizes_that_no_number_holds_are_refused_by_their_names() {
    let large = 1u64 << 28;
    let delta = json!({
        "head_dim": 16, "linear_num_key_heads": large, "linear_num_value_heads": large, "linear_key_head_dim": large,
        "linear_value_head_dim": large, "linear_conv_kernel_dim": large, "num_hidden_layers": 4,
    });
    let error = refusal("qwen3_5_text", delta).to_string();
    assert!(error.contains("cannot see 268435456 tokens each"), "{error}");
    let block = json!({ "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 1e300 } });
    let error = refusal("nemotron-nas", json!({ "block_configs": [block, block, block] })).to_string();
    assert!(error.contains("ffn_mult") && error.contains("too large"), "{error}");
}

#[test]
fn embeddings_of_both_gemmas_grow_by_a_root_as_bf16_rounds_it() {
    for architecture in ["gemma2", "gemma3_text"] {
        for (hidden, root) in [(2304, 48.0), (3584, 59.75), (4608, 68.0)] {
            let keys = json!({ "hidden_size": hidden, "head_dim": 16, "sliding_window": 8 });
            assert_eq!(describe(architecture, keys).embedding_scale, root, "{architecture}, {hidden} wide");
        }
    }
}

#[test]
fn layers_of_deci_share_as_many_heads_as_are_listed() {
    let listed = |heads: Value| json!({ "num_key_value_heads_per_layer": heads });
    let layers = describe("deci", listed(json!([4, 2, 1]))).layers;
    for (layer, heads) in layers.iter().zip([4, 2, 1]) {
        let mixer = &layer.mixer.inner;
        let widths: Vec<usize> = mixer.qkv.parts.iter().map(|part| part.outputs).collect();
        assert_eq!((mixer.attention.kv_heads, widths), (heads, vec![64, heads * 16, heads * 16]));
    }
    for (heads, problem) in [
        (json!([4, 2]), "lists 2 of 3 layers"),
        (json!([4, 2, 3]), "4 attention heads cannot share 3"),
        (json!([4, 2, 0]), "num_key_value_heads_per_layer is not a list of whole numbers"),
    ] {
        let error = refusal("deci", listed(heads)).to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn rope_that_grows_with_the_text_is_plain_within_the_context() {
    let dynamic = json!({ "rope_scaling": { "type": "dynamic", "factor": 2.0 } });
    let description = describe("llama", dynamic);
    assert_eq!((description.ropes, description.context), (describe("llama", json!({})).ropes, 1000));
    let own = json!({ "rope_scaling": { "type": "dynamic", "factor": 1.0, "alpha": 1000.0 } });
    let error = refusal("llama", own);
    assert!(matches!(error, LoadError::Unsupported { .. }) && error.to_string().contains("dynamic"), "{error}");
}

#[test]
fn layers_of_olmo_3_that_slide_turn_as_they_did_before_others_were_stretched() {
    let yarn =
        json!({ "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 500, "rope_theta": 5e5 });
    let older = json!({ "num_hidden_layers": 4, "sliding_window": 16, "rope_scaling": yarn, "rope_theta": 5e5 });
    let tables = json!({ "full_attention": yarn, "sliding_attention": { "rope_type": "default", "rope_theta": 5e5 } });
    let newer = json!({
        "num_hidden_layers": 4, "sliding_window": 16, "rope_parameters": tables, "rope_theta": null,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    });
    for (changes, context) in [(older, 4000), (newer, 1000)] {
        let Description { layers, ropes, context: reached, .. } = describe("olmo3", changes);
        let seen: Vec<_> =
            layers.iter().map(|layer| layer.mixer.inner.attention).map(|it| (it.window, it.rope)).collect();
        assert_eq!(seen, [(Some(16), Some(1)), (Some(16), Some(1)), (Some(16), Some(1)), (None, Some(0))]);
        assert!(matches!(ropes[0].scaling, Scaling::Yarn { .. }) && ropes[0].base == 5e5);
        assert_eq!((ropes[1].scaling, ropes[1].base, reached), (Scaling::None, 5e5, context));
    }
}

#[test]
fn command_r_norms_each_head_by_weights_of_its_own_where_it_is_asked_to() {
    let normed = describe("cohere", json!({ "use_qk_norm": true, "num_key_value_heads": 2 }));
    let (queries, keys) = normed.layers[0].mixer.inner.qk_norm.clone().unwrap();
    assert_eq!((queries.weight.dims, queries.kind), (vec![4, 16], NormKind::Layer));
    assert_eq!((keys.weight.dims, keys.weight.name.as_str()), (vec![2, 16], "model.layers.0.self_attn.k_norm.weight"));
    assert!(describe("cohere", json!({})).layers[0].mixer.inner.qk_norm.is_none());
    let other = refusal("cohere2", json!({ "use_qk_norm": true, "sliding_window": 8 })).to_string();
    assert!(other.contains("use_qk_norm"), "{other}");
}
