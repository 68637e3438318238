//! The text side of a random model: a byte-level tokenizer with a few merges, a ChatML template that shows tools, and the
//! tokens that end a turn.
//!
//! Any text round-trips; most bytes are a token of their own. The format is that of `tokenizer.json`.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::write_json;

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const MERGES: [(&str, &str); 29] = [
    ("t", "h"),
    ("th", "e"),
    ("i", "n"),
    ("e", "r"),
    ("a", "n"),
    ("r", "e"),
    ("o", "n"),
    ("a", "t"),
    ("e", "n"),
    ("n", "d"),
    ("o", "r"),
    ("e", "s"),
    ("i", "s"),
    ("i", "t"),
    ("a", "r"),
    ("o", "u"),
    ("s", "t"),
    ("l", "e"),
    ("v", "e"),
    ("in", "g"),
    ("Ġ", "a"),
    ("Ġ", "the"),
    ("Ġ", "s"),
    ("Ġ", "w"),
    ("Ġ", "o"),
    ("Ġ", "i"),
    ("o", "f"),
    ("an", "d"),
    ("t", "o"),
];

/// Ids in all: bytes, merges, specials.
pub(super) const COUNT: u32 = 256 + MERGES.len() as u32 + SPECIALS.len() as u32;
/// The id that ends a turn.
pub(super) const TURN_END: u32 = COUNT - 1;
const TEXT_END: u32 = COUNT - 3;

const TEMPLATE: &str = "\
{%- if tools %}<|im_start|>system
You may call these tools:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}";

/// Writes the files that hold letters. An endless model names no token that ends a turn.
pub(super) fn write(dir: &Path, endless: bool) -> io::Result<()> {
    write_json(&dir.join("tokenizer.json"), &tokenizer())?;
    let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": null });
    let mut generation = json!({ "do_sample": false });
    if !endless {
        config["eos_token"] = json!(SPECIALS[2]);
        generation["eos_token_id"] = json!([TURN_END, TEXT_END]);
    }
    write_json(&dir.join("tokenizer_config.json"), &config)?;
    write_json(&dir.join("generation_config.json"), &generation)?;
    // A template that ends turns with a token is itself a way to name it.
    let template = if endless { TEMPLATE.replace(SPECIALS[2], "") } else { TEMPLATE.to_string() };
    fs::write(dir.join("chat_template.jinja"), template)
}

/// Writes the files of a model that reads whole texts: it has no turns and no template, and puts its own tokens around a
/// text and between the texts of a pair.
pub(super) fn write_for_encoder(dir: &Path) -> io::Result<()> {
    let [first, _, between] = SPECIALS;
    let mut tokenizer = tokenizer();
    let special = |id: &str, segment: u32| json!({ "SpecialToken": { "id": id, "type_id": segment } });
    let text = |id: &str, segment: u32| json!({ "Sequence": { "id": id, "type_id": segment } });
    let entry = |id: &str, token: u32| json!({ "id": id, "ids": [token], "tokens": [id] });
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [special(first, 0), text("A", 0), special(between, 0)],
        "pair": [special(first, 0), text("A", 0), special(between, 0), text("B", 1), special(between, 1)],
        "special_tokens": { first: entry(first, TEXT_END), between: entry(between, TURN_END) },
    });
    write_json(&dir.join("tokenizer.json"), &tokenizer)?;
    let config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "cls_token": first, "sep_token": between });
    write_json(&dir.join("tokenizer_config.json"), &config)
}

fn tokenizer() -> Value {
    let bytes = (0..=255).map(|byte| letter(byte).to_string());
    let merged = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    let vocabulary: Map<String, Value> = bytes.chain(merged).enumerate().map(|(id, text)| (text, json!(id))).collect();
    let first_special = vocabulary.len();
    let specials: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "id": first_special + index, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": specials, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": MERGES.map(|(left, right)| json!([left, right])),
        },
    })
}

/// The printable letter that stands for a byte in byte-level vocabularies.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match printable(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
            char::from_u32(256 + before).expect("256 to 511 are letters")
        }
    }
}
