//! Folders that lack something, hold too much or hold it in the wrong shape are refused by name.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::inspect;
use crate::native::{Linear, Pool, Precision};
use crate::random::{Recipe, TempFolder};

#[track_caller]
fn expect(dir: &Path, words: &[&str]) {
    let refusal = match inspect(dir) {
        Ok(facts) => panic!("the folder was accepted: {facts:?}"),
        Err(error) => error.to_string(),
    };
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal:?} does not say {words:?}");
}

/// Changes a key of `config.json` after the weights are written.
#[track_caller]
fn expect_of_config(key: &str, value: Value, words: &[&str]) {
    let dir = Recipe::tiny("qwen3", 1).temporary().unwrap();
    reconfigure(&dir, key, value);
    expect(dir.path(), words);
}

fn reconfigure(dir: &TempFolder, key: &str, value: Value) {
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn facts_are_told_without_loading() {
    let facts = inspect(Recipe::tiny("qwen3", 1).temporary().unwrap().path()).unwrap();
    // Embedding 288 × 64; a layer: qkv 256 × 64, output 64 × 128, gate, up and down 3 × 128 × 64, norms 2 × 64 + 2 × 32.
    let layer = 256 * 64 + 64 * 128 + 3 * 128 * 64 + 2 * 64 + 2 * 32;
    assert_eq!(facts.parameters, 288 * 64 + 2 * layer + 64);
    assert_eq!((facts.architecture.as_str(), facts.context_length, facts.vocabulary), ("qwen3", 4096, 288));
    assert_eq!(facts.kv_bytes_per_token, 2 * 2 * 2 * 32 * 2);
    assert_eq!(facts.weights, "bf16");
    assert!(facts.weights_bytes > 2 * facts.parameters);
    assert!(facts.capabilities.chat && facts.capabilities.tools && !facts.capabilities.reasoning);
}

#[test]
fn a_step_reads_the_weights_that_one_token_is_multiplied_by() {
    let step = |recipe: &Recipe| inspect(recipe.temporary().unwrap().path()).unwrap().step_bytes;
    let attention = 256 * 64 + 64 * 128;
    let dense = Recipe::tiny("qwen3", 1);
    let all = 2 * (288 * 64 + 2 * (attention + 3 * 128 * 64));
    assert_eq!(step(&dense), all);
    assert_eq!(step(&dense.clone().set("tie_word_embeddings", false)), all, "the head, and a row of the embedding");
    assert_eq!(step(&dense.set("torch_dtype", "float32")), all, "as it is served");
    // Two experts of six, and the router.
    let sparse = 2 * (288 * 64 + 2 * (attention + 6 * 64 + 2 * 3 * 64 * 64));
    assert_eq!(step(&Recipe::tiny("qwen3_moe", 1)), sparse);
    let quantized = Recipe::tiny("qwen3_moe", 1).quantized(4, 32);
    assert_eq!(step(&quantized), sparse / 2 * 5 / 8, "half a byte each, and four for every group");
    let wider = Recipe::tiny("qwen3_moe", 1).quantized(5, 32);
    assert_eq!(step(&wider), sparse / 2 * 9 / 8, "a byte each, as it is served");
    assert_eq!(step(&Recipe::tiny_encoder("bert", 1)), 0);
}

#[test]
fn weights_take_the_memory_that_packing_them_takes() {
    let (pool, precision) = (Pool::new(1), Precision::Fast);
    let packed = |matrix: &Matrix<'_>| {
        let dense = matrix.dense().map(|dense| Linear::from_dense(&dense, precision, &pool).unwrap().bytes());
        let affine = matrix.affine().map(|affine| Linear::from_affine(&affine, precision, &pool).unwrap().bytes());
        dense.or(affine).unwrap() as u64
    };
    let wide = |recipe: Recipe| recipe.set("hidden_size", 512).set("intermediate_size", 512).set("head_dim", 128);
    let check = |recipe: Recipe, of_the_files: std::ops::Range<f64>| {
        let dir = recipe.temporary().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let matrices = folder.description.stacks().flat_map(|stack| folder.matrices(stack).unwrap());
        let (told, taken) = (inspect(dir.path()).unwrap().memory_bytes, matrices.map(|it| packed(&it)).sum::<u64>());
        // What fills up a last tile or panel is not counted.
        assert!(told <= taken && taken - told < told / 20, "{told} told, {taken} taken");
        let share = told as f64 / folder.matrix_bytes().unwrap() as f64;
        assert!(of_the_files.contains(&share), "{share} of the files");
    };
    check(wide(Recipe::tiny("qwen3", 1)), 0.99..1.01);
    check(wide(Recipe::tiny("qwen3", 1).set("torch_dtype", "float32")), 0.49..0.51);
    check(wide(Recipe::tiny("llama", 1).quantized(4, 64)), 0.99..1.07);
    check(wide(Recipe::tiny("llama", 1).quantized(5, 64)), 1.5..1.6);
    let mxfp4 = json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" });
    check(Recipe::tiny("gpt_oss", 1).set("quantization", mxfp4), 2.0..2.2);
}

#[test]
fn weights_are_described_by_their_largest_part() {
    let recipe = Recipe::tiny("llama", 1).quantized(4, 64);
    assert_eq!(inspect(recipe.temporary().unwrap().path()).unwrap().weights, "4-bit, group 64");
    let mixed = recipe.set(
        "quantization",
        json!({
            "bits": 4, "group_size": 32, "model.embed_tokens": { "bits": 8, "group_size": 64 },
            "model.layers.0.self_attn.o_proj": false,
        }),
    );
    assert_eq!(inspect(mixed.temporary().unwrap().path()).unwrap().weights, "4-bit, group 32, mixed");
}

#[test]
fn folders_that_are_none_are_named() {
    let dir = TempFolder::new().unwrap();
    expect(&dir.path().join("absent"), &["there is no folder", "absent"]);
    expect(dir.path(), &["config.json is missing"]);
    for (text, word) in [
        ("", "not JSON"),
        ("[1]", "JSON object"),
        ("{\"model_type\": 3}", "not a string"),
        ("{}", "model_type is missing"),
    ] {
        fs::write(dir.path().join("config.json"), text).unwrap();
        expect(dir.path(), &["config.json is invalid", word]);
    }
    fs::write(dir.path().join("config.json"), [0xFF, 0xFE]).unwrap();
    expect(dir.path(), &["not UTF-8"]);
}

#[test]
fn unsupported_features_are_refused_by_name() {
    expect_of_config("model_type", json!("mamba"), &["model_type mamba", "llama, ministral, ministral3, mistral"]);
    expect_of_config("hidden_act", json!("gelu"), &["activation gelu"]);
    expect_of_config("rope_scaling", json!({ "type": "longrope", "factor": 2 }), &["short_factor is not a list"]);
    expect_of_config("rope_parameters", json!({ "rope_type": "ntk", "factor": 2 }), &["rope scaling ntk"]);
    expect_of_config("partial_rotary_factor", json!(0.5), &["partial_rotary_factor"]);
    expect_of_config("rope_traditional", json!(true), &["rope_traditional"]);
    expect_of_config("model_file", json!("model.py"), &["model.py"]);
    expect_of_config("layer_types", json!(["full_attention", "linear_attention"]), &["layer type linear_attention"]);
    expect_of_config("quantization", json!({ "bits": 7, "group_size": 64 }), &["7 bits", "2 to 6 or 8 bits"]);
    expect_of_config("quantization", json!({ "bits": 4, "group_size": 16 }), &["groups of 16"]);
    expect_of_config("quantization", json!({ "bits": 4, "group_size": 32, "mode": "nvfp4" }), &["mode nvfp4"]);
    let instead = ["quantization method gptq", "mlx-community", "models import"];
    expect_of_config("quantization_config", json!({ "quant_method": "gptq" }), &instead);
}

#[test]
fn impossible_shapes_are_refused_with_their_values() {
    expect_of_config("num_key_value_heads", json!(3), &["4 attention heads", "3 key and value heads"]);
    expect_of_config("head_dim", json!(33), &["head of 33"]);
    expect_of_config("hidden_size", json!(-4), &["hidden_size is -4"]);
    expect_of_config("hidden_size", json!(1u64 << 40), &["hidden_size"]);
    expect_of_config("num_hidden_layers", json!(100_000), &["num_hidden_layers is 100000"]);
    expect_of_config("rope_theta", json!("big"), &["rope_theta is \"big\""]);
    expect_of_config("rms_norm_eps", Value::Null, &["rms_norm_eps is missing"]);
    expect_of_config("layer_types", json!(["full_attention"]), &["lists 1 of 2 layers"]);
}

#[test]
fn tensors_that_disagree_with_the_configuration_are_named() {
    expect_of_config("num_hidden_layers", json!(3), &["tensor model.layers.2", "missing"]);
    expect_of_config("num_hidden_layers", json!(1), &["tensor model.layers.1", "no place"]);
    expect_of_config("vocab_size", json!(300), &["model.embed_tokens.weight", "[300, 64]", "[288, 64]"]);
    expect_of_config("model_type", json!("llama"), &["_norm.weight", "no place"]);
    expect_of_config("model_type", json!("qwen2"), &["tensor model.layers.0.self_attn.q_proj.bias is missing"]);
    expect_of_config("tie_word_embeddings", json!(false), &["tensor lm_head.weight is missing"]);
    let dir = Recipe::tiny("llama", 1).quantized(4, 64).temporary().unwrap();
    reconfigure(&dir, "quantization", json!({ "bits": 4, "group_size": 32 }));
    expect(dir.path(), &["embed_tokens.scales", "[288, 2]", "[288, 1]"]);
    reconfigure(&dir, "quantization", Value::Null);
    expect(dir.path(), &["embed_tokens.weight", "bf16, f16 or f32 [288, 64]", "u32 [288, 8]"]);
}

#[test]
fn a_missing_tokenizer_is_named() {
    let dir = Recipe::tiny("llama", 1).temporary().unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    expect(dir.path(), &["tokenizer.json is missing"]);
    fs::write(dir.path().join("tokenizer.model"), "").unwrap();
    expect(dir.path(), &["tokenizer.model alone is not enough"]);
    fs::write(dir.path().join("tekken.json"), "{}").unwrap();
    expect(dir.path(), &["tekken.json alone is not enough", "a conversion that has it"]);
}

#[test]
fn no_damaged_header_crashes_the_reader() {
    let dir = Recipe::tiny("qwen3", 1).quantized(4, 32).temporary().unwrap();
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let (mut refused, mut tried) = (0, 0);
    for index in (0..header).step_by(7) {
        let mut damaged = whole.clone();
        damaged[index] = damaged[index].wrapping_add(index as u8 % 9 + 1);
        fs::write(&path, damaged).unwrap();
        refused += usize::from(inspect(dir.path()).is_err());
        tried += 1;
    }
    assert!(refused * 10 > tried * 9, "only {refused} of {tried} damages were seen");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_by_its_name() {
    let files = ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"];
    for file in files.into_iter().chain(["generation_config.json", "chat_template.jinja"]) {
        let dir = Recipe::tiny("qwen3", 1).temporary().unwrap();
        let path = dir.path().join(file);
        let _ = fs::remove_file(&path);
        // Nobody ever writes into this pipe, so reading it would wait for ever.
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        expect(dir.path(), &[file, "it is not a regular file"]);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        expect(dir.path(), &[file, "it is not a regular file"]);
    }
}

#[test]
fn pointers_of_git_lfs_are_called_that() {
    for file in ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"] {
        let dir = Recipe::tiny("qwen3", 1).temporary().unwrap();
        fs::write(dir.path().join(file), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
        expect(dir.path(), &[file, "pointer of Git LFS", "git lfs pull"]);
    }
}

#[test]
fn an_adapter_is_no_model() {
    let dir = Recipe::tiny("qwen3", 1).temporary().unwrap();
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("adapter_model.safetensors")).unwrap();
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    expect(dir.path(), &["a LoRA adapter", "merge"]);
    fs::remove_file(dir.path().join("config.json")).unwrap();
    expect(dir.path(), &["a LoRA adapter", "merge"]);
}

#[test]
fn weights_that_another_tool_quantized_are_called_that() {
    let dir = Recipe::tiny("qwen3", 1).temporary().unwrap();
    let path = dir.path().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header = std::str::from_utf8(header).unwrap().replace("up_proj.weight", "up_proj.qweight");
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).unwrap();
    expect(dir.path(), &["GPTQ or AWQ", "up_proj.qweight", "mlx-community"]);
}
