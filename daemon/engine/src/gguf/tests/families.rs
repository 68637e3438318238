//! What single families say or leave out: layers that guess ahead, groups of experts, heads of values, blocks that differ.

use serde_json::{Value, json};

use super::*;
use crate::gguf::pages::Values;
use crate::gguf::weights::{Layout, Order};
use crate::native::DeltaShape;

/// A file with letters, after a change.
fn whole(recipe: &Recipe, change: impl FnOnce(&mut Gguf<'_>)) -> (TempFolder, PathBuf) {
    changed(recipe, |file| {
        let folder = recipe.temporary().unwrap();
        letters(folder.path(), file, "gpt-2").unwrap();
        change(file);
    })
}

/// A file with letters, and these bytes in the place of those that lie `after` the end of the first `find`.
fn patched(recipe: &Recipe, find: &[u8], after: usize, bytes: &[u8]) -> (TempFolder, PathBuf) {
    let (folder, path) = whole(recipe, |_| {});
    let mut all = fs::read(&path).unwrap();
    let at = all.windows(find.len()).position(|window| window == find).unwrap() + find.len() + after;
    all[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(&path, all).unwrap();
    (folder, path)
}

#[track_caller]
fn says(recipe: &Recipe, change: impl FnOnce(&mut Gguf<'_>), words: &str) {
    let (_folder, path) = whole(recipe, change);
    let refusal = refusal(&path);
    assert!(refusal.contains(words), "{refusal:?} does not say {words}");
}

#[test]
fn layers_that_guess_ahead_are_left_out() {
    for (architecture, quantized) in [("glm4_moe", true), ("deepseek_v3", true), ("qwen3_5", true), ("glm4", false)] {
        let recipe = Recipe::tiny(architecture, 3);
        let recipe = if quantized { recipe.quantized(8, 32) } else { recipe };
        let guessing = recipe.clone().set("num_nextn_predict_layers", 1);
        let last = if architecture == "qwen3_5" { 3 } else { 2 };
        let (folder, path) = whole(&guessing, |file| {
            file.vector(&format!("blk.{last}.nextn.eh_proj.weight"), vec![1.0; 8]);
            file.vector(&format!("blk.{last}.attn_norm.weight"), vec![1.0; 8]);
        });
        let made = imported(&path);
        assert!(distance(&logits(folder.path()), &logits(made.path())) < 1e-6, "{architecture}");
        let outside = format!("blk.{}.attn_norm.weight", last + 1);
        says(&guessing, |file| file.vector(&outside, vec![1.0; 8]), &outside);
    }
}

#[test]
fn a_file_whose_every_layer_guesses_is_refused() {
    let (_folder, path) = patched(&Recipe::tiny("llama", 3), b"llama.nextn_predict_layers\x04\0\0\0", 0, &[2]);
    let refusal = refusal(&path);
    assert!(refusal.contains("of its 2 layers 2 guess tokens ahead"), "{refusal}");
}

#[test]
fn experts_of_which_a_file_does_not_say_the_groups_are_refused_where_they_had_some() {
    let of = |experts: u32| {
        let recipe = Recipe::tiny("deepseek_v3", 3).set("n_routed_experts", experts).set("moe_intermediate_size", 32);
        recipe.set("n_group", Value::Null).set("topk_group", Value::Null).quantized(8, 32)
    };
    says(&of(160), |_| {}, "160 experts that does not say in which groups");
    let (folder, path) = whole(&of(128), |_| {});
    assert_eq!(logits(folder.path()), logits(imported(&path).path()));
}

#[test]
fn ways_to_choose_experts_that_a_family_lacks_are_refused_by_name() {
    let gate = |architecture: &str, function: u8, says: &str| {
        let recipe = Recipe::tiny(architecture, 3).quantized(8, 32);
        let (_folder, path) = patched(&recipe, b"expert_gating_func\x04\0\0\0", 0, &[function]);
        let refusal = refusal(&path);
        assert!(refusal.contains(says), "{refusal}");
    };
    gate("deepseek_v3", 4, "expert_gating_func 4");
    gate("glm4_moe", 1, "glm4moe that are chosen by softmax");
    gate("deepseek_v3", 1, "norm_topk_prob in deepseek_v2");
}

#[test]
fn glm_is_told_from_deepseek_by_its_letters() {
    let recipe = Recipe::tiny("glm4_moe_lite", 3).set("rms_norm_eps", 1e-2).quantized(8, 32);
    let (folder, path) = changed(&recipe, |file| {
        let folder = recipe.temporary().unwrap();
        letters(folder.path(), file, "glm4").unwrap();
    });
    let made = imported(&path);
    assert_eq!(Config::open(made.path()).unwrap().word("model_type").unwrap(), "glm4_moe_lite");
    assert_eq!(logits(folder.path()), logits(made.path()));
}

#[test]
fn a_delta_net_that_first_converters_wrote_in_one_matrix_is_read() {
    let recipe = Recipe::tiny("qwen3_next", 3).quantized(8, 32);
    let folder = recipe.temporary().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = of_folder_since(folder.path(), |_| Form::F32, false).unwrap();
    letters(folder.path(), &mut file, "gpt-2").unwrap();
    file.write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(12).any(|window| window == b"blk.0.ssm_in") && !bytes.windows(8).any(|w| w == b"attn_qkv"));
    assert!(distance(&logits(folder.path()), &logits(imported(&path).path())) < 1e-6);
}

#[test]
fn files_may_list_the_layers_that_keep_a_state() {
    let types = json!(["full_attention", "linear_attention", "full_attention"]);
    let recipe = Recipe::tiny("qwen3_next", 3).set("layer_types", types).quantized(8, 32);
    let (folder, path) =
        whole(&recipe, |file| file.numbers("qwen3next.attention.recurrent_layers", [0, 1, 0].into_iter()));
    assert!(distance(&logits(folder.path()), &logits(imported(&path).path())) < 1e-6);
    let short = |file: &mut Gguf<'_>| file.numbers("qwen3next.attention.recurrent_layers", [0, 1].into_iter());
    says(&recipe, short, "list of recurrent layers has 2 of 3");
}

#[test]
fn heads_of_values_are_put_back_in_blocks_of_columns_too() {
    let recipe = Recipe::tiny("qwen3_5", 3).set("hidden_size", 256).set("intermediate_size", 256).set("head_dim", 64);
    let recipe = recipe.set("linear_value_head_dim", 64).quantized(8, 32);
    let import = |form: Form| {
        let folder = recipe.temporary().unwrap();
        let path = folder.path().join("model.gguf");
        write_folder(folder.path(), &path, |name| if name.contains("ssm_out") { form } else { Form::F32 }).unwrap();
        distance(&logits(folder.path()), &logits(imported(&path).path()))
    };
    let (exact, eight, four) = (import(Form::F32), import(Form::Q8_0), import(Form::Q4K));
    assert!(exact < 1e-6 && eight < 2e-2 && four < 2e-1, "{exact} {eight} {four}");
    // Each tensor has bits of its own, those of one projection too.
    let mixed = |forms: [Form; 5]| {
        let folder = recipe.temporary().unwrap();
        let path = folder.path().join("model.gguf");
        let form = |name: &str| match name.split('.').nth(2) {
            Some("attn_qkv") => forms[0],
            Some("attn_gate") => forms[1],
            Some("ssm_alpha") => forms[2],
            Some("ssm_beta") => forms[3],
            _ => forms[4],
        };
        write_folder(folder.path(), &path, form).unwrap();
        distance(&logits(folder.path()), &logits(imported(&path).path()))
    };
    let mixed = mixed([Form::Q8_0, Form::Q8_0, Form::F16, Form::F32, Form::F32]);
    assert!(mixed < 8e-2, "{mixed}");
    let narrow = Recipe::tiny("qwen3_5", 3).set("linear_value_head_dim", 16).quantized(8, 32);
    let folder = narrow.temporary().unwrap();
    let path = folder.path().join("model.gguf");
    write_folder(folder.path(), &path, |name| if name.contains("ssm_out") { Form::Q8_0 } else { Form::F32 }).unwrap();
    let refusal = refusal(&path);
    assert!(refusal.contains("ssm_out.weight in quantized form, whose heads"), "{refusal}");
}

#[test]
fn rows_are_found_where_converters_put_them() {
    let page = |architecture| Page::named(architecture).unwrap();
    let shape = DeltaShape { key_heads: 2, value_heads: 6, key_dim: 1, value_dim: 2, kernel: 4, grouped: false };
    let rows = |architecture, name: &str, count: usize| -> Vec<usize> {
        let layout = Layout::of(page(architecture), Some(8), Some(shape), name);
        (0..count).map(|row| layout.rows.source(row)).collect()
    };
    assert_eq!(rows("llama", "model.layers.0.self_attn.q_proj", 8), [0, 2, 4, 6, 1, 3, 5, 7]);
    assert_eq!(rows("qwen3", "model.layers.0.self_attn.q_proj", 8), [0, 1, 2, 3, 4, 5, 6, 7]);
    // Three heads of values for each of two heads of keys: 0 2 4 are the first's.
    let layer = "language_model.model.layers.0.linear_attn";
    assert_eq!(rows("qwen35", &format!("{layer}.A_log"), 6), [0, 2, 4, 1, 3, 5]);
    assert_eq!(rows("qwen35", &format!("{layer}.in_proj_z"), 12), [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]);
    let queries = [0, 1, 2, 3, 4, 5, 8, 9, 12, 13, 6, 7, 10, 11, 14, 15];
    assert_eq!(rows("qwen35", &format!("{layer}.in_proj_qkv"), 16), queries);
    assert_eq!(rows("qwen35", &format!("{layer}.conv1d.weight"), 16), queries);
    let layer = "model.layers.0.linear_attn";
    assert_eq!(rows("qwen3next", &format!("{layer}.in_proj_b"), 6), [0, 1, 2, 6, 7, 8]);
    assert_eq!(rows("qwen3next", &format!("{layer}.in_proj_a"), 6), [3, 4, 5, 9, 10, 11]);
    assert!(page("qwen3next").values == Values::Paired && Layout::SAME.rows == Order::Same);
}

#[test]
fn a_state_that_would_grow_is_refused() {
    let decays = |file: &mut Gguf<'_>, decays: [f32; 4]| {
        file.remove("blk.0.ssm_a");
        file.vector("blk.0.ssm_a", decays.to_vec());
    };
    let recipe = Recipe::tiny("qwen3_5", 3).quantized(8, 32);
    says(&recipe, |file| decays(file, [-1.0, -0.5, 0.25, -1.0]), "a state that changes by 0.25");
    says(&recipe, |file| decays(file, [-1.0, f32::NAN, -0.25, -1.0]), "a state that changes by NaN");
}

#[test]
fn blocks_that_no_configuration_can_say_are_refused_by_name() {
    let nas = |blocks: Value| Recipe::tiny("nemotron-nas", 3).set("num_hidden_layers", 2).set("block_configs", blocks);
    let recipe = nas(json!([
        { "attention": { "n_heads_in_group": 2 }, "ffn": { "ffn_mult": 1.5 } },
        { "attention": { "n_heads_in_group": 4 }, "ffn": { "ffn_mult": 3.0 } },
    ]));
    let listed = |find: &[u8], entry: usize, value: i32, words: &str| {
        let (_folder, path) = patched(&recipe, find, 16 + 4 * entry, &value.to_le_bytes());
        let refusal = refusal(&path);
        assert!(refusal.contains(words), "{refusal}");
    };
    listed(b"deci.attention.head_count_kv", 1, 0, "layer 1, where a matrix replaces attention");
    listed(b"deci.attention.head_count_kv", 1, 3, "layer 1 has 4 heads that share 3");
    listed(b"deci.feed_forward_length", 0, 100, "layer 0, whose MLP is 100 wide");
}

#[test]
fn queries_that_grow_without_yarn_are_refused() {
    let grow = |file: &mut Gguf<'_>| file.float("mistral3.attention.temperature_scale", 0.1);
    says(&Recipe::tiny("mistral", 3), grow, "attention.temperature_scale without yarn");
}

#[test]
fn a_number_for_each_layer_is_one_where_all_are_alike() {
    let kv = |list: [i32; 2]| {
        let recipe = Recipe::tiny("granite", 3).set("num_key_value_heads", Value::Null);
        let recipe = recipe.set("num_attention_heads", 2);
        whole(&recipe, |file| {
            file.numbers("granite.attention.head_count_kv", list.into_iter());
            // Granite 4's dense files have sizes of layers that they do not have.
            file.number("granite.ssm.conv_kernel", 4);
            file.number("granite.ssm.inner_size", 256);
        })
    };
    let (folder, path) = kv([2, 2]);
    assert_eq!(logits(folder.path()), logits(imported(&path).path()));
    let (_folder, path) = kv([2, 1]);
    let refusal = refusal(&path);
    assert!(refusal.contains("head_count_kv with a number for each layer"), "{refusal}");
}

#[test]
fn a_decoder_that_embeds_comes_without_what_scores_tokens() {
    let recipe = Recipe::tiny("qwen3", 3).set("tie_word_embeddings", false).pooled("lasttoken");
    let (_folder, path) = whole(&recipe, |file| file.vector("output.weight", vec![1.0; 8]));
    assert!(!crate::inspect(imported(&path).path()).unwrap().capabilities.chat);
    says(&recipe, |file| file.vector("output.bias", vec![1.0; 8]), "tensor output.bias");
}
