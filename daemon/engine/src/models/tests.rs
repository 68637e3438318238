//! Configurations become the right descriptions, and unsupported ones are refused by name.

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
    Description::read(&config(architecture, changes), true).unwrap()
}

fn windows(architecture: &str, changes: Value) -> Vec<Option<usize>> {
    describe(architecture, changes).layers.iter().map(|layer| layer.attention.window).collect()
}

#[test]
fn heads_are_shared_and_sized_as_the_file_says_or_else_evenly() {
    let attention = describe("llama", json!({})).attention();
    assert_eq!(attention, Attention { heads: 4, kv_heads: 4, head_dim: 16, window: None });
    let attention = describe("llama", json!({ "num_key_value_heads": 1, "head_dim": 32 })).attention();
    assert_eq!(attention, Attention { heads: 4, kv_heads: 1, head_dim: 32, window: None });
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
    let tied = |changes, has_head| Description::read(&config("llama", changes), has_head).unwrap().head.is_none();
    assert!(tied(json!({ "tie_word_embeddings": true }), true));
    assert!(!tied(json!({ "tie_word_embeddings": false }), false));
    assert!(tied(json!({}), false));
    assert!(!tied(json!({}), true));
}

#[test]
fn both_spellings_of_rope_are_read() {
    let old = json!({ "rope_theta": 5e5, "rope_scaling": { "type": "linear", "factor": 2.0 } });
    let new =
        json!({ "rope_theta": null, "rope_parameters": { "rope_theta": 5e5, "rope_type": "linear", "factor": 2.0 } });
    let expected = Rope { base: 5e5, scaling: Scaling::Linear { factor: 2.0 } };
    assert_eq!(describe("llama", old).rope, expected);
    assert_eq!(describe("llama", new).rope, expected);
}

#[test]
fn the_rope_base_has_a_default_only_where_the_family_has_one() {
    let absent = json!({ "rope_theta": null });
    assert_eq!(describe("llama", absent.clone()).rope.base, 1e4);
    let error = Description::read(&config("qwen3", absent), true).unwrap_err();
    assert!(error.to_string().contains("rope_theta is missing"), "{error}");
}

#[test]
fn yarn_reaches_past_the_first_context() {
    let yarn = describe("qwen2", json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 } }));
    assert_eq!(yarn.context, 4000);
    let magnitude = 0.1 * 4f64.ln() + 1.0;
    let expected = Scaling::Yarn { factor: 4.0, fast: 32.0, slow: 1.0, original: 1000.0, magnitude: Some(magnitude) };
    assert_eq!(yarn.rope.scaling, expected);
    assert_eq!(describe("llama", json!({ "rope_scaling": llama3() })).context, 1000);
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
        Description::read(&config("llama", json!({ "rope_scaling": scaling })), true).unwrap_err().to_string()
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
