//! What OpenAI clients send: the members both endpoints share, and how they become a `GenerateRequest`.

use std::collections::BTreeMap;

use protocol::Error;
use protocol::generation::{Constraint, Priority, Sampling, Stop};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::shape;
use crate::body::accept_only;
use crate::sampling::{StopStrings, mirostat, seed};

/// Members that both endpoints accept; each has an effect or is a label that is defined to have none.
pub const SHARED: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "n",
    "seed",
    "stop",
    "temperature",
    "top_p",
    "max_tokens",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "service_tier",
    "response_format",
    // Members of other servers, under the names their clients use.
    "top_k",
    "min_p",
    "typical_p",
    "xtc_probability",
    "xtc_threshold",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_sequence_breakers",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "repetition_penalty",
    "repetition_context_size",
    "repeat_penalty",
    "repeat_last_n",
    "n_predict",
    "cache_prompt",
    "id_slot",
    "ignore_eos",
    "min_tokens",
    "stop_token_ids",
    "structured_outputs",
    "grammar",
    "json_schema",
    "priority",
];

/// The members that both endpoints share.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Shared {
    /// The model's name.
    pub model: Option<String>,
    /// Whether the answer is streamed.
    pub stream: Option<bool>,
    /// How it is streamed.
    pub stream_options: Option<StreamOptions>,
    n: Option<u16>,
    seed: Option<i64>,
    stop: Option<StopStrings>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    #[serde(default, deserialize_with = "all_or_count", alias = "n_predict")]
    #[schema(minimum = -1)]
    max_tokens: Option<u32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    #[serde(default, deserialize_with = "biases")]
    #[schema(value_type = Option<BTreeMap<String, f32>>)]
    logit_bias: Option<Vec<(String, f32)>>,
    #[serde(default, deserialize_with = "all_or_none")]
    #[schema(minimum = -1)]
    top_k: Option<u32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    xtc_probability: Option<f32>,
    xtc_threshold: Option<f32>,
    dry_multiplier: Option<f32>,
    dry_base: Option<f32>,
    dry_allowed_length: Option<u32>,
    dry_sequence_breakers: Option<Vec<String>>,
    mirostat: Option<u8>,
    mirostat_tau: Option<f32>,
    mirostat_eta: Option<f32>,
    #[serde(alias = "repeat_penalty")]
    repetition_penalty: Option<f32>,
    /// At how many of the last tokens it looks, as mlx-lm calls it.
    repetition_context_size: Option<u32>,
    /// At how many every penalty looks, as llama-server calls it.
    #[serde(default, deserialize_with = "all_or_count")]
    #[schema(minimum = -1)]
    repeat_last_n: Option<u32>,
    ignore_eos: Option<bool>,
    min_tokens: Option<u32>,
    stop_token_ids: Option<Vec<u32>>,
    priority: Option<Urgency>,
    service_tier: Option<Value>,
    response_format: Option<Value>,
    structured_outputs: Option<Value>,
    /// A grammar in GBNF or Lark that the answer is held to.
    grammar: Option<String>,
    /// A JSON schema that the answer is held to.
    json_schema: Option<Value>,
}

/// Reads a count of tokens; -1 is what clients of other servers write for as many as there is room for, which is what any
/// number beyond every context comes to.
pub fn all_or_count<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    count(value, u32::MAX)
}

/// Reads a count of candidates; -1 is what clients of other servers write for all of them, which is 0 here.
fn all_or_none<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    count(value, 0)
}

/// Reads biases by token: a map, or a list of pairs, as llama-server's clients write it, where `false` is never.
fn biases<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Vec<(String, f32)>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Token {
        Id(u32),
        Name(String),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bias {
        Number(f32),
        Never(bool),
    }
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an object of numbers by token id, or a list of such pairs")]
    enum Biases {
        Map(BTreeMap<String, f32>),
        Pairs(Vec<(Token, Bias)>),
    }
    let pair = |(token, bias)| {
        let token = match token {
            Token::Id(id) => id.to_string(),
            Token::Name(name) => name,
        };
        match bias {
            Bias::Number(bias) => Ok((token, bias)),
            Bias::Never(false) => Ok((token, NEVER)),
            Bias::Never(true) => Err(serde::de::Error::custom("a bias is a number, or false")),
        }
    };
    match Option::<Biases>::deserialize(value)? {
        None => Ok(None),
        Some(Biases::Map(map)) => Ok(Some(map.into_iter().collect())),
        Some(Biases::Pairs(pairs)) => pairs.into_iter().map(pair).collect::<Result<_, _>>().map(Some),
    }
}

/// The bias of a token that is not to come.
const NEVER: f32 = -100.0;

fn count<'de, D: serde::Deserializer<'de>>(value: D, all: u32) -> Result<Option<u32>, D::Error> {
    let given: Option<i64> = Deserialize::deserialize(value)?;
    match given {
        None => Ok(None),
        Some(-1) => Ok(Some(all)),
        Some(given @ ..-1) => {
            let given = serde::de::Unexpected::Signed(given);
            Err(serde::de::Error::invalid_value(given, &"a count, or -1 for all"))
        }
        Some(given @ 0..) => Ok(Some(u32::try_from(given).unwrap_or(u32::MAX))),
    }
}

/// How an answer is streamed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Whether a last chunk carries the usage.
    include_usage: Option<bool>,
    /// Whether every chunk carries the usage so far.
    continuous_usage_stats: Option<bool>,
    /// Only false: chunks are as long as what they say.
    include_obfuscation: Option<bool>,
}

/// Which chunks of a stream carry token counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// A last one, with those of the whole answer.
    pub last: bool,
    /// Every one, with those so far.
    pub each: bool,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// When nobody else asks.
    Low,
    /// In turn.
    #[default]
    Normal,
    /// Before others: for administrators alone.
    High,
}

impl From<Urgency> for Priority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Low => Self::Low,
            Urgency::Normal => Self::Normal,
            Urgency::High => Self::High,
        }
    }
}

impl Shared {
    /// Whether to stream, and which chunks count tokens; options without a stream are refused.
    pub fn streaming(&self) -> Result<Option<Counting>, Error> {
        match (self.stream.unwrap_or(false), &self.stream_options) {
            (false, None) => Ok(None),
            (false, Some(_)) => Err(Error::invalid("stream_options", "'stream_options' needs 'stream': true.")),
            (true, Some(StreamOptions { include_obfuscation: Some(true), .. })) => {
                let message = "Chunks are not obfuscated here: they do not leave this machine by themselves.";
                Err(Error::unsupported("stream_options.include_obfuscation", message))
            }
            (true, None) => Ok(Some(Counting::default())),
            (true, Some(options)) => Ok(Some(Counting {
                last: options.include_usage.unwrap_or(false),
                // Whoever says that none is wanted gets none.
                each: options.continuous_usage_stats.unwrap_or(false) && options.include_usage != Some(false),
            })),
        }
    }

    /// How many choices are asked for.
    pub fn choices(&self) -> u16 {
        self.n.unwrap_or(1)
    }

    /// How urgent the request is; there is one tier of service.
    pub fn priority(&self) -> Result<Priority, Error> {
        accept_only("service_tier", self.service_tier.as_ref(), &[json!("auto"), json!("default")])?;
        Ok(self.priority.unwrap_or_default().into())
    }

    /// Returns how tokens are drawn.
    pub fn sampling(&self) -> Result<Sampling, Error> {
        let mut logit_bias = Vec::new();
        for (token, bias) in self.logit_bias.iter().flatten() {
            let id = token.parse().map_err(|_| {
                Error::invalid(
                    "logit_bias",
                    format!("'logit_bias' maps token ids to numbers; '{token}' is no token id."),
                )
            })?;
            logit_bias.push((id, *bias));
        }
        Ok(Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            typical_p: self.typical_p,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_breakers: self.dry_sequence_breakers.clone(),
            mirostat: mirostat("mirostat", self.mirostat)?,
            mirostat_tau: self.mirostat_tau,
            mirostat_eta: self.mirostat_eta,
            repetition_penalty: self.repetition_penalty,
            repetition_window: self.repetition_context_size.or(self.repeat_last_n),
            one_window: self.repeat_last_n.is_some(),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias,
            seed: seed(self.seed),
        })
    }

    /// Returns the shape that the answer is held to.
    pub fn constraint(&self) -> Result<Option<Constraint>, Error> {
        shape::constraint(&self.shape())
    }

    /// Under which name the shape was asked for that an answer is held to.
    pub fn shape_name(&self) -> &'static str {
        self.shape().name()
    }

    fn shape(&self) -> shape::Asked<'_> {
        shape::Asked {
            format: self.response_format.as_ref(),
            outputs: self.structured_outputs.as_ref(),
            grammar: self.grammar.as_deref(),
            schema: self.json_schema.as_ref(),
        }
    }

    /// Returns when the answer ends; `max_tokens` is the endpoint's newer name for the limit, if it has one.
    pub fn stop(&self, max_tokens: Option<u32>) -> Result<Stop, Error> {
        if max_tokens == Some(0) {
            return Err(Error::invalid(
                "max_completion_tokens",
                "'max_completion_tokens' is 0; it must be at least 1.",
            ));
        }
        if let (Some(newer), Some(older)) = (max_tokens, self.max_tokens)
            && newer != older
        {
            let message = format!(
                "'max_tokens' is {older} and 'max_completion_tokens', its newer name, {newer}; send one of them."
            );
            return Err(Error::invalid("max_tokens", message));
        }
        Ok(Stop {
            strings: self.stop.clone().map(StopStrings::list).unwrap_or_default(),
            tokens: self.stop_token_ids.clone().unwrap_or_default(),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            max_tokens: max_tokens.or(self.max_tokens),
            min_tokens: self.min_tokens.unwrap_or(0),
            or_fewer: false,
        })
    }
}

/// Returns the daemon's refusal with the field at fault under this dialect's name.
pub fn in_our_words(mut error: Error) -> Error {
    rename(&mut error, |param| match param {
        "choices" => Some("n"),
        "inputs" => Some("input"),
        "dry_breakers" => Some("dry_sequence_breakers"),
        "repetition_window" => Some("repetition_context_size"),
        "constraint" => Some("response_format"),
        "thinking" => Some("enable_thinking"),
        "template_arguments" => Some("chat_template_kwargs"),
        _ => None,
    });
    error
}

/// Returns the daemon's refusal with the shape that an answer is held to under the name it was asked for.
pub fn naming_shape(mut error: Error, name: &'static str) -> Error {
    rename(&mut error, |param| (param == "constraint").then_some(name));
    error
}

/// Calls the field at fault what `name` makes of it, in the sentence too. A word that the sentence quotes is the client's own.
pub fn rename(error: &mut Error, name: impl FnOnce(&str) -> Option<&'static str>) {
    let Some(theirs) = error.param.take() else { return };
    let quoted = error.message.contains(&format!("'{theirs}'"));
    let ours = name(&theirs).filter(|_| !quoted).unwrap_or(&theirs);
    if let Some(rest) = error.message.strip_prefix(&theirs).filter(|rest| rest.starts_with(' ')) {
        error.message = format!("{ours}{rest}");
    }
    error.param = Some(ours.to_owned());
}

/// Refuses a client's notes that are too many, too long or no texts.
pub fn check_notes(notes: Option<&Map<String, Value>>) -> Result<(), Error> {
    const NOTES_MAX: usize = 16;
    const NAME_BYTES_MAX: usize = 64;
    const TEXT_BYTES_MAX: usize = 512;
    let fits = |(name, value): (&String, &Value)| {
        name.len() <= NAME_BYTES_MAX && value.as_str().is_some_and(|text| text.len() <= TEXT_BYTES_MAX)
    };
    if notes.is_none_or(|notes| notes.len() <= NOTES_MAX && notes.iter().all(fits)) {
        return Ok(());
    }
    let message = format!("'metadata' has at most {NOTES_MAX} texts of at most {TEXT_BYTES_MAX} bytes.");
    Err(Error::invalid("metadata", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_few_short_texts() {
        let notes = |value: Value| check_notes(value.as_object());
        assert!(notes(json!({"a": "b"})).is_ok() && check_notes(None).is_ok());
        assert!(notes(json!({"a": 1})).is_err() && notes(json!({"a": "x".repeat(513)})).is_err());
        assert!(notes((0..17).map(|at| (at.to_string(), json!(""))).collect::<Map<_, _>>().into()).is_err());
    }

    #[test]
    fn minus_one_is_all_there_is_and_other_negative_counts_are_refused() {
        let read = |value: Value| serde_json::from_value::<Shared>(value);
        let shared = read(json!({"max_tokens": -1, "top_k": -1, "seed": -1})).unwrap();
        assert_eq!(shared.sampling().unwrap().seed, None);
        assert_eq!(read(json!({"seed": -2})).unwrap().sampling().unwrap().seed, Some(u64::MAX - 1));
        assert_eq!(
            (shared.stop(None).unwrap().max_tokens, shared.sampling().unwrap().top_k),
            (Some(u32::MAX), Some(0))
        );
        assert_eq!(read(json!({"max_tokens": null})).unwrap().stop(None).unwrap().max_tokens, None);
        assert_eq!(read(json!({"max_tokens": 1_u64 << 32})).unwrap().stop(None).unwrap().max_tokens, Some(u32::MAX));
        assert!(read(json!({"max_tokens": -2})).is_err() && read(json!({"top_k": 1.5})).is_err());
    }

    #[test]
    fn members_of_llama_server_mean_what_they_mean_there() {
        let read = |value: Value| serde_json::from_value::<Shared>(value);
        let words = json!({"n_predict": 7, "repeat_penalty": 1.5, "repeat_last_n": -1, "logit_bias": [[5, -1.5], ["6", false]]});
        let shared = read(words).unwrap();
        let sampling = shared.sampling().unwrap();
        assert_eq!((sampling.repetition_penalty, sampling.repetition_window), (Some(1.5), Some(u32::MAX)));
        assert!(sampling.one_window && !read(json!({})).unwrap().sampling().unwrap().one_window);
        assert_eq!(sampling.logit_bias, [(5, -1.5), (6, -100.0)]);
        assert_eq!(shared.stop(None).unwrap().max_tokens, Some(7));
        assert!(read(json!({"logit_bias": [[5, true]]})).is_err() && read(json!({"logit_bias": [5]})).is_err());
        assert!(read(json!({"logit_bias": [["word", 1]]})).unwrap().sampling().is_err());
    }

    #[test]
    fn a_limit_under_both_of_its_names_is_one_limit() {
        let shared: Shared = serde_json::from_value(json!({"max_tokens": 5})).unwrap();
        assert_eq!(shared.stop(Some(5)).unwrap().max_tokens, Some(5));
        assert_eq!(shared.stop(Some(6)).unwrap_err().param.as_deref(), Some("max_tokens"));
        let none: Shared = serde_json::from_value(json!({})).unwrap();
        assert_eq!(none.stop(Some(0)).unwrap_err().param.as_deref(), Some("max_completion_tokens"));
    }

    #[test]
    fn refusals_have_our_words_for_what_is_at_fault() {
        let error = in_our_words(Error::invalid("choices", "choices is 0; it must be from 1 to 16"));
        assert_eq!((error.param.as_deref(), error.message.as_str()), (Some("n"), "n is 0; it must be from 1 to 16"));
        let theirs = in_our_words(Error::invalid("thinking", "The parameter 'thinking' is not supported here."));
        assert_eq!(theirs.param.as_deref(), Some("thinking"), "it is the client's own word");
    }
}
