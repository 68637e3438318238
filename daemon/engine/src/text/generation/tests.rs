//! Folders as publishers leave them.

use super::*;
use crate::text::tokenizer::samples::{Folder, byte_level};

fn defaults(files: &[(&str, &str)]) -> Result<GenerationDefaults, TextError> {
    let tokenizer = byte_level().to_string();
    let mut all = vec![("tokenizer.json", tokenizer.as_str())];
    all.extend(files);
    let folder = Folder::new(&all);
    let template = Template::open(folder.path())?;
    GenerationDefaults::open(folder.path(), &Tokenizer::open(folder.path())?, template.as_ref())
}

#[test]
fn end_tokens_are_gathered_from_every_file() {
    let found = defaults(&[
        ("generation_config.json", r#"{"eos_token_id": [265, 7]}"#),
        ("config.json", r#"{"eos_token_id": 5, "text_config": {"eos_token_id": [5, 6]}}"#),
        ("tokenizer_config.json", r#"{"eos_token": {"content": "<|endoftext|>"}}"#),
        ("chat_template.jinja", "{{ messages }}<|im_end|>"),
    ]);
    assert_eq!(found.unwrap().eos, [5, 6, 7, 264, 265, 266]);
}

#[test]
fn an_empty_folder_says_nothing() {
    assert_eq!(defaults(&[]).unwrap(), GenerationDefaults::default());
}

#[test]
fn sampling_is_read() {
    let sound = r#"{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0, "repetition_penalty": 1.05,
        "typical_p": 0.9, "min_new_tokens": 3, "stop_strings": ["STOP", "END"]}"#;
    let found = defaults(&[("generation_config.json", sound)]).unwrap();
    assert_eq!((found.temperature, found.top_p, found.top_k), (Some(0.6), Some(0.95), Some(20)));
    assert_eq!((found.min_p, found.repetition_penalty), (Some(0.0), Some(1.05)));
    assert_eq!((found.typical_p, found.min_tokens), (Some(0.9), Some(3)));
    assert_eq!(found.stop_strings, ["STOP", "END"]);
    assert_eq!(defaults(&[("generation_config.json", r#"{"stop_strings": "."}"#)]).unwrap().stop_strings, ["."]);
    let idle = r#"{"num_beams": 1, "no_repeat_ngram_size": 0, "suppress_tokens": [], "min_length": 0}"#;
    assert_eq!(defaults(&[("generation_config.json", idle)]).unwrap(), GenerationDefaults::default());
    let unsaid = r#"{"temperature": null, "top_k": null, "eos_token_id": null}"#;
    assert_eq!(defaults(&[("generation_config.json", unsaid)]).unwrap(), GenerationDefaults::default());
}

#[test]
fn a_setting_that_makes_no_sense_is_named() {
    let cases = [
        ("generation_config.json", r#"{"temperature": -1}"#, "temperature is -1"),
        ("generation_config.json", r#"{"top_p": 0}"#, "top_p is 0, and must be a number above 0 and at most 1"),
        ("generation_config.json", r#"{"top_p": 1.5}"#, "top_p is 1.5"),
        ("generation_config.json", r#"{"top_k": "x"}"#, "top_k is \"x\""),
        ("generation_config.json", r#"{"top_k": 1.5}"#, "top_k is 1.5"),
        ("generation_config.json", r#"{"min_p": 2}"#, "min_p is 2"),
        ("generation_config.json", r#"{"repetition_penalty": 0}"#, "repetition_penalty is 0"),
        ("generation_config.json", r#"{"eos_token_id": "x"}"#, "eos_token_id holds \"x\""),
        ("generation_config.json", r#"{"eos_token_id": [5, -1]}"#, "eos_token_id holds -1"),
        ("generation_config.json", r#"{"do_sample": "yes"}"#, "do_sample is \"yes\""),
        ("generation_config.json", r#"{"typical_p": 0}"#, "typical_p is 0"),
        ("generation_config.json", r#"{"min_new_tokens": -1}"#, "min_new_tokens is -1"),
        ("generation_config.json", r#"{"stop_strings": ["a", ""]}"#, "stop_strings must be"),
        ("generation_config.json", r#"{"num_beams": 4}"#, "num_beams is 4, which is not done here"),
        ("generation_config.json", r#"{"suppress_tokens": [7]}"#, "suppress_tokens is [7]"),
        ("generation_config.json", r#"{"forced_eos_token_id": 0}"#, "forced_eos_token_id is 0"),
        ("config.json", r#"{"eos_token_id": 99999999999}"#, "eos_token_id holds 99999999999"),
        ("config.json", r#"{"text_config": {"eos_token_id": [null]}}"#, "eos_token_id holds null"),
    ];
    for (file, content, words) in cases {
        let error = defaults(&[(file, content)]).expect_err(content).to_string();
        assert!(error.contains(file) && error.contains(words), "{error}");
    }
}

#[test]
fn a_model_that_does_not_sample_is_greedy() {
    let found = defaults(&[("generation_config.json", r#"{"do_sample": false, "temperature": 0.6}"#)]);
    assert_eq!(found.unwrap().temperature, Some(0.0));
}

#[test]
fn the_end_of_a_harmony_message_does_not_end_the_turn() {
    let template = r#"{{ "<|channel|>final<|message|>" }}<|end|>"#;
    let folder = Folder::new(&[("chat_template.jinja", template)]);
    let template = Template::open(folder.path()).unwrap().expect("the folder has a template");
    assert_eq!(turn_ends(&template).count(), 0);
}

#[test]
fn a_harmony_turn_ends_with_a_call_too_wherever_its_files_say_so() {
    let template = r#"{{ "<|channel|>final<|message|>" }}<|end|><|call|><|return|>"#;
    let folder = Folder::new(&[("chat_template.jinja", template)]);
    let template = Template::open(folder.path()).unwrap().expect("the folder has a template");
    assert_eq!(turn_ends(&template).collect::<Vec<_>>(), ["<|call|>", "<|return|>"]);
    let folder = Folder::new(&[("chat_template.jinja", "Tell of <|call|> and <|return|>.")]);
    let template = Template::open(folder.path()).unwrap().expect("the folder has a template");
    assert_eq!(turn_ends(&template).count(), 0, "in other forms they are words");
}

#[test]
fn broken_settings_are_named() {
    for file in ["generation_config.json", "config.json", "tokenizer_config.json"] {
        let error = defaults(&[(file, "{\"eos_token_id\":")]).expect_err("the file is broken").to_string();
        assert!(error.contains(file), "{error}");
    }
}
