//! What sentence-transformers' files say of an encoder: how tokens are pooled, and how long a text it was configured for.
//!
//! `modules.json` lists the steps after the network; `1_Pooling/config.json` says how tokens are pooled. Prompts
//! (`config_sentence_transformers.json`) are the caller's: nothing is put before a text here. A folder without these files
//! gets its architecture's usual pooling. Every vector leaves the daemon with length 1, whether or not a step says so.

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
    /// The most tokens of a text.
    pub length: Option<usize>,
}

const ADVICE: &str = "modules.json names it; download the folder again";

impl Settings {
    /// Reads the files of a folder; a folder without them says nothing.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let mut settings = Self::default();
        for (kind, path) in modules(dir)? {
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => settings.length = length(&dir.join(&path).join("sentence_bert_config.json"))?,
                "Pooling" => settings.pooling = Some(pooling(&dir.join(&path))?),
                "Normalize" => {}
                _ => {
                    let supported = "Transformer, Pooling and Normalize are";
                    return Err(LoadError::unsupported(format!("module {kind} of modules.json"), supported));
                }
            }
        }
        Ok(settings)
    }
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

/// The most tokens, if the transformer's own settings name it.
fn length(path: &Path) -> Result<Option<usize>, LoadError> {
    if !path.exists() {
        return Ok(None);
    }
    let object = read_object(path, ADVICE)?;
    Ok(object.get("max_seq_length").and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok()))
}

fn pooling(dir: &Path) -> Result<Pooling, LoadError> {
    let config = Config::open(dir)?;
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
