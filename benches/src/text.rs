//! The text side of a long prompt: tokenization in both kinds of vocabulary, and the chat template, for 10,000 and for
//! 100,000 tokens. Ten times the prompt should take ten times as long.
//!
//! The vocabularies are small, so a token is a few letters; nothing of a long text depends on how many words are known.

use std::path::Path;
use std::time::Instant;

use engine::random::{Recipe, sentencepiece};
use engine::text::{Conversation, Special, Template, Tokenizer};
use serde_json::{Map, Value, json};

use crate::sample::{ms, row};

/// Calls that are measured for a figure.
const CALLS: usize = 5;

/// Runs the measures.
pub async fn run() {
    let folder = Recipe::tiny("qwen3", 1).temporary().unwrap();
    let pieces = sentencepiece().unwrap();
    for tokens in [10_000, 100_000] {
        for (name, folder) in [("byte-level", folder.path()), ("sentencepiece", pieces.path())] {
            tokenize(&format!("tokenization, {name}, {tokens} tokens"), folder, tokens);
        }
        render(&format!("chat template, {tokens} tokens"), folder.path(), tokens);
    }
}

/// Prose of at least so many tokens, in words that both vocabularies cut into one to three.
fn prose(tokenizer: &Tokenizer, tokens: usize) -> String {
    let sentence = "the others and the rest of it are on the hill in the east, or so the old man said to us\n";
    let each = tokenizer.encode(sentence, Special::Plain).unwrap().len();
    sentence.repeat(tokens / each + 1)
}

fn tokenize(name: &str, folder: &Path, tokens: usize) {
    let tokenizer = Tokenizer::open(folder).unwrap();
    let text = prose(&tokenizer, tokens);
    let call = || {
        let start = Instant::now();
        assert!(tokenizer.encode(&text, Special::Parse).unwrap().len() >= tokens * 9 / 10);
        ms(start.elapsed())
    };
    row(name, "ms", (0..CALLS).map(|_| call()).collect());
}

fn render(name: &str, folder: &Path, tokens: usize) {
    let tokenizer = Tokenizer::open(folder).unwrap();
    let template = Template::open(folder).unwrap().unwrap().compile().unwrap();
    // A conversation of a hundred turns.
    let content = prose(&tokenizer, tokens / 100);
    let message =
        |at: usize| json!({ "role": if at.is_multiple_of(2) { "user" } else { "assistant" }, "content": content });
    let messages: Value = (0..100).map(message).collect();
    let conversation = Conversation {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        continue_final_message: false,
        arguments: &Map::new(),
        now_unix_ms: 0,
    };
    let call = || {
        let start = Instant::now();
        assert!(template.render(&conversation).unwrap().len() > content.len() * 100);
        ms(start.elapsed())
    };
    row(name, "ms", (0..CALLS).map(|_| call()).collect());
}
