//! What sentence-transformers' files say of an encoder: how tokens are pooled, which words a judge answers in, what is done
//! to a text first, and how long a text it was configured for.
//!
//! `modules.json` lists the steps after the network; `1_Pooling/config.json` says how tokens are pooled, `2_Dense` and its
//! kin through which matrices the vector then goes, and `1_LogitScore/config.json` which token means yes and which no. Of the
//! prompts of `config_sentence_transformers.json` the default one, which few name, goes before every text; the others are the
//! caller's. A folder without these files gets its architecture's usual pooling. Every vector leaves the daemon with length 1,
//! whether or not a step says so.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::LoadError;
use crate::config::{Config, read_object, read_text};
use crate::native::Activation;

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
    /// What a pooled vector goes through, in order.
    pub dense: Vec<Dense>,
    /// The settings of a module that is listed and not there: converters for MLX copy no folders.
    pub lost: Option<PathBuf>,
    /// The words of a decoder that judges; `None` where no module scores.
    pub answers: Option<Answers>,
    /// What is put before every text.
    pub prompt: String,
    /// Whether texts are made small.
    pub lower: bool,
    /// The most tokens of a text.
    pub length: Option<usize>,
}

/// A matrix that a pooled vector goes through.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    /// Its name among the tensors.
    pub module: String,
    /// How many numbers it reads.
    pub inputs: usize,
    /// How many it gives.
    pub outputs: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// What each number then becomes, if it changes.
    pub activation: Option<Activation>,
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

/// What the matrix of a Dense module is called in its file.
const LINEAR: &str = ".linear";

const ADVICE: &str = "modules.json names it; download the folder again";

impl Settings {
    /// Reads the files of a folder; a folder without them says nothing.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let modules = modules(dir)?;
        let mut settings = Self::default();
        if !modules.is_empty() {
            settings.prompt = prompt(dir)?;
        }
        let mut normal = false;
        for (kind, path) in modules {
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {
                    let files = TRANSFORMERS.map(|name| dir.join(&path).join(format!("sentence_{name}_config.json")));
                    let file = files.iter().find(|file| file.exists());
                    file.map_or(Ok(()), |file| settings.read_transformer(file))?;
                }
                "Pooling" | "Dense" if !dir.join(&path).join("config.json").exists() => {
                    settings.lost.get_or_insert_with(|| dir.join(&path).join("config.json"));
                }
                "Pooling" if !settings.dense.is_empty() => {
                    return Err(LoadError::unsupported("a Dense module before Pooling", "one after it is"));
                }
                "Pooling" => settings.pooling = Some(pooling(&dir.join(&path), !settings.prompt.is_empty())?),
                "Dense" if normal => {
                    return Err(LoadError::unsupported("a Dense module after Normalize", "one before it is"));
                }
                "Dense" => settings.dense.push(dense(dir, &path)?),
                "LogitScore" => settings.answers = Some(answers(&dir.join(&path))?),
                "Normalize" => normal = true,
                _ => {
                    let supported = "Transformer, Pooling, Dense, LogitScore and Normalize are";
                    return Err(LoadError::unsupported(format!("module {kind} of modules.json"), supported));
                }
            }
        }
        Ok(settings)
    }

    /// The folders that hold weights of their own.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.dense.iter().filter_map(|dense| dense.module.strip_suffix(LINEAR))
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

/// What a folder without a module's settings is refused with.
pub(super) fn missing(path: &Path) -> LoadError {
    LoadError::MissingFile { path: path.to_path_buf(), advice: ADVICE.to_string() }
}

/// A matrix that a vector goes through; its numbers lie in a file of the module's own.
fn dense(dir: &Path, path: &str) -> Result<Dense, LoadError> {
    let config = module(&dir.join(path))?;
    if config.flag("use_residual")? {
        return Err(LoadError::unsupported("use_residual of a Dense module", "one without it is"));
    }
    for key in ["module_input_name", "module_output_name"] {
        if let Some(name) = config.word_if_any(key)?.filter(|name| *name != "sentence_embedding") {
            return Err(LoadError::unsupported(format!("{key} {name} of a Dense module"), "sentence_embedding is"));
        }
    }
    let named = config.word_if_any("activation_function")?.unwrap_or("torch.nn.modules.activation.Tanh");
    let activation = match named {
        "torch.nn.modules.linear.Identity" => None,
        "torch.nn.modules.activation.Tanh" => Some(Activation::Tanh),
        other => {
            let supported = "torch.nn's Identity and Tanh are";
            return Err(LoadError::unsupported(format!("activation_function {other} of a Dense module"), supported));
        }
    };
    Ok(Dense {
        module: format!("{path}{LINEAR}"),
        inputs: config.count("in_features")?,
        outputs: config.count("out_features")?,
        bias: config.flag_if_any("bias")?.unwrap_or(true),
        activation,
    })
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
