//! Configurations become the right descriptions, and unsupported ones are refused by name.

mod published;

use serde_json::{Value, json};

use super::*;
use crate::native::Scaling;

fn config(architecture: &str, changes: Value) -> Config {
    let mut config = json!({
        "model_type": architecture, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 1000, "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    Config::from_json(config)
}

fn describe(architecture: &str, changes: Value) -> Description {
    Description::read(&config(architecture, changes), &|_| true).unwrap()
}

fn windows(architecture: &str, changes: Value) -> Vec<Option<usize>> {
    describe(architecture, changes).layers.iter().map(|layer| layer.mixer.inner.attention.window).collect()
}

#[test]
fn heads_are_shared_and_sized_as_the_file_says_or_else_evenly() {
    let attention = |changes| describe("llama", changes).layers[0].mixer.inner.attention;
    let common = Attention {
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        window: None,
        rope: Some(0),
        scale: 0.25,
        softcap: None,
        sharpening: None,
    };
    assert_eq!(attention(json!({})), common);
    assert_eq!(
        attention(json!({ "num_key_value_heads": 1, "head_dim": 64 })),
        Attention { kv_heads: 1, head_dim: 64, scale: 0.125, ..common }
    );
}

#[test]
fn every_mistral_layer_slides_where_the_file_says_so() {
    assert_eq!(windows("mistral", json!({})), [None; 3]);
    assert_eq!(windows("mistral", json!({ "sliding_window": null })), [None; 3]);
    assert_eq!(windows("mistral", json!({ "sliding_window": 16 })), [Some(16); 3]);
    assert_eq!(windows("llama", json!({ "sliding_window": 16 })), [None; 3]);
}

#[test]
fn upper_qwen_layers_slide_only_when_asked() {
    let asked = json!({ "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 2 });
    let unasked = json!({ "use_sliding_window": false, "sliding_window": 16, "max_window_layers": 0 });
    for architecture in ["qwen2", "qwen3"] {
        assert_eq!(windows(architecture, asked.clone()), [None, None, Some(16)]);
        assert_eq!(windows(architecture, unasked.clone()), [None; 3]);
    }
}

#[test]
fn listed_layer_types_go_before_the_familys_habit() {
    let types =
        json!({ "sliding_window": 16, "layer_types": ["full_attention", "sliding_attention", "full_attention"] });
    assert_eq!(windows("mistral", types), [None, Some(16), None]);
}

#[test]
fn an_output_matrix_is_shared_as_the_file_says_or_else_as_the_weights_show() {
    let tied = |changes, has_head| Description::read(&config("llama", changes), &|_| has_head).unwrap().head.is_none();
    assert!(tied(json!({ "tie_word_embeddings": true }), true));
    assert!(!tied(json!({ "tie_word_embeddings": false }), false));
    assert!(tied(json!({}), false));
    assert!(!tied(json!({}), true));
}

#[test]
fn where_a_file_contradicts_itself_the_weights_show_whether_an_output_matrix_is_shared() {
    let tied = |whole: bool, text: bool, has_head: bool| {
        let text = json!({
            "model_type": "ministral3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 1000, "rms_norm_eps": 1e-5,
            "rope_theta": 1e4, "tie_word_embeddings": text,
        });
        let config = config("mistral3", json!({ "tie_word_embeddings": whole, "text_config": text }));
        let holds = |name: &str| name.starts_with("language_model.model.") || (has_head && name.contains("lm_head"));
        Description::read(&config, &holds).unwrap().head.is_none()
    };
    assert!(tied(true, true, true) && !tied(false, false, false), "what is said twice holds");
    for (whole, text) in [(true, false), (false, true)] {
        assert!(tied(whole, text, false) && !tied(whole, text, true), "{whole} and {text}");
    }
}

#[test]
fn both_spellings_of_rope_are_read() {
    let old = json!({ "rope_theta": 5e5, "rope_scaling": { "type": "linear", "factor": 2.0 } });
    let new =
        json!({ "rope_theta": null, "rope_parameters": { "rope_theta": 5e5, "rope_type": "linear", "factor": 2.0 } });
    let expected = Rope { scaling: Scaling::Linear { factor: 2.0 }, ..Rope::plain(5e5, 16) };
    assert_eq!(describe("llama", old).ropes, std::slice::from_ref(&expected));
    assert_eq!(describe("llama", new).ropes, [expected]);
}

#[test]
fn the_rope_base_has_a_default_only_where_the_family_has_one() {
    let absent = json!({ "rope_theta": null });
    assert_eq!(describe("llama", absent.clone()).ropes[0].base, 1e4);
    let error = Description::read(&config("qwen3", absent), &|_| true).unwrap_err();
    assert!(error.to_string().contains("rope_theta is missing"), "{error}");
}

#[test]
fn yarn_reaches_past_the_first_context() {
    let yarn = describe("qwen2", json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } }));
    assert_eq!(yarn.context, 4000);
    let magnitude = 0.1 * 4f64.ln() + 1.0;
    let expected =
        Scaling::Yarn { factor: 4.0, fast: 32.0, slow: 1.0, original: 1000.0, whole: true, magnitude: Some(magnitude) };
    assert_eq!(yarn.ropes[0].scaling, expected);
    assert_eq!(describe("llama", json!({ "rope_scaling": llama3() })).context, 1000);
    let beside = json!({
        "rope_scaling": { "rope_type": "yarn", "factor": 4.0 }, "original_max_position_embeddings": 100,
    });
    let yarn = describe("llama", beside);
    assert!(matches!(yarn.ropes[0].scaling, Scaling::Yarn { original: 100.0, .. }), "{:?}", yarn.ropes);
}

fn llama3() -> Value {
    json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    })
}

#[test]
fn a_rope_scaling_without_its_figures_is_refused_by_their_names() {
    let refusal = |scaling: Value| {
        Description::read(&config("llama", json!({ "rope_scaling": scaling })), &|_| true).unwrap_err().to_string()
    };
    for key in ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"] {
        let mut scaling = llama3();
        scaling.as_object_mut().unwrap().remove(key);
        let error = refusal(scaling);
        assert!(error.contains(&format!("rope scaling llama3 has no {key}")), "{error}");
    }
    assert!(refusal(json!({ "rope_type": "linear" })).contains("rope scaling linear has no factor"));
    assert!(refusal(json!({ "rope_type": "yarn", "factor": 4.0, "mscale": "x" })).contains("mscale is \"x\""));
}

fn ropes(description: &Description) -> Vec<Option<usize>> {
    description.layers.iter().map(|layer| layer.mixer.inner.attention.rope).collect()
}

#[test]
fn gemma_slides_and_turns_by_the_kind_of_layer() {
    let six = json!({ "num_hidden_layers": 7, "sliding_window": 8, "head_dim": 16 });
    let expected = [Some(8), Some(8), Some(8), Some(8), Some(8), None, Some(8)];
    assert_eq!(windows("gemma3_text", six.clone()), expected);
    let gemma = describe("gemma3_text", six);
    assert_eq!(ropes(&gemma), expected.map(|window| Some(usize::from(window.is_some()))));
    assert_eq!(gemma.ropes, [Rope::plain(1e4, 16), Rope::plain(1e4, 16)]);
    assert_eq!(windows("gemma2", json!({ "sliding_window": 8 })), [Some(8), None, Some(8)]);
    let tables = json!({
        "sliding_window": 8, "head_dim": 16, "rope_theta": null, "rope_parameters": {
            "full_attention": { "rope_type": "linear", "factor": 8.0, "rope_theta": 1e6 },
            "sliding_attention": { "rope_type": "default", "rope_theta": 2e4 },
        },
    });
    let linear = Rope { scaling: Scaling::Linear { factor: 8.0 }, ..Rope::plain(1e6, 16) };
    assert_eq!(describe("gemma3_text", tables).ropes, [linear, Rope::plain(2e4, 16)]);
    let capped = json!({ "sliding_window": 8, "head_dim": 16, "final_logit_softcapping": 4.0 });
    assert_eq!((describe("gemma3_text", capped).logit_softcap, gemma.logit_softcap), (Some(4.0), None));
}

#[test]
fn a_model_of_pictures_is_read_for_its_text() {
    let text = json!({ "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "sliding_window": 8 });
    let gemma = describe("gemma3", json!({ "text_config": text }));
    assert_eq!((gemma.architecture.as_str(), gemma.vocabulary), ("gemma3", 262_208));
    assert_eq!(gemma.embedding.parts[0].name, "language_model.model.embed_tokens");
    assert!(gemma.unread.contains(&"vision_tower".to_string()));
}

#[test]
fn some_layers_turn_nothing() {
    let four = json!({ "num_hidden_layers": 4 });
    assert_eq!(ropes(&describe("smollm3", four)), [Some(0), Some(0), Some(0), None]);
    let listed = json!({ "no_rope_layers": [0, 1, 0] });
    assert_eq!(ropes(&describe("smollm3", listed)), [None, Some(0), None]);
    let command = describe("cohere2", json!({ "num_hidden_layers": 4, "sliding_window": 8, "layer_norm_eps": 1e-5 }));
    assert_eq!(ropes(&command), [Some(0), Some(0), Some(0), None]);
    let slides = |changes: Value| {
        let mut keys = json!({ "no_rope_layers": [1, 0, 1], "use_sliding_window": true, "sliding_window": 8 });
        keys.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        windows("smollm3", keys)
    };
    assert_eq!(slides(json!({})), [None, Some(8), None]);
    assert_eq!(slides(json!({ "use_sliding_window": false })), [None; 3]);
    let types = json!({ "layer_types": ["full_attention", "full_attention", "sliding_attention"] });
    assert_eq!(slides(types), [None, None, Some(8)]);
    let short = Description::read(&config("smollm3", json!({ "no_rope_layers": [1] })), &|_| true).unwrap_err();
    assert!(short.to_string().contains("no number for layer 1"), "{short}");
}

#[test]
fn longrope_takes_the_factors_of_the_context_that_is_configured() {
    let scaling = json!({ "type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [2.0, 4.0] });
    let phi = |original: u32| {
        let changes = json!({
            "rope_scaling": scaling, "original_max_position_embeddings": original, "partial_rotary_factor": 0.25,
        });
        describe("phi3", changes).ropes.remove(0)
    };
    let (divisors, magnitude) = phi(100).listed.unwrap();
    assert_eq!((divisors, phi(100).dims), (vec![2.0, 4.0], 4));
    assert!((magnitude - 1.5f64.sqrt()).abs() < 1e-12, "{magnitude}");
    assert_eq!(phi(1000).listed, Some((vec![1.0, 1.0], 1.0)));
}

#[test]
fn ministral_sharpens_its_queries_and_may_stand_beside_pictures() {
    let table = json!({
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 64,
        "llama_4_scaling_beta": 0.1,
    });
    let alone = describe("ministral3", json!({ "rope_parameters": table }));
    let sharpening = alone.layers[0].mixer.inner.attention.sharpening.unwrap();
    assert_eq!((sharpening.at(63), sharpening.at(64)), (1.0, 1.0 + 0.1 * 2f32.ln()));
    let text = json!({
        "model_type": "ministral3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 1000, "rms_norm_eps": 1e-5,
        "rope_parameters": table,
    });
    for (newer, prefix, head) in
        [(false, "language_model.model", "language_model.lm_head"), (true, "model.language_model", "lm_head")]
    {
        let holds = |name: &str| name.starts_with("model.") == newer;
        let described = Description::read(&config("mistral3", json!({ "text_config": text })), &holds).unwrap();
        assert_eq!(described.embedding.parts[0].name, format!("{prefix}.embed_tokens"));
        assert_eq!(described.head.unwrap().parts[0].name, head);
        assert!(described.layers[0].mixer.inner.attention.sharpening.is_some());
    }
}

#[test]
fn granite_4_is_read_with_its_mlp_in_one_matrix_or_two() {
    let changes = json!({
        "layer_types": ["attention", "attention", "attention"], "shared_intermediate_size": 96, "num_local_experts": 0,
        "position_embedding_type": "nope",
    });
    let widths = |released: bool| {
        let holds = |name: &str| released && name.contains("shared_mlp");
        let description = Description::read(&config("granitemoehybrid", changes.clone()), &holds).unwrap();
        assert_eq!(ropes(&description), [None; 3]);
        match &description.layers[2].feed.inner {
            Feed::Gated(gated) => (gated.gate_up.parts[0].name.clone(), gated.gate_up.outputs(), gated.down.inputs),
            Feed::Experts(_) => panic!("a dense model has no experts"),
        }
    };
    assert_eq!(widths(true), ("model.layers.2.shared_mlp.input_linear".to_string(), 192, 96));
    assert_eq!(widths(false), ("model.layers.2.mlp.gate_proj".to_string(), 256, 128));
    let turned = |key: &str, value: Value| {
        let mut changes = changes.clone();
        changes[key] = value;
        ropes(&describe("granitemoehybrid", changes))
    };
    assert_eq!(turned("position_embedding_type", json!("rope")), [Some(0); 3]);
    assert_eq!(turned("position_embedding_type", Value::Null), [None; 3], "as transformers has it");
    assert_eq!(turned("layer_types", json!(["full_attention", "full_attention", "full_attention"])), [None; 3]);
    for (key, value, name) in
        [("layer_types", json!(["mamba"]), "layer type mamba"), ("num_local_experts", json!(4), "experts")]
    {
        let mut changes = changes.clone();
        changes[key] = value;
        let error = Description::read(&config("granitemoehybrid", changes), &|_| true).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_a_family_does_not_do_is_refused_by_name() {
    #[track_caller]
    fn refused(architecture: &str, changes: Value, name: &str) {
        let error = Description::read(&config(architecture, changes), &|_| true).unwrap_err();
        assert!(matches!(error, LoadError::Unsupported { .. }) && error.to_string().contains(name), "{error}");
    }
    refused("cohere", json!({ "layer_norm_bias": true }), "layer_norm_bias");
    refused("deepseek_v2", latent(json!({ "scoring_func": "sigmoid" })), "scoring_func sigmoid");
    refused("deepseek_v2", latent(json!({ "topk_method": "noaux_tc" })), "topk_method noaux_tc");
    refused("deepseek_v2", latent(json!({ "norm_topk_prob": true })), "norm_topk_prob");
    refused("deepseek_v3", latent(json!({ "rope_interleave": false })), "rope_interleave");
    refused("gemma2", json!({ "hidden_activation": "relu" }), "activation relu");
    refused("gemma3_text", json!({ "use_bidirectional_attention": true }), "use_bidirectional_attention");
    refused("gpt_oss", json!({ "swiglu_alpha": 1.5 }), "swiglu_alpha");
    refused("gpt_oss", json!({ "swiglu_limit": 5.0 }), "swiglu_limit");
    for architecture in ["llama", "mistral", "qwen2", "qwen3"] {
        refused(architecture, json!({ "is_causal": false }), "is_causal false");
    }
    refused("llama", json!({ "hidden_act": "gelu" }), "activation gelu");
    refused("llama", json!({ "rope_traditional": true }), "rope_traditional");
    refused("phi3", json!({ "rope_scaling": { "type": "ntk", "factor": 2.0 } }), "rope scaling ntk");
    refused("mamba", json!({}), "model_type mamba");
}

#[test]
fn experts_have_their_own_tensors_or_share_one() {
    let changes = json!({
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [1],
        "norm_topk_prob": true,
    });
    let names = |joined: bool| {
        let holds = |name: &str| joined && name.contains("switch_mlp");
        let description = Description::read(&config("qwen3_moe", changes.clone()), &holds).unwrap();
        let of_layer = |layer: &Layer| match &layer.feed.inner {
            Feed::Gated(_) => None,
            Feed::Experts(experts) => Some(experts.each[3].down.parts[0].clone()),
        };
        let parts: Vec<_> = description.layers.iter().map(of_layer).collect();
        assert!(parts[1].is_none() && parts[2].is_some());
        parts[0].clone().map(|part| (part.name, part.slice))
    };
    assert_eq!(names(false), Some(("model.layers.0.mlp.experts.3.down_proj".to_string(), None)));
    assert_eq!(names(true), Some(("model.layers.0.mlp.switch_mlp.down_proj".to_string(), Some((3, 4)))));
    let renamed = json!({ "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32 });
    let Feed::Experts(experts) = &describe("qwen3_moe", renamed).layers[0].feed.inner else { panic!("no experts") };
    assert_eq!(experts.each.len(), 4, "as transformers saves it since version 5");
    let missing = json!({ "num_experts_per_tok": 2, "moe_intermediate_size": 32 });
    let error = Description::read(&config("qwen3_moe", missing), &|_| true).unwrap_err().to_string();
    assert!(error.contains("num_experts is missing"), "{error}");
}

#[test]
fn gpt_oss_as_openai_ships_it_is_refused_with_what_to_take_instead() {
    let shape = json!({ "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8 });
    let refusal = |changes: Value, holds: &dyn Fn(&str) -> bool| {
        let mut keys = shape.clone();
        keys.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Description::read(&config("gpt_oss", keys), holds).err().map(|error| error.to_string())
    };
    let method = json!({ "quantization_config": { "quant_method": "mxfp4" } });
    let bf16 = |name: &str| name.ends_with("experts.gate_up_proj");
    for refusal in [refusal(method, &|_| true), refusal(json!({}), &bf16)] {
        let refusal = refusal.unwrap();
        assert!(refusal.contains("gpt-oss was first released") && refusal.contains("mlx_lm.convert"), "{refusal}");
    }
    assert_eq!(refusal(json!({}), &|name| name.ends_with("gate_proj.weight")), None);
    let converted = json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" });
    assert_eq!(refusal(json!({ "quantization": converted, "quantization_config": converted }), &|_| true), None);
}

#[test]
fn qwen_3_5_is_read_without_its_pictures_too() {
    let text = json!({
        "head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "num_hidden_layers": 4, "tie_word_embeddings": false,
    });
    let holds = |name: &str| name.starts_with("model.embed_tokens");
    let described = Description::read(&config("qwen3_5_text", text), &holds).unwrap();
    assert_eq!(described.architecture, "qwen3_5_text");
    assert_eq!(described.embedding.parts[0].name, "model.embed_tokens");
    assert_eq!(described.head.unwrap().parts[0].name, "lm_head");
    assert!(matches!(described.layers[0].mixer.inner.form, Form::Delta(_)));
}

/// DeepSeek's shape.
fn latent(changes: Value) -> Value {
    let mut config = json!({
        "kv_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 20, "n_routed_experts": 8,
        "num_experts_per_tok": 3, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

#[test]
fn latent_attention_keeps_one_short_key_a_token() {
    let yarn = json!({ "type": "yarn", "factor": 40.0, "original_max_position_embeddings": 64, "mscale_all_dim": 0.5 });
    let description = describe("deepseek_v2", latent(json!({ "rope_scaling": yarn })));
    assert_eq!(description.caches(), [CacheShape { kv_heads: 1, head_dim: 32, layers: vec![0, 1, 2] }]);
    let mixer = &description.layers[0].mixer.inner;
    assert_eq!((mixer.qkv.outputs(), mixer.output.inputs), (4 * 24 + 32, 4 * 20));
    let sharpness = 0.05 * 40f32.ln() + 1.0;
    assert!((mixer.attention.scale - 24f32.powf(-0.5) * sharpness * sharpness).abs() < 1e-6, "{mixer:?}");
    assert_eq!(description.context, 2560);
    let names = |holds: &dyn Fn(&str) -> bool| {
        let description =
            Description::read(&config("deepseek_v3", latent(json!({ "q_lora_rank": 12 }))), holds).unwrap();
        let names = description.layers[1].stacks().map(|stack| stack.parts[0].name.replace("model.layers.1.", ""));
        names.take(4).collect::<Vec<_>>()
    };
    let joined = ["self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_b_proj", "self_attn.o_proj"];
    assert_eq!(names(&|_| false), joined);
    assert_eq!(names(&|name| name.contains("embed_q"))[2..], ["self_attn.embed_q"; 2]);
}

#[test]
fn a_token_takes_experts_of_some_groups_and_those_of_all() {
    let grouped =
        json!({ "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "n_shared_experts": 2 });
    let routing = |architecture: &str, changes: Value| {
        let description = describe(architecture, latent(changes));
        assert!(matches!(description.layers[0].feed.inner, Feed::Gated(_)), "the first layer is dense");
        match description.layers[1].feed.inner.clone() {
            Feed::Experts(experts) => experts,
            Feed::Gated(_) => panic!("a layer without experts"),
        }
    };
    let of_2 = routing("deepseek_v2", grouped.clone());
    let groups = of_2.routing.groups.map(|groups| (groups.count, groups.chosen, groups.by));
    assert_eq!((groups, of_2.routing.sigmoid, of_2.routing.bias.is_some()), (Some((4, 2, 1)), false, false));
    assert_eq!(of_2.shared.map(|shared| shared.gated.down.inputs), Some(64));
    let of_3 = routing("deepseek_v3", json!({ "n_group": 2, "topk_group": 1, "routed_scaling_factor": 2.5 }));
    let groups = of_3.routing.groups.map(|groups| (groups.count, groups.chosen, groups.by));
    assert_eq!((groups, of_3.routing.sigmoid, of_3.routing.normalised), (Some((2, 1, 2)), true, true));
    assert_eq!((of_3.routing.scale, of_3.routing.bias.map(|bias| bias.length())), (2.5, Some(8)));
    let broken = latent(json!({ "n_group": 3 }));
    let error = Description::read(&config("deepseek_v3", broken), &|_| true).unwrap_err().to_string();
    assert!(error.contains("1 of 3 groups of 8 experts cannot give 3"), "{error}");
}

#[test]
fn layers_found_by_search_differ_and_leave_branches_out() {
    let blocks = |first: Value| {
        json!({
            "num_key_value_heads": null, "intermediate_size": null, "block_configs": [
                first, { "attention": { "n_heads_in_group": 4 }, "ffn": { "no_op": true } },
                { "attention": { "no_op": true }, "ffn": { "ffn_mult": 7.0 } },
            ],
        })
    };
    let plain = json!({ "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 1.0 } });
    let description = describe("nemotron-nas", blocks(plain));
    let cache = |kv_heads, layers| CacheShape { kv_heads, head_dim: 16, layers };
    assert_eq!(description.caches(), [cache(2, vec![0]), cache(1, vec![1])]);
    let widths = description.layers.iter().map(|layer| match layer.feed().map(|branch| &branch.inner) {
        Some(Feed::Gated(gated)) => Some((gated.gate_up.outputs(), gated.down.inputs)),
        _ => None,
    });
    assert_eq!(widths.collect::<Vec<_>>(), [Some((512, 256)), None, Some((1024, 512))]);
    assert!(!description.stacks().any(|stack| stack.parts[0].name.contains("layers.2.self_attn")));
    let linear = json!({ "attention": { "replace_with_linear": true }, "ffn": { "no_op": true } });
    let refused = |part: &str, key: &str, value: Value| {
        let mut first = json!({ "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 1.0 } });
        first[part][key] = value;
        Description::read(&config("nemotron-nas", blocks(first)), &|_| true).err().map(|error| error.to_string())
    };
    let error = Description::read(&config("nemotron-nas", blocks(linear)), &|_| true).unwrap_err();
    assert!(error.to_string().contains("replace_with_linear"), "{error}");
    for (part, key, value, words) in [
        ("attention", "mamba", json!({ "state_dim": 8 }), "mamba in block_configs"),
        ("attention", "llama4", json!({ "attention_chunk_size": 8 }), "llama4 in block_configs"),
        ("attention", "unshifted_sink", json!(true), "unshifted_sink in block_configs"),
        ("ffn", "hidden_act", json!("gelu"), "activation gelu in block_configs"),
        ("ffn", "gated", json!(false), "without a gate in block_configs"),
        ("ffn", "moe", json!({ "num_local_experts": 4 }), "moe in block_configs"),
        ("ffn", "intermediate_size", json!(512), "an ffn of 512, and by its ffn_mult for 256"),
    ] {
        let error = refused(part, key, value).unwrap();
        assert!(error.contains(words), "{error}");
    }
    for (part, key, value) in [
        ("attention", "mamba", Value::Null),
        ("attention", "unshifted_sink", json!(false)),
        ("ffn", "hidden_act", json!("silu")),
        ("ffn", "gated", json!(true)),
        ("ffn", "intermediate_size", json!(256)),
    ] {
        assert_eq!(refused(part, key, value), None, "{key}");
    }
}
