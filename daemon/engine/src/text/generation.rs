//! What a model's own files say about ending an answer and drawing its tokens.
//!
//! End tokens are gathered from every place that publishers use, because many folders name only some: Llama 3 lists two
//! in `generation_config.json`, others name one in `config.json` or `tokenizer_config.json`, and some only use theirs
//! in the chat template. It never decides for a request: the worker lets a request's own settings go first.

#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::{Map, Value};

use super::{Template, TextError, Tokenizer, files};

/// Tokens that end a turn wherever a template writes them.
const TURN_ENDS: [&str; 7] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
];

/// The same in the harmony form, in which `<|end|>` ends a message and not the turn.
const HARMONY_ENDS: [&str; 2] = ["<|call|>", "<|return|>"];

/// Settings that would change answers and that nothing here does, with the number at which they do nothing.
const UNDONE: [(&str, f64); 22] = [
    ("num_beams", 1.0),
    ("num_beam_groups", 1.0),
    ("diversity_penalty", 0.0),
    ("penalty_alpha", 0.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("guidance_scale", 1.0),
    ("min_length", 0.0),
    ("exponential_decay_length_penalty", 0.0),
    ("bad_words_ids", 0.0),
    ("force_words_ids", 0.0),
    ("constraints", 0.0),
    ("suppress_tokens", 0.0),
    ("begin_suppress_tokens", 0.0),
    ("sequence_bias", 0.0),
    ("forced_bos_token_id", -1.0),
    ("forced_eos_token_id", -1.0),
    ("forced_decoder_ids", 0.0),
    ("watermarking_config", 0.0),
];

/// The most texts that end an answer, and the most bytes of one, as a request may have.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;

/// A model's own end tokens and sampling; `None` where its files say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// The tokens that end an answer, in ascending order; empty if the files name none.
    pub eos: Vec<u32>,
    /// The texts that end an answer.
    pub stop_strings: Vec<String>,
    /// How many tokens come before an end token may.
    pub min_tokens: Option<u32>,
    /// 0 is greedy, as is `"do_sample": false`.
    pub temperature: Option<f32>,
    /// Nucleus share.
    pub top_p: Option<f32>,
    /// How many of the likeliest tokens stay; 0 is all.
    pub top_k: Option<u32>,
    /// The least probability relative to the likeliest token.
    pub min_p: Option<f32>,
    /// The share of probability that the most typical tokens must reach together.
    pub typical_p: Option<f32>,
    /// Divides the logits of tokens already seen.
    pub repetition_penalty: Option<f32>,
}

impl GenerationDefaults {
    /// Reads `generation_config.json`, `config.json` and `tokenizer_config.json`; any of them may be absent.
    pub fn open(dir: &Path, tokenizer: &Tokenizer, template: Option<&Template>) -> Result<Self, TextError> {
        let generation = files::read_object(dir, "generation_config.json")?;
        let config = files::read_object(dir, "config.json")?;
        let named = files::read_object(dir, "tokenizer_config.json")?;

        let ids = |file: &str, object: Option<&Map<String, Value>>| {
            ids(object.and_then(|object| object.get("eos_token_id")))
                .map_err(|it| TextError::invalid(&dir.join(file), it))
        };
        let mut eos = ids("generation_config.json", Some(&generation))?;
        eos.extend(ids("config.json", Some(&config))?);
        eos.extend(ids("config.json", config.get("text_config").and_then(Value::as_object))?);
        eos.extend(named.get("eos_token").and_then(files::token_text).and_then(|text| tokenizer.token_id(text)));
        if let Some(template) = template {
            eos.extend(turn_ends(template).filter_map(|text| tokenizer.token_id(text)));
        }
        eos.sort_unstable();
        eos.dedup();
        let wrong = |problem| TextError::invalid(&dir.join("generation_config.json"), problem);
        refuse_undone(&generation).map_err(wrong)?;
        let stop_strings = stop_strings(&generation).map_err(wrong)?;
        let min_tokens = whole(&generation, "min_new_tokens").map_err(wrong)?;
        Ok(Self { eos, stop_strings, min_tokens, ..Self::sampling_in(dir, &generation)? })
    }

    /// Reads how `generation_config.json` has tokens drawn, and not what ends an answer.
    pub fn sampling(dir: &Path) -> Result<Self, TextError> {
        Self::sampling_in(dir, &files::read_object(dir, "generation_config.json")?)
    }

    fn sampling_in(dir: &Path, generation: &Map<String, Value>) -> Result<Self, TextError> {
        let path = dir.join("generation_config.json");
        let number = |key: &str, least: f32, most: f32| {
            number(generation, key, least, most).map_err(|problem| TextError::invalid(&path, problem))
        };
        let greedy = match generation.get("do_sample") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(samples)) => !samples,
            Some(other) => return Err(TextError::invalid(&path, format!("do_sample is {other}, not true or false"))),
        };
        Ok(Self {
            temperature: if greedy { Some(0.0) } else { number("temperature", 0.0, 100.0)? },
            top_p: number("top_p", f32::MIN_POSITIVE, 1.0)?,
            top_k: whole(generation, "top_k").map_err(|problem| TextError::invalid(&path, problem))?,
            min_p: number("min_p", 0.0, 1.0)?,
            typical_p: number("typical_p", f32::MIN_POSITIVE, 1.0)?,
            repetition_penalty: number("repetition_penalty", f32::MIN_POSITIVE, 100.0)?,
            ..Self::default()
        })
    }
}

/// Refuses what would change answers and is not done.
fn refuse_undone(generation: &Map<String, Value>) -> Result<(), String> {
    let does_nothing = |value: &Value, nothing: f64| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(nothing),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    };
    for (key, nothing) in UNDONE {
        if let Some(value) = generation.get(key).filter(|value| !does_nothing(value, nothing)) {
            return Err(format!("{key} is {value}, which is not done here; take it out of the file to go without"));
        }
    }
    Ok(())
}

/// A token id or a list of them; none where the value is absent or null.
fn ids(value: Option<&Value>) -> Result<Vec<u32>, String> {
    let one_or_more = match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    };
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let wrong = |id: &Value| format!("eos_token_id holds {id}, which is no token id");
    one_or_more.iter().map(|value| id(value).ok_or_else(|| wrong(value))).collect()
}

/// A text that ends answers or a list of them; none where the value is absent or null.
fn stop_strings(generation: &Map<String, Value>) -> Result<Vec<String>, String> {
    let one_or_more = match generation.get("stop_strings") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    };
    let text = |it: &Value| it.as_str().filter(|text| (1..=STOP_BYTES_MAX).contains(&text.len())).map(str::to_string);
    let texts: Option<Vec<String>> = one_or_more.iter().map(text).collect();
    texts.filter(|texts| texts.len() <= STOPS_MAX).ok_or_else(|| {
        format!("stop_strings must be at most {STOPS_MAX} texts of 1 to {STOP_BYTES_MAX} bytes, and is not")
    })
}

/// A number within its range, if it is given.
fn number(object: &Map<String, Value>, key: &str, least: f32, most: f32) -> Result<Option<f32>, String> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.as_f64().map(|number| number as f32).filter(|number| (least..=most).contains(number));
    let bound = if least == f32::MIN_POSITIVE { "above 0".to_string() } else { format!("at least {least}") };
    number.map(Some).ok_or_else(|| format!("{key} is {value}, and must be a number {bound} and at most {most}"))
}

/// A whole number, if it is given.
fn whole(object: &Map<String, Value>, key: &str) -> Result<Option<u32>, String> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("{key} is {value}, and must be a whole number from 0 to {}", u32::MAX))
}

/// The turn ends that a template writes.
fn turn_ends(template: &Template) -> impl Iterator<Item = &'static str> {
    let ends: &[&str] = if template.is_harmony() { &HARMONY_ENDS } else { &TURN_ENDS };
    ends.iter().copied().filter(move |text| template.mentions(text))
}
