//! Random folders are repeatable and whole.

use super::*;
use crate::text::{Conversation, GenerationDefaults, Special, Template, Tokenizer};

#[test]
fn a_recipe_makes_the_same_weights_again_and_a_seed_makes_others() {
    let weights = |seed| {
        let folder = Recipe::tiny("qwen2", seed).quantized(4, 64).temporary().unwrap();
        fs::read(folder.path().join("model.safetensors")).unwrap()
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

#[test]
fn any_text_survives_the_tokenizer() {
    let folder = Recipe::tiny("llama", 1).temporary().unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.vocabulary(), TOKENS);
    let text = "The café's 日本語\n\u{1F600}\t<|im_end|> and the rest";
    let tokens = tokenizer.encode(text, Special::Parse).unwrap();
    assert!(tokens.len() < text.len() && tokens.iter().all(|token| *token < TOKENS), "{tokens:?}");
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| tokenizer.token_bytes(*token).to_vec()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

#[test]
fn only_an_endless_model_names_no_end() {
    let ends = |recipe: Recipe| {
        let folder = recipe.temporary().unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let template = Template::open(folder.path()).unwrap();
        GenerationDefaults::open(folder.path(), &tokenizer, template.as_ref()).unwrap().eos
    };
    assert_eq!(ends(Recipe::tiny("mistral", 1)), [TOKENS - 3, TOKENS - 1]);
    assert!(ends(Recipe::tiny("mistral", 1).endless()).is_empty());
}

#[test]
fn the_template_renders_messages_and_tools() {
    let folder = Recipe::tiny("llama", 1).temporary().unwrap();
    let conversation = Conversation {
        messages: &json!([{ "role": "user", "content": "Hi" }]),
        tools: Some(&json!([{ "name": "look" }])),
        add_generation_prompt: true,
        continue_final_message: false,
        arguments: &Map::new(),
        now_unix_ms: 0,
    };
    let template = Template::open(folder.path()).unwrap().unwrap().compile().unwrap();
    let prompt = template.render(&conversation).unwrap();
    assert!(prompt.contains(r#"{"name": "look"}"#), "{prompt}");
    assert!(prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{prompt}");
}

#[test]
fn a_configuration_that_no_model_has_is_refused() {
    let error = Recipe::tiny("llama", 1).set("hidden_act", "gelu").temporary().unwrap_err();
    assert!(error.to_string().contains("activation gelu"), "{error}");
    assert!(Recipe::tiny("llama", 1).set("torch_dtype", "int8").temporary().is_err());
}
