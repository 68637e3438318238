//! What the requests of this dialect share: options, how long the model stays, whether it thinks, and which it is.

use std::time::Duration;

use futures::StreamExt;
use protocol::client::Client;
use protocol::generation::{Constraint, GenerateRequest, Json, Prompt, Sampling, Stop};
use protocol::key::KeyRole;
use protocol::model::{LoadRequest, ModelCard};
use protocol::{Error, ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::access;
use crate::body::{accept_only, not_honoured, part};
use crate::sampling::{StopStrings, alternatives, mirostat, seed};
use crate::time;

/// Members that both answering endpoints accept.
pub const SHARED: &[&str] =
    &["model", "stream", "format", "options", "keep_alive", "think", "logprobs", "top_logprobs", "truncate", "shift"];

/// Options that have an effect.
const OPTIONS: &[&str] = &[
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "seed",
    "num_predict",
    "stop",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
];

/// Options about the machine that a runner of Ollama's is to use. Where a model runs is the daemon's business and changes no
/// answer, so these are labels; the context of a conversation is the model's own, of a prompt nothing is dropped, so all of it is
/// kept, and tokens guessed ahead change nothing.
const COUNTS: &[&str] = &["num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "draft_num_predict"];
const SWITCHES: &[&str] = &["use_mmap", "use_mlock", "numa", "low_vram", "f16_kv", "embedding_only"];

/// Older options that may only ask for what happens anyway, which is this.
const USUAL: &[(&str, &str)] =
    &[("tfs_z", "[1, 1.0]"), ("penalize_newline", "[true]"), ("logits_all", "[false]"), ("vocab_only", "[false]")];

/// The members that both answering endpoints share.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Shared {
    /// The model's name, perhaps with `:latest`.
    pub model: String,
    stream: Option<bool>,
    format: Option<Value>,
    options: Option<Map<String, Value>>,
    keep_alive: Option<Value>,
    think: Option<Value>,
    logprobs: Option<bool>,
    #[serde(default, deserialize_with = "alternatives")]
    #[schema(maximum = 20)]
    top_logprobs: Option<u8>,
    /// Only false: a conversation that does not fit is refused.
    truncate: Option<Value>,
    /// Only false: an answer that reaches the end of the context ends.
    shift: Option<Value>,
}

/// What a request says besides its prompt.
#[derive(Debug, Default)]
pub struct Settings {
    sampling: Sampling,
    stop: Stop,
    constraint: Option<Constraint>,
    logprobs: Option<u8>,
}

impl Settings {
    /// Returns the request that puts `prompt` to `model`.
    pub fn request(self, model: String, prompt: Prompt) -> GenerateRequest {
        let Self { sampling, stop, constraint, logprobs } = self;
        GenerateRequest { sampling, stop, constraint, logprobs, ..GenerateRequest::new(Some(model), prompt) }
    }
}

/// The options as they are sent.
#[derive(Debug, Default, Deserialize)]
struct Options {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    mirostat: Option<u8>,
    mirostat_tau: Option<f32>,
    mirostat_eta: Option<f32>,
    seed: Option<i64>,
    num_predict: Option<i64>,
    stop: Option<StopStrings>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
}

impl Shared {
    /// Whether the answer is streamed, as it is unless said otherwise.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(true)
    }

    /// How long the model stays in memory after its last work, if the request says so.
    pub fn keep_alive(&self) -> Result<Option<Duration>, Error> {
        let kept = match &self.keep_alive {
            None => return Ok(None),
            Some(Value::Number(seconds)) => seconds.as_f64().and_then(time::seconds_of),
            Some(Value::String(text)) => time::duration(text),
            Some(_) => None,
        };
        kept.map(Some).ok_or_else(|| {
            let message = "'keep_alive' is no duration; write seconds, or text such as \"5m\" or \"-1\" for ever.";
            Error::invalid("keep_alive", message)
        })
    }

    /// Whether a reasoning model thinks first.
    pub fn thinking(&self) -> Result<Option<bool>, Error> {
        match &self.think {
            None => Ok(None),
            Some(Value::Bool(think)) => Ok(Some(*think)),
            Some(_) => self.effort().map(|effort| effort.map(|_| true)),
        }
    }

    /// How much a reasoning model thinks, in the words that templates know.
    pub fn effort(&self) -> Result<Option<Json>, Error> {
        match &self.think {
            None | Some(Value::Bool(_)) => Ok(None),
            Some(Value::String(level)) if ["low", "medium", "high", "max"].contains(&level.as_str()) => {
                let word = if level == "max" { "high" } else { level };
                Ok(Some(Json(json!({ "reasoning_effort": word }).to_string())))
            }
            Some(_) => {
                Err(Error::invalid("think", "'think' is true, false, \"low\", \"medium\", \"high\" or \"max\"."))
            }
        }
    }

    /// The most tokens of a text that is to become a vector, if the request says so; a conversation has its model's context.
    pub fn context(&self) -> Option<u32> {
        let count = self.options.as_ref()?.get("num_ctx")?.as_f64()?;
        (count >= 1.0).then_some(count as u32)
    }

    /// Refuses every option that is no label: none changes a vector.
    pub fn only_labels(&mut self) -> Result<(), Error> {
        match effective(self.options.take())?.keys().next() {
            None => Ok(()),
            Some(name) => {
                let message = format!("The option '{name}' has no effect on a vector.");
                Err(not_honoured(format!("options.{name}"), message))
            }
        }
    }

    /// Returns the shape that the answer is held to.
    fn constraint(&self) -> Result<Option<Constraint>, Error> {
        match &self.format {
            None => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) if name == "json" => Ok(Some(Constraint::JsonObject)),
            Some(schema @ Value::Object(_)) => {
                Ok(Some(Constraint::JsonSchema { schema: Json(schema.to_string()), strict: false }))
            }
            Some(_) => Err(Error::invalid("format", "'format' is \"json\" or a JSON schema.")),
        }
    }

    /// Returns how tokens are drawn and when the answer ends; refuses what would have no effect.
    pub fn settings(&mut self) -> Result<Settings, Error> {
        let object = effective(self.options.take())?;
        if let Some(name) = object.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
            let message = format!("The option '{name}' is not supported here.");
            return Err(not_honoured(format!("options.{name}"), message));
        }
        accept_only("truncate", self.truncate.as_ref(), &[json!(false)])?;
        accept_only("shift", self.shift.as_ref(), &[json!(false)])?;
        let options: Options = part("options", object)?;
        Ok(Settings { constraint: self.constraint()?, logprobs: self.logprobs()?, ..options.settings()? })
    }

    /// How many alternatives each token comes with, if its log-probability is wanted.
    fn logprobs(&self) -> Result<Option<u8>, Error> {
        let top = self.top_logprobs.unwrap_or(0);
        match self.logprobs.unwrap_or(false) {
            true => Ok(Some(top)),
            false if top == 0 => Ok(None),
            false => Err(Error::invalid("top_logprobs", "'top_logprobs' needs 'logprobs': true.")),
        }
    }
}

/// Returns the options without those that change nothing, which are checked. Ollama's are all of one kind of number, so a whole
/// one may be written as 40.0.
fn effective(options: Option<Map<String, Value>>) -> Result<Map<String, Value>, Error> {
    let mut object = options.unwrap_or_default();
    object.retain(|_, value| !value.is_null());
    for value in object.values_mut().filter(|value| value.is_f64() && whole(value)) {
        // As f64 writes it, which is without a fraction; what is beyond every whole number stays as it is.
        if let Some(number) = value.as_f64().and_then(|number| format!("{number}").parse::<i64>().ok()) {
            *value = number.into();
        }
    }
    let counts = COUNTS.iter().map(|name| (name, whole as fn(&Value) -> bool, "a whole number"));
    let switches = SWITCHES.iter().map(|name| (name, Value::is_boolean as fn(&Value) -> bool, "true or false"));
    for (name, fits, kind) in counts.chain(switches) {
        if object.remove(*name).is_some_and(|value| !fits(&value)) {
            let param = format!("options.{name}");
            return Err(Error::invalid(&param, format!("'{param}' must be {kind}.")));
        }
    }
    for (name, usual) in USUAL {
        let usual: Vec<Value> = serde_json::from_str(usual).unwrap_or_default();
        accept_only(&format!("options.{name}"), object.remove(*name).as_ref(), &usual)?;
    }
    Ok(object)
}

/// Whether a value is a whole number, however it is written.
fn whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

impl Options {
    fn settings(self) -> Result<Settings, Error> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            mirostat: mirostat("options.mirostat", self.mirostat)?,
            mirostat_tau: self.mirostat_tau,
            mirostat_eta: self.mirostat_eta,
            repetition_penalty: self.repeat_penalty,
            // -1 is the whole context, as any number beyond it is.
            repetition_window: self.repeat_last_n.and_then(|count| u32::try_from(count).ok()),
            // It is the window of every penalty; those two look at the whole answer where there is none.
            one_window: self.repeat_last_n.is_some(),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: Vec::new(),
            seed: seed(self.seed),
            ..Sampling::default()
        };
        let strings = self.stop.map(StopStrings::list).unwrap_or_default();
        // None and a negative number ask for as much as there is room for, as does one beyond every context.
        let asked = self.num_predict.filter(|count| *count > 0);
        let max_tokens = asked.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Ok(Settings { sampling, stop: Stop { strings, max_tokens, ..Stop::default() }, ..Settings::default() })
    }
}

/// Which model a request for one is about.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Named {
    model: Option<String>,
    /// The older name of `model`; one of them may be empty.
    name: Option<String>,
}

impl Named {
    /// Returns its name.
    pub fn model(self) -> Result<String, Error> {
        let given = [self.model, self.name].into_iter().flatten().find(|name| !name.is_empty());
        given.ok_or_else(|| Error::invalid("model", "The request names no model."))
    }
}

/// Refuses a text that would have no effect; clients send every member they know, empty where it says nothing.
pub fn only_empty(name: &str, text: Option<&str>) -> Result<(), Error> {
    match text {
        None | Some("") => Ok(()),
        Some(_) => Err(not_honoured(name, format!("'{name}' has no effect here."))),
    }
}

/// Finds the model that a name means; `:latest` is what Ollama's clients add to names without a tag.
pub async fn card(client: &Client, name: &str) -> Result<ModelCard, Error> {
    let cards = client.models().await?;
    let plain = name.strip_suffix(":latest").unwrap_or(name);
    let at = [name, plain].into_iter().find_map(|name| cards.iter().position(|card| card.name == name));
    at.and_then(|at| cards.into_iter().nth(at)).ok_or_else(|| {
        Error::new(ErrorKind::ModelNotFound, format!("model '{name}' not found"))
            .hint("/api/tags lists the models, /api/pull fetches another")
    })
}

/// Says in Ollama's words what a model cannot do, and then why: its clients look for them and ask again without it.
pub fn lacking(card: &ModelCard, verb: &str, error: Error) -> Error {
    let can = card.facts.capabilities;
    let what = match error.param.as_deref() {
        _ if error.kind != ErrorKind::Unsupported => return error,
        Some("thinking") => "thinking",
        Some("tools") if !can.tools => "tools",
        Some("suffix") => "insert",
        Some("model") if !can.generates() => verb,
        _ => return error,
    };
    let message = format!("{:?} does not support {what}: {}", card.name, error.message);
    Error { message, ..error }
}

/// Says how long a model that works stays in memory afterwards, if a request says so.
pub async fn keep(client: &Client, model: &str, keep: Option<Duration>) -> Result<(), Error> {
    match keep.filter(|_| decides()) {
        Some(keep) => load(client, model, Some(keep)).await,
        None => Ok(()),
    }
}

/// Whether the key at work says how long models stay. They are everybody's, so only an administrator's does; clients of
/// others send a `keep_alive` with every prompt too, and none fails for it.
fn decides() -> bool {
    access::current().is_some_and(|who| who.role == KeyRole::Admin)
}

/// Brings a model into memory, to stay for so long after its last work; without a word, as long as the daemon keeps it.
pub async fn load(client: &Client, model: &str, keep: Option<Duration>) -> Result<(), Error> {
    let keep_alive_ms = keep.filter(|_| decides()).map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
    let id = client.load(LoadRequest { model: model.to_owned(), pin: None, keep_alive_ms }).await?;
    let mut events = client.events(id);
    while let Some(event) = events.next().await {
        event?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(members: Value) -> Shared {
        let mut object = json!({"model": "m"});
        object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn options(options: Value) -> Result<Settings, Error> {
        part::<Options>("options", effective(options.as_object().cloned())?)?.settings()
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_fraction_of_nothing() {
        let read = options(json!({"seed": 42.0, "top_k": 40.0, "num_predict": 7.0, "num_thread": 8.0, "top_p": 1.0}));
        let Settings { sampling, stop, .. } = read.unwrap();
        assert_eq!((sampling.seed, sampling.top_k, sampling.top_p), (Some(42), Some(40), Some(1.0)));
        assert_eq!(stop.max_tokens, Some(7));
        for (name, wrong) in [("seed", json!(0.5)), ("top_k", json!(1e300)), ("num_predict", json!("7"))] {
            let param = options(json!({ name: wrong })).unwrap_err().param;
            assert_eq!(param, Some(format!("options.{name}")));
        }
    }

    #[test]
    fn no_number_of_tokens_is_no_limit() {
        let limit = |asked: i64| options(json!({ "num_predict": asked })).unwrap().stop.max_tokens;
        assert_eq!((limit(0), limit(-1), limit(-2), limit(3)), (None, None, None, Some(3)));
    }

    #[test]
    fn a_context_of_any_size_is_a_label() {
        let context = |asked: Value| shared(json!({"options": {"num_ctx": asked}}));
        for asked in [json!(8192), json!(1_000_000_000), json!(4096.0)] {
            assert!(context(asked.clone()).settings().is_ok() && context(asked).only_labels().is_ok());
        }
        let most = [json!(3), json!(40.0), json!(1e12), json!(0), json!(-1)].map(|asked| context(asked).context());
        assert_eq!(most, [Some(3), Some(40), Some(u32::MAX), None, None]);
        assert_eq!(context(json!("long")).settings().unwrap_err().param.as_deref(), Some("options.num_ctx"));
        let seeded = shared(json!({"options": {"num_ctx": 1, "seed": 1}})).only_labels().unwrap_err();
        assert_eq!(seeded.param.as_deref(), Some("options.seed"));
    }

    #[test]
    fn switches_of_a_runner_are_labels() {
        for name in SWITCHES {
            assert!(options(json!({ *name: true })).is_ok());
            assert_eq!(options(json!({ *name: 1 })).unwrap_err().param, Some(format!("options.{name}")));
        }
        assert!(SWITCHES.contains(&"f16_kv") && SWITCHES.contains(&"embedding_only"), "LangChain's client sends them");
    }

    #[test]
    fn a_seed_of_minus_one_is_none() {
        let seed = |seed: i64| options(json!({ "seed": seed })).unwrap().sampling.seed;
        assert_eq!((seed(-1), seed(0), seed(-2)), (None, Some(0), Some(u64::MAX - 1)));
    }

    #[test]
    fn levels_of_thinking_are_told_in_the_words_of_templates() {
        let effort = |level: &str| shared(json!({ "think": level })).effort().map(|effort| effort.map(|json| json.0));
        assert_eq!(effort("low").unwrap().as_deref(), Some(r#"{"reasoning_effort":"low"}"#));
        assert_eq!(effort("max").unwrap().as_deref(), Some(r#"{"reasoning_effort":"high"}"#));
        assert_eq!(effort("most").unwrap_err().param.as_deref(), Some("think"));
        assert_eq!(shared(json!({"think": "max"})).thinking().unwrap(), Some(true));
    }
}
