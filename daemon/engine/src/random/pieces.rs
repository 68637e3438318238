//! A folder with a tokenizer alone, as Llama 2 has it: the whole text is one word, in which pieces are joined.
//!
//! Only `tokenizer.json` is there, and it knows small letters: for tests and benches of what a long text costs.

use std::io;

use serde_json::{Map, Value, json};

use super::{TempFolder, write_json};

/// What stands for a space.
const SPACE: &str = "\u{2581}";
const MERGES: [(&str, &str); 7] =
    [("t", "h"), ("th", "e"), (SPACE, "the"), ("a", "n"), ("an", "d"), (SPACE, "and"), ("o", "n")];

/// Makes the folder.
pub fn sentencepiece() -> io::Result<TempFolder> {
    let letters = ('a'..='z').map(String::from).chain([SPACE, ",", "\n"].map(String::from));
    let joined = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    let words = std::iter::once("<unk>".to_owned()).chain(letters).chain(joined);
    let vocabulary: Map<String, Value> = words.enumerate().map(|(id, word)| (word, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "pre_tokenizer": null,
        "post_processor": null,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": SPACE },
            { "type": "Replace", "pattern": { "String": " " }, "content": SPACE },
        ] },
        "decoder": { "type": "Replace", "pattern": { "String": SPACE }, "content": " " },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": MERGES.map(|(left, right)| json!([left, right])),
        },
    });
    let folder = TempFolder::new()?;
    write_json(&folder.path().join("tokenizer.json"), &tokenizer)?;
    Ok(folder)
}
