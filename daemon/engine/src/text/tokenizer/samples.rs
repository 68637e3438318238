//! Small tokenizers of each spelling, and folders to put them in, for the tests of the text rooms.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::text::Tokenizer;

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder that holds these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("impetus-text-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("the temporary folder is writable");
        for (name, content) in files {
            std::fs::write(dir.join(name), content).expect("the temporary folder is writable");
        }
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Opens a tokenizer from its file's content.
pub fn open(tokenizer: &Value) -> Tokenizer {
    let folder = Folder::new(&[("tokenizer.json", &tokenizer.to_string())]);
    Tokenizer::open(folder.path()).expect("the sample is sound")
}

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special})
}

/// WordPiece as BERT and its kin have it, in the form in which their folders hold it.
pub fn word_pieces() -> Value {
    let words =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "house", "##s", "it", "'", "s", "n't", ".", "e", "##mail"];
    let vocabulary: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_string(), id.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": words[..5].iter().enumerate().map(|(id, word)| added(id, word, true)).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

/// A byte-level vocabulary as GPT-2, Llama 3 and Qwen have: bytes, a few merges, and added tokens from id 264 on.
pub fn byte_level() -> Value {
    let mut vocabulary = serde_json::Map::new();
    let mut letters = Vec::new();
    let mut unprintable = 0;
    for byte in 0..=255u32 {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable { byte } else { 256 + unprintable };
        unprintable += u32::from(!printable);
        let letter = char::from_u32(code).expect("the code is a letter").to_string();
        vocabulary.insert(letter.clone(), byte.into());
        letters.push(letter);
    }
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "Ġ w", "ð Ł", "ðŁ ĺ"];
    for (index, merge) in merges.iter().enumerate() {
        vocabulary.insert(merge.replace(' ', ""), (256 + index).into());
    }
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "normalizer": null,
        "added_tokens": [
            added(264, "<|endoftext|>", true), added(265, "<|im_start|>", true), added(266, "<|im_end|>", true),
            added(267, "<think>", false), added(268, "<｜end▁of▁sentence｜>", true)],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges}
    })
}

/// A sentencepiece vocabulary as Llama 2, Mistral and Gemma have: `▁`, bytes as `<0xNN>`, a few merges.
pub fn sentencepiece() -> Value {
    let mut vocabulary = serde_json::Map::new();
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let letters = ('a'..='z').chain('A'..='Z').map(String::from);
    let special = ["<unk>", "<s>", "</s>"].map(String::from);
    let merged = ["▁", "he", "ll", "hell", "hello", "▁hello", "▁▁", "日"].map(String::from);
    for (id, token) in special.into_iter().chain(bytes).chain(letters).chain(merged).enumerate() {
        vocabulary.insert(token, id.into());
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary,
            "merges": ["h e", "l l", "he ll", "hell o", "▁ hello", "▁ ▁"]}
    })
}
