//! Prompts against those of transformers, byte for byte.
//!
//! `tools/goldens/templates.py` makes the files: templates in the forms of the model families, and what transformers'
//! `apply_chat_template` renders from them.

use std::path::Path;

use super::*;
use crate::text::tokenizer::samples::Folder;

/// Where the goldens are, seen from this crate.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/templates");

/// Renders every case of a golden file; returns what differs.
fn differences(golden: &Value, source: &str) -> Vec<String> {
    let folder = Folder::new(&[("chat_template.jinja", source), ("tokenizer_config.json", &golden.to_string())]);
    let template = Template::open(folder.path()).unwrap().expect("the golden has a template").compile().unwrap();
    let cases = golden["cases"].as_array().expect("a golden has cases");
    cases.iter().filter_map(|case| difference(golden, &template, case)).collect()
}

fn difference(golden: &Value, template: &Compiled, case: &Value) -> Option<String> {
    let rendered = template.render(&Conversation {
        messages: &case["messages"],
        tools: case.get("tools"),
        add_generation_prompt: case.get("add_generation_prompt").is_none_or(|it| it == true),
        continue_final_message: case.get("continue_final_message").is_some_and(|it| it == true),
        arguments: case.get("arguments").and_then(Value::as_object).unwrap_or(&Map::new()),
        now_unix_ms: golden["now_unix_ms"].as_i64().expect("a golden has a time"),
    });
    let expected = match (case["prompt"].as_str(), case["refused"].as_str()) {
        (Some(prompt), _) => Ok(prompt.to_string()),
        (None, Some(words)) => Err(TemplateError::Raised(words.to_string())),
        (None, None) => Err(TemplateError::Lost),
    };
    (rendered != expected).then(|| format!("{}:\n  rendered {rendered:?}\n  expected {expected:?}\n", case["name"]))
}

#[test]
fn prompts_equal_those_of_transformers() {
    let mut count = 0;
    let mut failures = String::new();
    for entry in std::fs::read_dir(FOLDER).expect("the goldens are in the repository") {
        let path = entry.expect("the folder is readable").path();
        if path.extension().is_none_or(|it| it != "jinja") {
            continue;
        }
        let read = |path: &Path| std::fs::read_to_string(path).expect("the golden is readable");
        let golden: Value = serde_json::from_str(&read(&path.with_extension("json"))).expect("the golden is JSON");
        for difference in differences(&golden, &read(&path)) {
            failures += &format!("{}, {difference}", path.display());
        }
        count += golden["cases"].as_array().map_or(0, Vec::len);
    }
    assert!(count >= 500, "only {count} goldens were found");
    assert!(failures.is_empty(), "{failures}");
}
