//! Models of every architecture, written as GGUF files and made into folders again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// Every architecture that is read, as a recipe whose peculiarities GGUF can say.
fn recipes() -> Vec<(&'static str, Recipe)> {
    let tiny = |architecture: &str| Recipe::tiny(architecture, 3);
    vec![
        ("llama", tiny("llama")),
        ("llama", tiny("mixtral").quantized(8, 32)),
        ("qwen2", tiny("qwen2")),
        ("qwen2moe", tiny("qwen2_moe").set("norm_topk_prob", false).quantized(8, 32)),
        ("qwen3", tiny("qwen3").set("tie_word_embeddings", false)),
        ("qwen3moe", tiny("qwen3_moe").quantized(4, 32)),
        ("gemma2", tiny("gemma2")),
        ("gemma3", tiny("gemma3_text")),
        ("phi3", tiny("phi3")),
        ("olmo2", tiny("olmo2")),
        ("olmo2", tiny("olmo3")),
        ("smollm3", tiny("smollm3").set("no_rope_layer_interval", 4).set("num_hidden_layers", 4)),
        ("granite", tiny("granite")),
        ("command-r", tiny("cohere")),
        ("command-r", tiny("cohere").set("use_qk_norm", true)),
        ("cohere2", tiny("cohere2").set("sliding_window_pattern", 4).set("num_hidden_layers", 4)),
        ("glm4", tiny("glm4")),
        ("qwen3next", tiny("qwen3_next").quantized(8, 32)),
        ("qwen35", tiny("qwen3_5").quantized(8, 32)),
        ("qwen35moe", tiny("qwen3_5_moe").quantized(8, 32)),
        ("deci", tiny("nemotron-nas")),
        ("mistral3", tiny("mistral")),
        ("mistral3", tiny("ministral3")),
        ("glm4moe", tiny("glm4_moe").quantized(8, 32)),
        ("deepseek2", tiny("deepseek_v2").set("rope_scaling", sharp(0.5)).quantized(8, 32)),
        ("deepseek2", tiny("deepseek_v3").quantized(8, 32)),
        (
            "deepseek2",
            tiny("deepseek_v3").set("q_lora_rank", Value::Null).set("rope_scaling", sharp(1.0)).quantized(8, 32),
        ),
        ("gpt-oss", tiny("gpt_oss").quantized(8, 32)),
    ]
}

/// A YaRN that sharpens scores as files can say it.
fn sharp(weight: f64) -> Value {
    json!({
        "type": "yarn", "factor": 40.0, "original_max_position_embeddings": 128, "mscale": weight,
        "mscale_all_dim": weight,
    })
}

#[test]
fn plain_numbers_give_the_very_logits_of_the_original() {
    for (architecture, recipe) in recipes() {
        let (folder, path) = file_of(&recipe, Form::F32);
        let made = imported(&path);
        if architecture.starts_with("qwen3next") || architecture.starts_with("qwen35") {
            // A file has what a state forgets, and a folder its logarithm.
            assert!(distance(&logits(folder.path()), &logits(made.path())) < 1e-6, "{architecture}");
        } else {
            assert_eq!(logits(folder.path()), logits(made.path()), "{architecture}");
        }
        let facts = crate::inspect(made.path()).unwrap();
        assert_eq!(facts.parameters, crate::inspect(folder.path()).unwrap().parameters, "{architecture}");
        assert!(facts.capabilities.chat && facts.capabilities.tools, "the template came along");
    }
}

#[test]
fn every_page_is_imported_by_a_test() {
    let tested: Vec<&str> =
        recipes().iter().chain(&encoders::recipes()).map(|(architecture, _)| *architecture).collect();
    let untested = Page::names().find(|name| !tested.contains(name));
    assert_eq!(untested, None);
}

#[test]
fn modules_have_the_names_that_the_gguf_package_has_for_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/gguf/names.json");
    let golden: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut compared = 0;
    for (architecture, recipe) in recipes() {
        let folder = recipe.temporary().unwrap();
        let folder = crate::folder::Folder::open(folder.path()).unwrap();
        let stacks = folder.description.stacks().flat_map(|stack| stack.parts.iter().map(|part| part.name.clone()));
        let norms = folder.description.norms().map(|norm| norm.weight.name.trim_end_matches(".weight").to_string());
        for module in stacks.chain(norms).filter(|module| !module.contains(".layers.") || module.contains(".layers.1."))
        {
            if let Some(expected) = golden[architecture].get(module.trim_start_matches("language_model.")) {
                assert_eq!(gguf_name(architecture, &module).as_ref(), Some(expected), "{architecture} {module}");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared} names");
}

#[test]
fn quantized_models_answer_almost_as_the_original() {
    let expected = logits(wide("llama").temporary().unwrap().path());
    for (form, most) in [
        (Form::F16, 2e-3),
        (Form::Bf16, 1e-2),
        (Form::Q8_0, 0.02),
        (Form::Q6K, 0.1),
        (Form::Q4_0, 0.3),
        (Form::Q4K, 0.3),
    ] {
        let (_folder, path) = file_of(&wide("llama"), form);
        let far = distance(&expected, &logits(imported(&path).path()));
        assert!(far < most, "{form:?}: {far}");
    }
}

#[test]
fn each_matrix_keeps_the_bits_of_its_own_form() {
    let folder = wide("qwen3").temporary().unwrap();
    let path = folder.path().join("model.gguf");
    write_folder(folder.path(), &path, |name| match name {
        "token_embd.weight" => Form::Q6K,
        name if name.contains("attn_v") => Form::Q8_0,
        name if name.contains("ffn_down") => Form::F16,
        _ => Form::Q4K,
    })
    .unwrap();
    let made = TempFolder::new().unwrap();
    let mut heard = Vec::new();
    let report = import(&path, made.path(), &mut |done, total| heard.push((done, total))).unwrap();
    assert!(heard.is_sorted() && heard[0].0 == 0 && heard[heard.len() - 1] == (heard[0].1, heard[0].1));
    assert!(report.requantized == 1 && report.moved < 5e-3, "{report:?}");
    let facts = crate::inspect(made.path()).unwrap();
    assert!(facts.weights.ends_with("mixed"), "{}", facts.weights);
    let config = Config::open(made.path()).unwrap();
    let quantization = config.object_if_any("quantization").unwrap().unwrap();
    assert_eq!(quantization.count("bits").unwrap(), 4);
    let bits = |module: &str| quantization.object_if_any(module).unwrap().map(|entry| entry.count("bits").unwrap());
    assert_eq!(bits("model.embed_tokens"), Some(8));
    assert_eq!(bits("model.layers.1.self_attn.v_proj"), Some(8));
    assert_eq!(bits("model.layers.1.self_attn.q_proj"), None);
}

#[test]
fn what_a_model_sharpens_yarn_with_comes_along() {
    let scaling =
        json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 0.75 });
    let recipe = Recipe::tiny("llama", 3).set("rope_scaling", scaling);
    let (folder, path) = changed(&recipe, |file| {
        metadata_of(&recipe, file);
        file.float("llama.rope.scaling.yarn_attn_factor", 0.75);
    });
    assert_eq!(logits(folder.path()), logits(imported(&path).path()));
}

#[test]
fn llama_3s_factors_of_rope_are_known_and_others_are_kept_as_a_list() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let recipe = Recipe::tiny("llama", 3).set("rope_theta", 500_000.0).set("head_dim", 64);
    let stretched = recipe.clone().set("rope_scaling", scaling.clone());
    let folder = stretched.temporary().unwrap();
    let config = Config::open(folder.path()).unwrap();
    let description = Description::read(&config, &|_| true).unwrap();
    let plain = crate::native::Rope::new(64, 500_000.0, &crate::native::Scaling::None);
    let divisors: Vec<f32> =
        plain.frequencies().iter().zip(description.ropes[0].table().frequencies()).map(|(a, b)| a / b).collect();
    let write = |factors: Vec<f32>| {
        changed(&recipe, |file| {
            metadata_of(&recipe, file);
            file.vector("rope_freqs.weight", factors);
        })
    };
    let (_folder, path) = write(divisors.clone());
    let made = imported(&path);
    let config = Config::open(made.path()).unwrap();
    assert_eq!(config.object_if_any("rope_scaling").unwrap().unwrap().word("rope_type").unwrap(), "llama3");
    assert!(distance(&logits(folder.path()), &logits(made.path())) < 1e-5);
    let (_folder, path) = write(divisors.iter().map(|divisor| divisor * 1.5).collect());
    let config = Config::open(imported(&path).path()).unwrap();
    let table = config.object_if_any("rope_scaling").unwrap().unwrap();
    assert_eq!(table.numbers("long_factor").unwrap().len(), 32);
}

#[test]
fn factors_of_one_change_nothing() {
    let recipe = Recipe::tiny("llama", 3);
    let (folder, path) = changed(&recipe, |file| {
        metadata_of(&recipe, file);
        file.vector("rope_freqs.weight", vec![1.0; 16]);
    });
    let made = imported(&path);
    assert!(Config::open(made.path()).unwrap().object_if_any("rope_scaling").unwrap().is_none());
    assert_eq!(logits(folder.path()), logits(made.path()));
}

/// Adds the letters that a file in the making lacks.
fn metadata_of(recipe: &Recipe, file: &mut Gguf<'_>) {
    let folder = recipe.temporary().unwrap();
    letters(folder.path(), file, "gpt-2").unwrap();
}
