//! Programs and shapes from strangers: chat templates, and what answers are held to.

use std::fs;
use std::path::Path;

use engine::random::TempFolder;
use engine::text::{Conversation, Grammar, Grammars, Shape, Template, Tokenizer};
use serde_json::{Map, Value, json};

use crate::{choice, files};

/// The most characters of a template: a longer one says nothing new, and its own time and memory are bounded elsewhere.
const TEMPLATE_BYTES_MAX: usize = 2_000;

/// The longest grammar: what a long one unfolds into is bounded where the worker tries it, in a process of its own.
const GRAMMAR_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static FOLDER: TempFolder = TempFolder::new().unwrap();
    static GRAMMARS: Grammars = grammars();
}

fn grammars() -> Grammars {
    let folder = TempFolder::new().unwrap();
    let installed = engine::bundled::install(folder.path()).unwrap();
    let nano = installed.iter().find(|model| model.name == "impetus-nano").unwrap();
    let tokenizer = Tokenizer::open(&nano.path).unwrap();
    Grammars::new(&tokenizer, &[0], tokenizer.vocabulary())
}

/// Templates in the forms of the families.
pub fn templates() -> Vec<Vec<u8>> {
    files("tests/data/templates").into_iter().filter(|text| text.len() <= TEMPLATE_BYTES_MAX).collect()
}

/// Compiles a template and renders conversations with it.
pub fn template(bytes: &[u8]) {
    if bytes.len() > TEMPLATE_BYTES_MAX {
        return;
    }
    FOLDER.with(|folder| {
        fs::write(folder.path().join("chat_template.jinja"), bytes).unwrap();
        render(folder.path());
    });
}

fn render(folder: &Path) {
    let Ok(Some(template)) = Template::open(folder) else { return };
    let Ok(compiled) = template.compile() else { return };
    let messages = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "What is 2 + 2?" },
        { "role": "assistant", "content": "", "tool_calls": [
            { "id": "call_1", "type": "function", "function": { "name": "add", "arguments": { "a": 2, "b": 2.0 } } }
        ] },
        { "role": "tool", "content": "4", "tool_call_id": "call_1", "name": "add" },
    ]);
    let tools = json!([{ "type": "function", "function": { "name": "add", "parameters": { "type": "object" } } }]);
    let mut arguments = Map::new();
    arguments.insert("enable_thinking".to_owned(), Value::Bool(false));
    for tools in [None, Some(&tools)] {
        let conversation = Conversation {
            messages: &messages,
            tools,
            add_generation_prompt: true,
            continue_final_message: false,
            arguments: &arguments,
            now_unix_ms: 1_795_252_320_000,
        };
        // A template may refuse, in its own words or in ours.
        let _ = compiled.render(&conversation).map_err(|error| error.to_string());
    }
}

/// Compiles a shape and follows it for a while.
pub fn grammar(bytes: &[u8]) {
    let (kind, bytes) = choice(bytes);
    if bytes.len() > GRAMMAR_BYTES_MAX {
        return;
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let shape = match kind % 5 {
        0 | 1 => match serde_json::from_str(&text) {
            Ok(schema) => Shape::Json { schema, strict: kind % 5 == 0 },
            Err(_) => return,
        },
        2 => Shape::Regex(text),
        3 => Shape::Lark(text),
        _ => Shape::Choice(text.split('\n').map(str::to_owned).collect()),
    };
    GRAMMARS.with(|grammars| {
        let Ok(mut matcher) = grammars.compile(&Grammar::Shape(shape)) else { return };
        for step in 0..32_usize {
            let Ok(allowed) = matcher.allowed() else { return };
            let tokens: Vec<u32> = (0..2048).filter(|token| allowed.allows(*token)).collect();
            let wish = bytes.get(step).map_or(step, |byte| usize::from(*byte));
            let Some(token) = tokens.get(wish % tokens.len().max(1)) else { return };
            if matcher.take(*token).is_err() || matcher.is_over() {
                return;
            }
        }
    });
}
