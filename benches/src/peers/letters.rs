//! A byte-level vocabulary of Qwen3's size, so that both sides load as many words as a real model has.
//!
//! Every byte, every pair of bytes, then pairs with a third byte, then three specials. Nobody reads what they spell.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Ids in all.
pub const COUNT: usize = 151_936;

/// The words of the chat template, at the end of the vocabulary.
pub const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The two pieces that each word after the bytes is merged from.
pub fn merges() -> impl Iterator<Item = (String, char)> {
    let pairs = || (0..=255).flat_map(|left| (0..=255).map(move |right| (letter(left).to_string(), letter(right))));
    let triples = pairs().flat_map(|(left, right)| [0, 1].map(|byte| (format!("{left}{right}"), letter(byte))));
    pairs().chain(triples).take(COUNT - 256 - SPECIALS.len())
}

/// Every word but the specials, in order of ids.
pub fn words() -> impl Iterator<Item = String> {
    (0..=255).map(|byte| letter(byte).to_string()).chain(merges().map(|(left, right)| format!("{left}{right}")))
}

/// Overwrites a model folder's `tokenizer.json`.
pub fn write_tokenizer(folder: &Path) -> io::Result<()> {
    let special = |(index, text): (usize, &&str)| {
        json!({
            "id": COUNT - SPECIALS.len() + index, "content": text, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    let specials: Vec<Value> = SPECIALS.iter().enumerate().map(special).collect();
    let vocabulary: Map<String, Value> = words().enumerate().map(|(id, word)| (word, json!(id))).collect();
    let merges: Vec<Value> = merges().map(|(left, right)| json!([left, right])).collect();
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": specials, "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string())
}

/// The printable letter that stands for a byte in byte-level vocabularies.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + before).expect("256 to 511 are letters")
}
