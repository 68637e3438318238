//! The vocabularies of encoders: WordPiece's and sentencepiece's unigrams, and what is put around the texts that they read
//! whole.
//!
//! A file marks where words begin, as sentencepiece does, and `tokenizer.json` marks in WordPiece where they go on. Whether
//! letters lose their case is said by newer files only; of others the vocabulary shows it.

use serde_json::{Map, Value, json};

use super::{CONTROL, Letters, UNKNOWN};
use crate::LoadError;
use crate::text::charsmap;

/// What marks that a piece begins a word.
const BEGINS: char = '▁';
/// What marks that a piece goes on with one.
const GOES_ON: &str = "##";
/// The longest word that is cut into pieces, in letters.
const LETTERS_MAX: usize = 100;

/// The pieces of a file as WordPiece spells them; what steers the model is spelled alike in both.
pub(super) fn pieces(tokens: &[&str], kinds: &[f64]) -> Vec<String> {
    let piece = |(id, token): (usize, &&str)| {
        // Files of 2024 have no kinds for these.
        let steers = kinds.get(id) == Some(&CONTROL) || token.starts_with('[') && token.ends_with(']');
        match token.strip_prefix(BEGINS) {
            Some(word) => word.to_string(),
            None if steers => token.to_string(),
            None => format!("{GOES_ON}{token}"),
        }
    };
    tokens.iter().enumerate().map(piece).collect()
}

impl Letters<'_> {
    /// A tokenizer of pieces that `pieces` has spelled.
    pub(super) fn word_pieces(&self) -> Result<Value, LoadError> {
        let fields = &self.head.fields;
        let unknown = self.id("unknown")?.or_else(|| self.tokens.iter().position(|token| *token == "[UNK]"));
        let unknown = unknown.ok_or_else(|| fields.problem("it names no token for what is unknown"))?;
        let has_case = || (0..self.tokens.len()).any(|id| self.kind(id) != CONTROL && has_capitals(self.tokens[id]));
        let lowercase = fields.flag_if_any("tokenizer.ggml.normalizer.lowercase")?.unwrap_or_else(|| !has_case());
        let accents = fields.flag_if_any("tokenizer.ggml.normalizer.strip_accents")?;
        Ok(json!({
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": accents,
                "lowercase": lowercase,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "decoder": { "type": "WordPiece", "prefix": GOES_ON, "cleanup": true },
            "model": {
                "type": "WordPiece", "unk_token": self.tokens[unknown], "continuing_subword_prefix": GOES_ON,
                "max_input_chars_per_word": LETTERS_MAX, "vocab": self.vocabulary(),
            },
        }))
    }

    /// A tokenizer of the likeliest pieces.
    pub(super) fn unigrams(&self) -> Result<Value, LoadError> {
        let fields = &self.head.fields;
        let scores = fields.numbers("tokenizer.ggml.scores")?;
        if scores.len() != self.tokens.len() || scores.iter().any(|score| !score.is_finite()) {
            return Err(fields.problem("tokenizer.ggml.scores is no number for each token"));
        }
        let unknown = self.id("unknown")?.or_else(|| (0..self.tokens.len()).find(|id| self.kind(*id) == UNKNOWN));
        let vocabulary: Vec<Value> =
            self.tokens.iter().zip(scores).map(|(token, score)| json!([token, score])).collect();
        let mark = json!({ "type": "Metaspace", "replacement": BEGINS, "prepend_scheme": "always", "split": true });
        Ok(json!({
            "normalizer": self.letters_composed()?,
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, mark] },
            "decoder": mark,
            "model": { "type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": false },
        }))
    }

    /// The table by which sentencepiece composes letters, if there is one.
    fn letters_composed(&self) -> Result<Option<Value>, LoadError> {
        let fields = &self.head.fields;
        let key = "tokenizer.ggml.precompiled_charsmap";
        let bytes: Vec<u8> = fields.numbers(key)?.iter().map(|number| *number as i16 as u8).collect();
        if bytes.is_empty() {
            return Ok(None);
        }
        charsmap::normalizer(&bytes)
            .map(Some)
            .map_err(|error| fields.problem(format!("{key} is no table of sentencepiece: {error}")))
    }

    /// The tokens that are put around a text, and between two.
    pub(super) fn around_whole(&self) -> Result<Value, LoadError> {
        let fields = &self.head.fields;
        let spelled = |texts: [&str; 2]| self.tokens.iter().position(|token| texts.contains(token));
        let first = self.id("cls")?.or(self.id("bos")?).or_else(|| spelled(["[CLS]", "<s>"]));
        let last = self.id("seperator")?.or(self.id("eos")?).or_else(|| spelled(["[SEP]", "</s>"]));
        let (Some(first), Some(last)) = (first, last) else {
            return Err(fields.problem("it does not name the tokens around a text"));
        };
        let (first, last) = (self.tokens[first], self.tokens[last]);
        let token = |text: &str, segment: u32| json!({ "SpecialToken": { "id": text, "type_id": segment } });
        let text = |id: &str, segment: u32| json!({ "Sequence": { "id": id, "type_id": segment } });
        let known = [first, last].map(|text| {
            let id = self.tokens.iter().position(|token| *token == text);
            (text.to_string(), json!({ "id": text, "ids": [id], "tokens": [text] }))
        });
        let second = u32::from(fields.whole_if_any("tokenizer.ggml.token_type_count")?.unwrap_or(1) > 1);
        let mut pair = vec![token(first, 0), text("A", 0), token(last, 0)];
        // RoBERTa and its kin part two texts by two tokens.
        pair.extend((first == "<s>").then(|| token(last, 0)));
        pair.extend([text("B", second), token(last, second)]);
        Ok(json!({
            "type": "TemplateProcessing",
            "single": [token(first, 0), text("A", 0), token(last, 0)],
            "pair": pair,
            "special_tokens": known.into_iter().collect::<Map<_, _>>(),
        }))
    }
}

/// Whether letters that have a case keep it.
fn has_capitals(token: &str) -> bool {
    !(token.starts_with('[') && token.ends_with(']')) && token.chars().any(char::is_uppercase)
}
