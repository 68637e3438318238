//! The text side of a GGUF file as the files that transformers writes: `tokenizer.json`, `tokenizer_config.json` with the
//! chat templates, and `generation_config.json`.
//!
//! Two kinds of vocabularies are read: byte-level ones with merges (`gpt2`), and sentencepiece's (`llama`), whose scores
//! become merges; and two more of encoders. A way to split text that is not known is refused by name: wrong splits read like a model that has gone
//! slightly deaf.

mod merges;
mod splits;
mod whole;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde_json::{Map, Value, json};

pub(super) use self::splits::Splits;
use super::head::Head;
use super::pages::Page;
use super::write_json;
use crate::LoadError;

/// What `tokenizer.ggml.token_type` says of a token.
const NORMAL: f64 = 1.0;
const UNKNOWN: f64 = 2.0;
const CONTROL: f64 = 3.0;
const USER: f64 = 4.0;
const UNUSED: f64 = 5.0;
const BYTE: f64 = 6.0;

/// Tokens that end an answer of every model that has them.
const ENDS: [&str; 12] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|return|>",
    "<|call|>",
    "<|observation|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
];

/// A vocabulary.
struct Letters<'a> {
    head: &'a Head<'a>,
    tokens: Vec<&'a str>,
    kinds: &'a [f64],
    /// Tokens of a user that the file calls ordinary.
    symbols: Vec<usize>,
}

/// Writes the files into a folder.
pub(super) fn write(head: &Head<'_>, page: &Page, dir: &Path) -> Result<(), LoadError> {
    if page.whole { write_whole(head, dir) } else { write_for_decoder(head, dir) }
}

/// The same for a model that reads texts whole.
fn write_whole(head: &Head<'_>, dir: &Path) -> Result<(), LoadError> {
    let fields = &head.fields;
    let (model, tokens) = (fields.text("tokenizer.ggml.model")?, fields.texts("tokenizer.ggml.tokens")?);
    let pieces = whole::pieces(&tokens, fields.numbers("tokenizer.ggml.token_type")?);
    let tokens = if model == "bert" { pieces.iter().map(String::as_str).collect() } else { tokens };
    let letters = Letters::new(head, tokens)?;
    let mut tokenizer = match model {
        "bert" => letters.word_pieces()?,
        "t5" => letters.unigrams()?,
        "gpt2" => letters.byte_level(Splits::named(fields.text_if_any("tokenizer.ggml.pre")?)?)?,
        other => {
            return Err(LoadError::unsupported(format!("tokenizer {other} of an encoder"), "bert, t5 and gpt2 are"));
        }
    };
    tokenizer["version"] = json!("1.0");
    tokenizer["added_tokens"] = letters.added(false);
    tokenizer["post_processor"] = letters.around_whole()?;
    write_json(&dir.join("tokenizer.json"), &tokenizer)?;
    write_json(&dir.join("tokenizer_config.json"), &json!({ "tokenizer_class": "PreTrainedTokenizerFast" }))
}

fn write_for_decoder(head: &Head<'_>, dir: &Path) -> Result<(), LoadError> {
    let fields = &head.fields;
    let mut letters = Letters::new(head, fields.texts("tokenizer.ggml.tokens")?)?;
    if fields.flag_if_any("tokenizer.ggml.remove_extra_whitespaces")? == Some(true) {
        return Err(LoadError::unsupported("a tokenizer that removes spaces", "one that keeps them is"));
    }
    let sentencepiece = match fields.text("tokenizer.ggml.model")? {
        "llama" => true,
        "gpt2" => false,
        other => return Err(LoadError::unsupported(format!("tokenizer {other} of a GGUF file"), "gpt2 and llama are")),
    };
    let splits = if sentencepiece { None } else { Some(Splits::named(fields.text_if_any("tokenizer.ggml.pre")?)?) };
    let begins = splits.is_none_or(|splits| splits.begins);
    let begins = fields.flag_if_any("tokenizer.ggml.add_bos_token")?.unwrap_or(begins);
    let ends = fields.flag_if_any("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let bos = letters.id("bos")?.filter(|_| begins);
    let eos = letters.id("eos")?.filter(|_| ends);

    let scores = fields.numbers("tokenizer.ggml.scores")?;
    if sentencepiece && scores.len() == letters.tokens.len() {
        letters.symbols = merges::symbols(&letters.tokens, scores, |id| letters.kind(id) == NORMAL);
    }
    let mut tokenizer = match splits {
        Some(splits) => letters.byte_level(splits)?,
        None => letters.sentencepiece()?,
    };
    tokenizer["version"] = json!("1.0");
    tokenizer["added_tokens"] = letters.added(sentencepiece);
    tokenizer["post_processor"] = letters.around(bos, eos);
    write_json(&dir.join("tokenizer.json"), &tokenizer)?;
    write_json(&dir.join("tokenizer_config.json"), &letters.config(bos.is_some(), eos.is_some())?)?;
    write_json(&dir.join("generation_config.json"), &letters.generation()?)
}

impl<'a> Letters<'a> {
    /// Takes in a vocabulary that fits the model.
    fn new(head: &'a Head<'a>, tokens: Vec<&'a str>) -> Result<Self, LoadError> {
        let fields = &head.fields;
        let kinds = fields.numbers("tokenizer.ggml.token_type")?;
        let rows = head.tensors.get("token_embd.weight").map_or(0, |embedding| embedding.shape[0]);
        if tokens.is_empty() || tokens.len() > rows {
            let count = tokens.len();
            return Err(fields.problem(format!("it has {count} tokens for {rows} rows of the embedding")));
        }
        if !kinds.is_empty() && kinds.len() != tokens.len() {
            return Err(fields.problem("tokenizer.ggml.token_type is not as long as the list of tokens"));
        }
        Ok(Self { head, tokens, kinds, symbols: Vec::new() })
    }

    fn kind(&self, id: usize) -> f64 {
        self.kinds.get(id).copied().unwrap_or(NORMAL)
    }

    /// The id of a token with a role, as in `bos`.
    fn id(&self, role: &str) -> Result<Option<usize>, LoadError> {
        let key = format!("tokenizer.ggml.{role}_token_id");
        match self.head.fields.whole_if_any(&key)? {
            Some(id) if id >= self.tokens.len() => {
                Err(self.head.fields.problem(format!("{key} is {id}, beyond the vocabulary")))
            }
            id => Ok(id),
        }
    }

    /// Every token with its id; the first of two that are spelled alike.
    fn vocabulary(&self) -> Map<String, Value> {
        let mut vocabulary = Map::new();
        for (id, token) in self.tokens.iter().enumerate() {
            vocabulary.entry(*token).or_insert(json!(id));
        }
        vocabulary
    }

    fn byte_level(&self, splits: &Splits) -> Result<Value, LoadError> {
        let merges = self.head.fields.texts("tokenizer.ggml.merges")?;
        let merges = merges.into_iter().map(|merge| merge.split_once(' ').map(|(left, right)| json!([left, right])));
        let merges: Option<Vec<Value>> = merges.collect();
        let merges = merges.ok_or_else(|| self.head.fields.problem("a merge is not two words"))?;
        let level =
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
        Ok(json!({
            "normalizer": splits.composed.then(|| json!({ "type": "NFC" })),
            "pre_tokenizer": splits.pre_tokenizer(),
            "decoder": level,
            "model": self.model(merges, splits.whole_words, None, false),
        }))
    }

    fn sentencepiece(&self) -> Result<Value, LoadError> {
        let scores = self.head.fields.numbers("tokenizer.ggml.scores")?;
        if scores.len() != self.tokens.len() {
            return Err(self.head.fields.problem("tokenizer.ggml.scores is not as long as the list of tokens"));
        }
        let merges =
            merges::of_scores(&self.tokens, scores, |id| ![UNKNOWN, CONTROL, UNUSED, BYTE].contains(&self.kind(id)));
        let merges = merges.map(|(left, right)| json!([left, right])).collect();
        let first = |kind: f64| (0..self.tokens.len()).find(|id| self.kind(*id) == kind);
        let unknown = self.id("unknown")?.or(first(UNKNOWN)).map(|id| self.tokens[id]);
        let spaced = self.head.fields.flag_if_any("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        let mut decoders = vec![
            json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        let normalizer = if spaced {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
            json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace] })
        } else {
            replace
        };
        Ok(json!({
            "normalizer": normalizer,
            "pre_tokenizer": null,
            "decoder": { "type": "Sequence", "decoders": decoders },
            "model": self.model(merges, false, unknown, first(BYTE).is_some()),
        }))
    }

    fn model(&self, merges: Vec<Value>, whole_words: bool, unknown: Option<&str>, bytes: bool) -> Value {
        json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": unknown.is_some(), "byte_fallback": bytes,
            "ignore_merges": whole_words, "vocab": self.vocabulary(), "merges": merges,
        })
    }

    /// The tokens that are looked for before anything else.
    fn added(&self, sentencepiece: bool) -> Value {
        // Phi-3's turns swallow the space after them; its other special tokens do not.
        let phi =
            sentencepiece && self.head.fields.text_if_any("general.architecture").is_ok_and(|it| it == Some("phi3"));
        let swallows = |text: &str| phi && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>");
        let of = |(id, text): (usize, &&str)| {
            let special = self.kind(id) == CONTROL || self.kind(id) == UNKNOWN;
            (special || self.kind(id) == USER || self.symbols.binary_search(&id).is_ok()).then(|| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false,
                    "rstrip": special && swallows(text), "normalized": false, "special": special,
                })
            })
        };
        self.tokens.iter().enumerate().filter_map(of).collect()
    }

    /// The tokens that are put around a raw prompt.
    fn around(&self, bos: Option<usize>, eos: Option<usize>) -> Value {
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let special = |id: Option<usize>, segment: u32| {
            id.map(|id| json!({ "SpecialToken": { "id": self.tokens[id], "type_id": segment } }))
        };
        let run = |name: &str, segment: u32| {
            let text = json!({ "Sequence": { "id": name, "type_id": segment } });
            [special(bos, segment), Some(text), special(eos, segment)].into_iter().flatten()
        };
        let known = [bos, eos].into_iter().flatten().map(|id| {
            let text = self.tokens[id];
            (text.to_string(), json!({ "id": text, "ids": [id], "tokens": [text] }))
        });
        json!({
            "type": "TemplateProcessing",
            "single": run("A", 0).collect::<Vec<_>>(),
            "pair": run("A", 0).chain(run("B", 1)).collect::<Vec<_>>(),
            "special_tokens": known.collect::<Map<_, _>>(),
        })
    }

    fn config(&self, begins: bool, ends: bool) -> Result<Value, LoadError> {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
            "add_bos_token": begins, "add_eos_token": ends,
        });
        for (key, role) in
            [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")]
        {
            config[key] = json!(self.id(role)?.map(|id| self.tokens[id]));
        }
        let fields = &self.head.fields;
        let mut templates = HashMap::new();
        if let Some(template) = fields.text_if_any("tokenizer.chat_template")? {
            templates.insert("default", template);
        }
        for name in fields.texts("tokenizer.chat_templates")? {
            templates.insert(name, fields.text(&format!("tokenizer.chat_template.{name}"))?);
        }
        match (templates.get("default"), templates.len()) {
            (Some(template), 1) => config["chat_template"] = json!(template),
            (Some(_), _) => {
                let list = templates.iter().map(|(name, template)| json!({ "name": name, "template": template }));
                config["chat_template"] = list.collect();
            }
            (None, _) => {}
        }
        Ok(config)
    }

    /// The tokens that end an answer. A file names one or two, and its model may have been trained to give others too.
    fn ends(&self) -> Result<BTreeSet<usize>, LoadError> {
        let mut ends = BTreeSet::new();
        for role in ["eos", "eot", "eom"] {
            ends.extend(self.id(role)?);
        }
        // In the harmony form this ends a message.
        let harmony = self.tokens.contains(&"<|return|>");
        let spelled = |token: &str| ENDS.contains(&token) || token == "<|end|>" && !harmony;
        ends.extend((0..self.tokens.len()).filter(|id| spelled(self.tokens[*id])));
        Ok(ends)
    }

    fn generation(&self) -> Result<Value, LoadError> {
        let ends = self.ends()?;
        let mut generation = Map::new();
        if !ends.is_empty() {
            generation.insert("eos_token_id".to_string(), json!(ends));
        }
        if let Some(bos) = self.id("bos")? {
            generation.insert("bos_token_id".to_string(), json!(bos));
        }
        for (key, name) in [
            ("temperature", "temp"),
            ("top_k", "top_k"),
            ("top_p", "top_p"),
            ("min_p", "min_p"),
            ("repetition_penalty", "penalty_repeat"),
        ] {
            let value = self.head.fields.number_if_any(&format!("general.sampling.{name}"))?;
            if let Some(value) = value {
                // Counts stay counts.
                let value = if value.fract() == 0.0 { json!(value as i64) } else { json!(value) };
                generation.insert(key.to_string(), value);
            }
        }
        Ok(Value::Object(generation))
    }
}
