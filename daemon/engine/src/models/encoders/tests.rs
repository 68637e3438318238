//! Folders become the right descriptions, and what no page handles is refused by name.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::encoder::Manner;
use crate::random::{Recipe, TempFolder};
use crate::{facts, inspect};

fn read(config: Value) -> Result<Encoder, LoadError> {
    let config = Config::from_json(config);
    Encoder::read(&config, &Settings::default(), &|_| false)
}

fn bert(changes: Value) -> Value {
    merged(
        json!({
            "model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 40,
        }),
        changes,
    )
}

fn merged(mut config: Value, changes: Value) -> Value {
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

#[track_caller]
fn expect(config: Value, words: &[&str]) {
    let refusal = read(config).unwrap_err().to_string();
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal:?} does not say {words:?}");
}

#[test]
fn what_no_page_handles_is_refused_by_name() {
    expect(bert(json!({ "position_embedding_type": "relative_key" })), &["position_embedding_type", "relative_key"]);
    expect(bert(json!({ "hidden_act": "mish" })), &["activation mish"]);
    expect(bert(json!({ "is_decoder": true })), &["is_decoder"]);
    expect(bert(json!({ "num_attention_heads": 5 })), &["64", "5 heads"]);
    expect(bert(json!({ "model_type": "mpnet" })), &["model_type mpnet", "nomic_bert"]);
    let classifier = json!({ "architectures": ["BertForSequenceClassification"], "id2label": { "0": "a", "1": "b" } });
    expect(bert(classifier), &["2 labels"]);
    let nomic = |changes| merged(bert(json!({ "model_type": "nomic_bert" })), changes);
    expect(nomic(json!({ "rotary_scaling_factor": 2 })), &["rotary_scaling_factor"]);
    expect(nomic(json!({ "num_experts": 8 })), &["num_experts"]);
    expect(nomic(json!({ "rotary_emb_fraction": 0.5 })), &["rotary_emb_fraction"]);
    let modern = |changes| merged(bert(json!({ "model_type": "modernbert" })), changes);
    expect(modern(json!({ "layer_types": ["full_attention", "chunked"] })), &["chunked"]);
    expect(modern(json!({ "rope_scaling": { "rope_type": "linear", "factor": 4.0 } })), &["rope_scaling"]);
    let decoder =
        |changes| merged(bert(json!({ "model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1e4 })), changes);
    expect(decoder(json!({ "use_bidirectional_attention": true })), &["use_bidirectional_attention"]);
    let slides = json!({ "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8 });
    expect(decoder(merged(slides, json!({ "is_causal": false }))), &["is_causal false with layers that slide"]);
}

#[test]
fn a_decoder_that_embeds_sees_ahead_only_if_its_file_says_so() {
    let ahead = |changes| {
        let config = bert(json!({ "model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1e4 }));
        read(merged(config, changes)).unwrap().layers.iter().map(|layer| layer.sight).collect::<Vec<_>>()
    };
    assert_eq!(ahead(json!({})), [Sight { window: None, ahead: 0 }; 2]);
    assert_eq!(ahead(json!({ "is_causal": false })), [Sight::ALL; 2]);
}

fn gemma(changes: Value) -> Value {
    let config = json!({ "model_type": "gemma3_text", "sliding_window": 16, "head_dim": 16, "num_hidden_layers": 3 });
    merged(merged(bert(config), json!({ "sliding_window_pattern": 3, "use_bidirectional_attention": true })), changes)
}

#[test]
fn a_gemma_that_sees_both_ways_sees_half_its_window_each_way() {
    let sights = |changes| read(gemma(changes)).unwrap().layers.iter().map(|layer| layer.sight).collect::<Vec<_>>();
    let near = |side| Sight { window: Some(side + 1), ahead: side };
    assert_eq!(sights(json!({})), [near(8), near(8), Sight::ALL]);
    assert_eq!(sights(json!({ "sliding_window": 17 }))[0], near(8), "of an odd window the half is rounded down");
    assert_eq!(sights(json!({ "sliding_window": 512 }))[0], near(256));
}

#[test]
fn a_gemma_that_was_trained_to_embed_is_told_from_one_that_talks() {
    let meant = |config| Encoder::is_meant(&Config::from_json(config), &Settings::default()).unwrap();
    assert!(meant(gemma(json!({}))));
    assert!(!meant(gemma(json!({ "use_bidirectional_attention": null }))));
    let score = json!({ "architectures": ["Gemma3TextForSequenceClassification"], "num_labels": 1 });
    expect(gemma(score), &["gemma3_text model that scores"]);
    expect(gemma(json!({ "is_causal": false })), &["is_causal false"]);
}

#[test]
fn words_of_a_gemma_that_embeds_grow_by_the_root_of_the_width_in_full() {
    let scale = read(gemma(json!({ "hidden_size": 96 }))).unwrap().scale;
    assert_eq!(scale, 96f32.sqrt());
    assert_eq!(read(bert(json!({}))).unwrap().scale, 1.0);
}

#[test]
fn positions_of_roberta_begin_after_the_padding_row() {
    let encoder = read(bert(json!({ "model_type": "xlm-roberta", "pad_token_id": 1 }))).unwrap();
    assert_eq!((encoder.context, encoder.positions.unwrap().first), (38, 2));
    expect(bert(json!({ "model_type": "roberta", "pad_token_id": 50 })), &["max_position_embeddings"]);
}

#[test]
fn nomic_speaks_gpt_2s_words_too() {
    let old = json!({
        "model_type": "nomic_bert", "n_embd": 64, "n_inner": 128, "n_layer": 2, "n_head": 4, "n_positions": 8192,
        "vocab_size": 100, "rotary_emb_base": 1000, "layer_norm_epsilon": 1e-12, "activation_function": "swiglu",
        "qkv_proj_bias": false, "type_vocab_size": 2, "rotary_emb_fraction": 1.0, "max_position_embeddings": null,
    });
    let new = bert(json!({ "model_type": "nomic_bert", "max_position_embeddings": 8192, "rope_theta": 1000.0 }));
    let (old, new) = (read(old).unwrap(), read(new).unwrap());
    assert_eq!(format!("{old:?}"), format!("{new:?}"));
    assert_eq!(old.context, 8192);
}

#[test]
fn every_third_layer_of_modernbert_sees_all() {
    let config = bert(json!({ "model_type": "modernbert", "num_hidden_layers": 5, "local_attention": 16 }));
    let encoder = read(config).unwrap();
    let sights: Vec<Sight> = encoder.layers.iter().map(|layer| layer.sight).collect();
    let near = Sight { window: Some(9), ahead: 8 };
    assert_eq!(sights, [Sight::ALL, near, near, Sight::ALL, near]);
    let bases: Vec<f64> = encoder.layers.iter().filter_map(|layer| Some(layer.rope.as_ref()?.base)).collect();
    assert_eq!(bases, [160_000.0, 10_000.0, 10_000.0, 160_000.0, 10_000.0]);
    assert!(encoder.layers[0].attention_norm.is_none() && encoder.layers[1].attention_norm.is_some());
}

fn embedder() -> TempFolder {
    Recipe::tiny_encoder("bert", 1).pooled("cls").temporary().unwrap()
}

fn pools(folder: &TempFolder) -> Option<Pooling> {
    Settings::open(folder.path()).unwrap().pooling
}

#[test]
fn pooling_is_read_in_both_of_its_forms() {
    let folder = embedder();
    assert_eq!(pools(&folder), Some(Pooling::First));
    let file = folder.path().join("1_Pooling/config.json");
    for (mode, expected) in [("mean", Pooling::Mean), ("cls", Pooling::First), ("lasttoken", Pooling::Last)] {
        fs::write(&file, json!({ "pooling_mode": mode }).to_string()).unwrap();
        assert_eq!(pools(&folder), Some(expected));
    }
    let bare = Recipe::tiny_encoder("bert", 1).temporary().unwrap();
    assert_eq!(pools(&bare), None);
}

#[test]
fn modules_that_would_change_the_vector_are_refused() {
    let folder = embedder();
    let refusal = |file: &str, content: Value| {
        fs::write(folder.path().join(file), content.to_string()).unwrap();
        inspect(folder.path()).unwrap_err().to_string()
    };
    let two = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true });
    assert!(refusal("1_Pooling/config.json", two).contains("cls_token with mean_tokens"));
    assert!(refusal("1_Pooling/config.json", json!({ "pooling_mode": "max" })).contains("pooling max"));
    let module =
        |kind: &str, path: &str| json!({ "type": format!("sentence_transformers.models.{kind}"), "path": path });
    let lstm = json!([module("LSTM", "2_LSTM")]);
    assert!(refusal("modules.json", lstm).contains("LSTM"));
    let outside = json!([{ "type": "sentence_transformers.models.Pooling", "path": "../other" }]);
    assert!(refusal("modules.json", outside).contains("modules.json"));
    assert!(refusal("modules.json", json!({})).contains("modules.json"));
    let lost = json!([{ "type": "sentence_transformers.models.Pooling", "path": "7_Pooling" }]);
    let lost = refusal("modules.json", lost);
    assert!(lost.contains("7_Pooling") && lost.contains("modules.json names it"), "{lost}");
}

/// The settings of a Dense module of a tiny embedder, and a change of them.
fn dense(changes: Value) -> Value {
    let identity = "torch.nn.modules.linear.Identity";
    let settings = json!({ "in_features": 64, "out_features": 32, "bias": false, "activation_function": identity });
    merged(settings, changes)
}

#[test]
fn a_vector_is_as_long_as_the_last_matrix_makes_it() {
    let recipe = Recipe::tiny_encoder("bert", 1).pooled("cls");
    let second = dense(json!({ "in_features": 32, "out_features": 48 }));
    let plain = inspect(recipe.temporary().unwrap().path()).unwrap();
    let folder = recipe.projected(vec![dense(json!({ "bias": true })), second]).temporary().unwrap();
    let facts = inspect(folder.path()).unwrap();
    assert_eq!((plain.dimensions, facts.dimensions), (Some(64), Some(48)));
    assert_eq!(facts.parameters - plain.parameters, 64 * 32 + 32 + 32 * 48, "the matrices count");
    assert_eq!(facts.memory_bytes - plain.memory_bytes, 2 * (64 * 32 + 32 * 48));
    assert!(facts.weights_bytes > plain.weights_bytes + 2 * (64 * 32 + 32 * 48), "and so do their files");
    fs::remove_file(folder.path().join("3_Dense/model.safetensors")).unwrap();
    let lost = inspect(folder.path()).unwrap_err().to_string();
    assert!(lost.contains("3_Dense/model.safetensors"), "{lost}");
}

#[test]
fn matrices_that_would_change_the_vector_otherwise_are_refused() {
    let refusal = |changes| {
        let folder =
            Recipe::tiny_encoder("bert", 1).pooled("cls").projected(vec![dense(json!({}))]).temporary().unwrap();
        fs::write(folder.path().join("2_Dense/config.json"), dense(changes).to_string()).unwrap();
        inspect(folder.path()).unwrap_err().to_string()
    };
    assert!(refusal(json!({ "activation_function": "torch.nn.modules.activation.ReLU" })).contains("activation.ReLU"));
    assert!(refusal(json!({ "use_residual": true })).contains("use_residual"));
    assert!(refusal(json!({ "module_input_name": "token_embeddings" })).contains("token_embeddings"));
    assert!(refusal(json!({ "in_features": 63 })).contains("reads 63 numbers of a vector of 64"));
    assert!(refusal(json!({ "out_features": 31 })).contains("2_Dense.linear"), "the file has another shape");
    assert!(refusal(json!({ "bias": true })).contains("2_Dense.linear.bias"));
    let order = |kinds: [&str; 3]| {
        let folder =
            Recipe::tiny_encoder("bert", 1).pooled("cls").projected(vec![dense(json!({}))]).temporary().unwrap();
        let module = |kind: &&str| {
            let path = if *kind == "Dense" { "2_Dense" } else { "1_Pooling" };
            json!({ "type": format!("sentence_transformers.models.{kind}"), "path": path })
        };
        let modules: Vec<Value> = kinds.iter().map(module).collect();
        fs::write(folder.path().join("modules.json"), json!(modules).to_string()).unwrap();
        inspect(folder.path()).map(|facts| facts.dimensions).map_err(|error| error.to_string())
    };
    assert_eq!(order(["Pooling", "Dense", "Normalize"]), Ok(Some(32)));
    assert!(order(["Dense", "Pooling", "Normalize"]).unwrap_err().contains("a Dense module before Pooling"));
    assert!(order(["Pooling", "Normalize", "Dense"]).unwrap_err().contains("a Dense module after Normalize"));
}

#[test]
fn an_embedding_gemma_is_read_as_published_and_as_converted() {
    let published = Recipe::tiny_embedding_gemma(1).temporary().unwrap();
    let converted = Recipe::tiny_embedding_gemma(1).quantized(8, 64).temporary().unwrap();
    assert!(!converted.path().join("2_Dense").exists(), "converters leave the folders of modules out");
    let [published_facts, converted_facts] = [&published, &converted].map(|folder| inspect(folder.path()).unwrap());
    assert_eq!(published_facts.parameters, converted_facts.parameters);
    assert_eq!((published_facts.dimensions, converted_facts.dimensions), (Some(64), Some(64)));
    assert!(published_facts.capabilities.embed && converted_facts.capabilities.embed);
    fs::remove_file(converted.path().join("model.safetensors")).unwrap();
    crate::foresee(converted.path()).unwrap();
    let refusal = || inspect(published.path()).unwrap_err().to_string();
    fs::remove_file(published.path().join("3_Dense/config.json")).unwrap();
    assert!(refusal().contains("3_Dense/config.json is missing; modules.json names it"), "{}", refusal());
    fs::remove_file(published.path().join("modules.json")).unwrap();
    assert!(refusal().contains("EmbeddingGemma without its modules.json"), "{}", refusal());
}

#[test]
fn an_embedding_gemma_saved_without_a_head_has_names_without_a_beginning() {
    let config = Config::from_json(gemma(json!({})));
    let settings = Settings { pooling: Some(Pooling::Mean), ..Settings::default() };
    let encoder = Encoder::read(&config, &settings, &|name| name == "embed_tokens.weight").unwrap();
    assert_eq!(encoder.words.parts[0].name, "embed_tokens");
    let norms: Vec<&str> = encoder.norms().map(|norm| norm.weight.name.as_str()).collect();
    assert!(
        norms.contains(&"layers.2.post_feedforward_layernorm.weight") && norms.contains(&"norm.weight"),
        "{norms:?}"
    );
}

#[test]
fn a_reranker_is_known_by_the_name_it_was_published_under() {
    let root = TempFolder::new().unwrap();
    let reranks = |path: &str| {
        let dir = root.path().join(path);
        Recipe::tiny("qwen3", 1).write(&dir).unwrap();
        facts(&dir).unwrap().capabilities.rerank
    };
    let commit = "6e9e69830b95c52b5fd889b7690dda3329508de3";
    assert!(reranks(&format!("hub/models--Qwen--Qwen3-Reranker-0.6B/snapshots/{commit}")));
    assert!(reranks("mlx/Qwen3-Reranker-4B-4bit"));
    assert!(!reranks(&format!("hub/models--Qwen--Qwen3-0.6B/snapshots/{commit}")));
    assert!(!reranks("Qwen3-Reranker-0.6B/other"));
}

#[test]
fn an_embedder_is_known_by_the_name_it_was_published_under() {
    let root = TempFolder::new().unwrap();
    let embeds = |path: &str, recipe: Recipe| {
        let dir = root.path().join(path);
        recipe.write(&dir).unwrap();
        facts(&dir).unwrap().capabilities.embed
    };
    let tiny = || Recipe::tiny("qwen3", 1);
    let commit = "6e9e69830b95c52b5fd889b7690dda3329508de3";
    assert!(embeds("mlx/Qwen3-Embedding-0.6B-4bit-DWQ", tiny().quantized(4, 64)));
    assert!(embeds(&format!("hub/models--mlx-community--Qwen3-Embedding-8B-mxfp8/snapshots/{commit}"), tiny()));
    assert!(!embeds("Qwen3-Embedding-0.6B/other", tiny()));
    assert!(!embeds("my-qwen3-embedding", Recipe::tiny("llama", 1)));
}

/// A judge that answers `a` or `e`, as sentence-transformers describes it.
fn judge(recipe: Recipe, answers: Value) -> TempFolder {
    let folder = recipe.temporary().unwrap();
    let modules = json!([
        { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer" },
        { "idx": 1, "name": "1", "path": "1_LogitScore",
          "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore" },
    ]);
    fs::write(folder.path().join("modules.json"), modules.to_string()).unwrap();
    fs::create_dir(folder.path().join("1_LogitScore")).unwrap();
    fs::write(folder.path().join("1_LogitScore/config.json"), answers.to_string()).unwrap();
    folder
}

#[test]
fn a_reranker_is_known_by_the_module_that_scores_its_words() {
    let recipe = Recipe::tiny("qwen3", 1);
    let words = recipe.clone().set("classifier_from_token", json!(["a", "e"]));
    let tokenizer = Tokenizer::open(recipe.temporary().unwrap().path()).unwrap();
    let [no, yes] = ["a", "e"].map(|word| tokenizer.token_id(word).unwrap());
    let told = json!({ "true_token_id": yes, "false_token_id": no });
    assert!(facts(judge(recipe.clone(), told.clone()).path()).unwrap().capabilities.rerank);
    let known = judge(words.clone(), told);
    assert!(inspect(known.path()).unwrap().capabilities.rerank && Manner::of(known.path()).unwrap().judges);
    let refusal = |recipe: &Recipe, answers| inspect(judge(recipe.clone(), answers).path()).unwrap_err().to_string();
    let swapped = refusal(&words, json!({ "true_token_id": no, "false_token_id": yes }));
    assert!(swapped.contains(&format!("LogitScore of token {no}")), "{swapped}");
    let alone = refusal(&words, json!({ "true_token_id": yes, "false_token_id": null }));
    assert!(alone.contains("false_token_id"), "{alone}");
    let other = refusal(&Recipe::tiny("qwen2", 1), json!({ "true_token_id": yes, "false_token_id": no }));
    assert!(other.contains("an encoder of model_type qwen2"), "{other}");
    let wordless = refusal(&recipe, json!({ "true_token_id": yes, "false_token_id": no }));
    assert!(wordless.contains("without the token yes"), "{wordless}");
}

#[test]
fn texts_are_put_as_the_folder_says() {
    let folder = embedder();
    let write = |file: &str, value: Value| fs::write(folder.path().join(file), value.to_string()).unwrap();
    let put = || Manner::of(folder.path()).map(|manner| manner.put("A Text"));
    let prompts =
        |name: Value| json!({ "prompts": { "query": "Find: ", "document": "" }, "default_prompt_name": name });
    write("config_sentence_transformers.json", prompts(Value::Null));
    assert_eq!(put().unwrap(), "A Text");
    write("config_sentence_transformers.json", prompts(json!("query")));
    assert_eq!(put().unwrap(), "Find: A Text");
    write("sentence_bert_config.json", json!({ "do_lower_case": true, "max_seq_length": 40 }));
    assert_eq!(put().unwrap(), "find: a text");
    fs::remove_file(folder.path().join("sentence_bert_config.json")).unwrap();
    write("sentence_xlm-roberta_config.json", json!({ "do_lower_case": true }));
    assert_eq!(put().unwrap(), "find: a text", "its older names count too");
    write("1_Pooling/config.json", json!({ "pooling_mode_cls_token": true, "include_prompt": false }));
    assert!(put().err().unwrap().to_string().contains("include_prompt false"));
    write("config_sentence_transformers.json", prompts(json!("clustering")));
    assert!(put().err().unwrap().to_string().contains("default_prompt_name clustering"));
    let reranker = Recipe::tiny_encoder("bert", 1).set("architectures", json!(["BertForSequenceClassification"]));
    let reranker = reranker.temporary().unwrap();
    let modules = json!([{ "path": "", "type": "sentence_transformers.models.Transformer" }]);
    fs::write(reranker.path().join("modules.json"), modules.to_string()).unwrap();
    fs::write(reranker.path().join("sentence_bert_config.json"), json!({ "do_lower_case": true }).to_string()).unwrap();
    assert!(inspect(reranker.path()).unwrap_err().to_string().contains("do_lower_case"));
}
