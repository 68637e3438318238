//! What sentence-transformers' files say of an encoder: how tokens are pooled, which words a judge answers in, what is done
//! to a text first, and how long a text it was configured for.
//!
//! `modules.json` lists the steps after the network; `1_Pooling/config.json` says how tokens are pooled, and
//! `1_LogitScore/config.json` which token means yes and which no. Of the prompts of `config_sentence_transformers.json` the
//! default one, which few name, goes before every text; the others are the caller's. A folder without these files gets its
//! architecture's usual pooling. Every vector leaves the daemon with length 1, whether or not a step says so.

use std::path::Path;

use serde_json::Value;

use crate::LoadError;
use crate::config::{Config, read_object, read_text};

/// Which tokens of the last layer make the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean of all.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
}

/// What the files say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// How tokens are pooled; `None` where no module pools.
    pub pooling: Option<Pooling>,
    /// The words of a decoder that judges; `None` where no module scores.
    pub answers: Option<Answers>,
    /// What is put before every text.
    pub prompt: String,
    /// Whether texts are made small.
    pub lower: bool,
    /// The most tokens of a text.
    pub length: Option<usize>,
}

/// The tokens that a judge answers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    /// What counts.
    pub yes: u32,
    /// What counts against it.
    pub no: u32,
}

/// Whose settings a file may be called after; new ones are called after the first, whatever the model is.
const TRANSFORMERS: [&str; 7] = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"];

const ADVICE: &str = "modules.json names it; download the folder again";

impl Settings {
    /// Reads the files of a folder; a folder without them says nothing.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let modules = modules(dir)?;
        let mut settings = Self::default();
        if !modules.is_empty() {
            settings.prompt = prompt(dir)?;
        }
        for (kind, path) in modules {
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {
                    let files = TRANSFORMERS.map(|name| dir.join(&path).join(format!("sentence_{name}_config.json")));
                    let file = files.iter().find(|file| file.exists());
                    file.map_or(Ok(()), |file| settings.read_transformer(file))?;
                }
                "Pooling" => settings.pooling = Some(pooling(&dir.join(&path), !settings.prompt.is_empty())?),
                "LogitScore" => settings.answers = Some(answers(&dir.join(&path))?),
                "Normalize" => {}
                _ => {
                    let supported = "Transformer, Pooling, LogitScore and Normalize are";
                    return Err(LoadError::unsupported(format!("module {kind} of modules.json"), supported));
                }
            }
        }
        Ok(settings)
    }

    /// Reads the transformer's own settings.
    fn read_transformer(&mut self, path: &Path) -> Result<(), LoadError> {
        let config = Config::new(path, read_object(path, ADVICE)?);
        self.lower = config.flag("do_lower_case")?;
        // Some files say 10^30, and mean no limit.
        let length = config.value("max_seq_length").and_then(Value::as_u64);
        self.length = length.and_then(|length| usize::try_from(length).ok());
        Ok(())
    }
}

/// The prompt that goes before every text, if the folder names one.
fn prompt(dir: &Path) -> Result<String, LoadError> {
    let path = dir.join("config_sentence_transformers.json");
    if !path.exists() {
        return Ok(String::new());
    }
    let config = Config::new(&path, read_object(&path, ADVICE)?);
    let Some(name) = config.word_if_any("default_prompt_name")? else { return Ok(String::new()) };
    let prompts = config.object_if_any("prompts")?;
    let prompt = prompts.as_ref().map(|prompts| prompts.word_if_any(name)).transpose()?.flatten();
    let prompt = prompt.ok_or_else(|| config.problem(format!("default_prompt_name {name} is none of its prompts")))?;
    Ok(prompt.to_string())
}

/// The type and folder of each module.
fn modules(dir: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let path = dir.join("modules.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let broken = || LoadError::invalid(&path, "it is not a list of modules with a type and a path");
    let list: Value = serde_json::from_str(&read_text(&path, ADVICE)?).map_err(|_| broken())?;
    let module = |module: &Value| {
        let kind = module.get("type")?.as_str()?;
        let path = module.get("path")?.as_str()?;
        // One folder of this one, so that no file outside is read.
        let plain = !path.starts_with('.') && !path.contains(['/', '\\']);
        plain.then(|| (kind.to_string(), path.to_string()))
    };
    list.as_array().and_then(|list| list.iter().map(module).collect()).ok_or_else(broken)
}

/// The settings of a module's folder.
fn module(dir: &Path) -> Result<Config, LoadError> {
    let path = dir.join("config.json");
    Ok(Config::new(&path, read_object(&path, ADVICE)?))
}

fn answers(dir: &Path) -> Result<Answers, LoadError> {
    let config = module(dir)?;
    let token = |key: &str| match config.value(key).map(Value::as_u64) {
        Some(Some(token)) => u32::try_from(token).map_err(|_| config.problem(format!("{key} {token} is no token"))),
        Some(None) => Err(config.problem(format!("{key} is not a token's number"))),
        None => Err(LoadError::unsupported(format!("LogitScore without {key}"), "the difference of two words is")),
    };
    Ok(Answers { yes: token("true_token_id")?, no: token("false_token_id")? })
}

fn pooling(dir: &Path, prompted: bool) -> Result<Pooling, LoadError> {
    let config = module(dir)?;
    if prompted && config.flag_if_any("include_prompt")? == Some(false) {
        return Err(LoadError::unsupported("include_prompt false", "pooling over the default prompt too is"));
    }
    let named = match config.word_if_any("pooling_mode")? {
        Some(name) => vec![name.to_string()],
        None => {
            let modes =
                ["cls_token", "mean_tokens", "lasttoken", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"];
            let mut named = Vec::new();
            for mode in modes {
                if config.flag(&format!("pooling_mode_{mode}"))? {
                    named.push(mode.to_string());
                }
            }
            named
        }
    };
    match named.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mean_tokens" | "mean"] => Ok(Pooling::Mean),
        ["cls_token" | "cls"] => Ok(Pooling::First),
        ["lasttoken" | "last"] => Ok(Pooling::Last),
        _ => {
            let found = if named.is_empty() { "none".to_string() } else { named.join(" with ") };
            Err(LoadError::unsupported(format!("pooling {found}"), "mean, cls and lasttoken are, one at a time"))
        }
    }
}
