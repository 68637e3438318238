//! How long it takes to hold answers to shapes with a large vocabulary: laying it out once a model, compiling the tools of a
//! conversation, and following an answer.
//!
//! The vocabulary is made up: syllables, numbers, punctuation and Chinese letters, as many tokens as Qwen 3 has. The tools are
//! ten as agents have them, called as Hermes and Qwen call them, in an answer that may call and need not.

use std::path::Path;
use std::time::Instant;

use engine::random::{Recipe, TOKENS};
use engine::text::{Grammar, Grammars, Matcher, Shape, Special, Tokenizer, try_grammar};
use serde_json::{Value, json};

use crate::sample::{ms, row, us};

/// Tokens of Qwen 3's vocabulary.
const VOCABULARY: u32 = 151_936;
/// Layouts that are measured, and compilations.
const LAYOUTS: usize = 5;
const COMPILATIONS: usize = 20;
/// How often what a call says is followed.
const CALLS: usize = 20;

/// A call as a model writes it.
const CALL: &str = "I look into it first.\n<tool_call>\n{\"name\": \"read_file\", \"arguments\": {\"path\": \"src/main.rs\", \
                    \"offset\": 17, \"encoding\": \"utf-8\"}}\n</tool_call>";

/// Runs the measures.
pub async fn run() {
    let folder = Recipe::tiny("qwen3", 1).temporary().unwrap();
    enlarge(folder.path());
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let laid_out = || Grammars::new(&tokenizer, &[TOKENS - 1], VOCABULARY);
    let first = Grammar::Shape(Shape::Regex("a".to_string()));
    let layouts = (0..LAYOUTS).map(|_| time(|| drop(laid_out().compile(&first).unwrap())));
    row("laying out 151,936 tokens, once a model", "ms", layouts.collect());
    let grammars = laid_out();
    grammars.compile(&first).unwrap();
    let written = |nth: usize| grammars.write(&answer(&format!("tool_{nth}"))).unwrap();
    let tries = (0..COMPILATIONS).map(|nth| time(|| try_grammar(written(nth).text())));
    row("ten tools, tried in the process beside", "ms", tries.collect());
    let compiled = (0..COMPILATIONS).map(|nth| time(|| drop(grammars.compile_written(written(nth)).unwrap())));
    row("ten tools, compiled", "ms", compiled.collect());
    let again = (0..COMPILATIONS).map(|_| time(|| drop(grammars.compile(&answer("same")).unwrap())));
    row("ten tools, the same again", "ms", again.skip(1).collect());
    let matcher = grammars.compile(&answer("same")).unwrap();
    follow(&tokenizer, &matcher);
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    ms(start.elapsed())
}

/// What each token of a call costs the thread that steps, and what it costs to find all that may follow.
fn follow(tokenizer: &Tokenizer, matcher: &Matcher) {
    let tokens = tokenizer.encode(CALL, Special::Parse).unwrap();
    let (mut looked, mut searched) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let (mut lazy, mut eager) = (matcher.fork(), matcher.fork());
        for token in &tokens {
            let start = Instant::now();
            assert!(lazy.admits(*token).unwrap());
            lazy.take(*token).unwrap();
            looked.push(us(start.elapsed()));
            let start = Instant::now();
            assert!(eager.allowed().unwrap().allows(*token));
            searched.push(us(start.elapsed()));
            eager.take(*token).unwrap();
        }
    }
    row("a token of a call, looked at and taken", "µs", looked);
    row("all tokens that may come next", "µs", searched);
}

/// An answer in which these tools may be called; one has another name.
fn answer(name: &str) -> Grammar {
    let text = |text: &str| Grammar::Text(text.to_string());
    let call = |(name, schema): (String, Value)| {
        let arguments = Grammar::Shape(Shape::Json { schema, strict: false });
        Grammar::Sequence(vec![text(&format!("{{\"name\": \"{name}\", \"arguments\": ")), arguments, text("}")])
    };
    let call = Grammar::Either(tools(name).into_iter().map(call).collect());
    let before = Grammar::UntilWithout("<tool_call>".to_string(), Vec::new());
    let item = Box::new(Grammar::Sequence(vec![before, text("\n"), call, text("\n"), text("</tool_call>")]));
    let calls = Grammar::Repeated { item, separator: String::new(), most: 64 };
    Grammar::Sequence(vec![Grammar::Optional(Box::new(calls)), Grammar::Without(vec!["<tool_call>".to_string()])])
}

fn tools(name: &str) -> Vec<(String, Value)> {
    let text = || json!({ "type": "string", "description": "What it says on the tin." });
    let whole = || json!({ "type": "integer", "minimum": 0 });
    let tool = |name: &str, properties: Value, required: &[&str]| {
        (name.to_string(), json!({ "type": "object", "properties": properties, "required": required }))
    };
    let encoding = json!({ "enum": ["utf-8", "latin-1", "binary"] });
    let edit = json!({ "type": "object", "properties": { "old": text(), "new": text(), "all": { "type": "boolean" } },
        "required": ["old", "new"] });
    let todo = json!({ "type": "object", "properties": { "content": text(), "status": { "enum": ["pending",
        "in_progress", "completed"] }, "priority": { "enum": ["high", "medium", "low"] } }, "required": ["content", "status"] });
    vec![
        tool(
            "read_file",
            json!({ "path": text(), "offset": whole(), "limit": whole(), "encoding": encoding }),
            &["path"],
        ),
        tool("write_file", json!({ "path": text(), "content": text() }), &["path", "content"]),
        tool(
            "edit_file",
            json!({ "path": text(), "edits": { "type": "array", "items": edit, "minItems": 1 } }),
            &["path", "edits"],
        ),
        tool(
            "bash",
            json!({ "command": text(), "timeout": whole(), "background": { "type": "boolean" } }),
            &["command"],
        ),
        tool(
            "grep",
            json!({ "pattern": text(), "path": text(), "glob": text(), "lines": whole(), "case": { "type": "boolean" } }),
            &["pattern"],
        ),
        tool("glob", json!({ "pattern": text(), "path": text() }), &["pattern"]),
        tool("fetch", json!({ "url": { "type": "string", "format": "uri" }, "prompt": text() }), &["url", "prompt"]),
        tool(
            "search",
            json!({ "query": text(), "domains": { "type": "array", "items": text() }, "recency": { "anyOf": [whole(), { "type": "null" }] } }),
            &["query"],
        ),
        tool("todo", json!({ "todos": { "type": "array", "items": todo } }), &["todos"]),
        tool(
            name,
            json!({ "task": text(), "model": { "enum": ["small", "large"] }, "temperature": { "type": "number" } }),
            &["task"],
        ),
    ]
}

/// Gives the tokenizer of a folder as many tokens more as a large vocabulary has.
fn enlarge(dir: &Path) {
    let path = dir.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let mut next = TOKENS;
    let mut words = words();
    while next < VOCABULARY {
        let word = words.next().unwrap();
        if !vocabulary.contains_key(&word) {
            vocabulary.insert(word, json!(next));
            next += 1;
        }
    }
    std::fs::write(&path, tokenizer.to_string()).unwrap();
}

/// Words in the letters that stand for bytes.
fn words() -> impl Iterator<Item = String> {
    let punctuation =
        ["\":", "\",", "{\"", "\"}", "\\\"", "();", "//", "=>", "->", "::", "[]", "--", "  ", "    ", "\n\n", "})"];
    let space = ["", " "].into_iter();
    let marks = space.flat_map(move |space| punctuation.into_iter().map(move |mark| format!("{space}{mark}")));
    let numbers = (0..1_000).map(|number| number.to_string());
    let chinese = (0x4e00..0x4e00 + 20_000u32).filter_map(char::from_u32).map(String::from);
    let syllables: Vec<String> = "bcdfghklmnprstvwz"
        .chars()
        .flat_map(|first| "aeiou".chars().map(move |vowel| format!("{first}{vowel}")))
        .collect();
    let words = (0..u32::MAX).map(move |nth| {
        let mixed = nth.wrapping_mul(2_654_435_761) >> 3;
        let count = 1 + mixed % 4;
        let word: String =
            (0..count).map(|at| &*syllables[(mixed as usize >> (at * 6 + 2)) % syllables.len()]).collect();
        match nth % 3 {
            0 => word,
            1 => format!(" {word}"),
            _ => format!(" {}{}", word[..1].to_uppercase(), &word[1..]),
        }
    });
    let all = marks.chain(numbers).chain(chinese).chain(words);
    all.map(|word| word.bytes().map(letter).collect())
}

/// The letter that stands for a byte in byte-level vocabularies.
fn letter(byte: u8) -> char {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if plain(byte) {
        return byte.into();
    }
    let nth = (0..byte).filter(|other| !plain(*other)).count() as u32;
    char::from_u32(256 + nth).unwrap_or('?')
}
