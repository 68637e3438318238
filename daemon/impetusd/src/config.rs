//! The daemon's configuration: embedded `default.toml` ⊕ file ⊕ environment ⊕ flags, parsed once and then immutable.
//! Unknown keys are refused by name. It reads what it is given and nothing else: the caller passes file text,
//! variables and flags. Called by `main`, and by tests that want a daemon of their own.

mod layers;
mod quantity;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};

use layers::{Layers, environment};
pub use quantity::Amount;
use quantity::{bytes, duration, duration_or_forever};

const DEFAULT: &str = include_str!("default.toml");

/// The profiles that `IMPETUS_ENV` may name.
pub const ENVIRONMENTS: [&str; 4] = ["development", "testing", "staging", "production"];

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The profile in force.
    #[serde(skip)]
    pub environment: String,
    /// The folder of all state.
    #[serde(skip)]
    pub home: PathBuf,
    /// Where the socket is, or is to be.
    #[serde(skip)]
    pub socket: PathBuf,
    /// What is logged, and where to.
    pub log: Log,
    /// Connections.
    pub server: Server,
    /// Generations.
    pub requests: Requests,
    /// Events of long work.
    pub transcripts: Transcripts,
    /// Which models, and for how long.
    pub models: Models,
    /// What models may take.
    pub memory: Memory,
    /// Prefixes of prompts.
    pub cache: Cache,
    /// Worker processes.
    pub worker: Worker,
    /// Where models are pulled from.
    pub hub: Hub,
    /// Where traces are exported to.
    pub traces: Traces,
    /// What it was made of.
    #[serde(skip)]
    layers: Layers,
}

/// What is logged, and where to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
    /// Whether standard error gets it too.
    pub stderr: bool,
    /// When a file is full.
    #[serde(deserialize_with = "bytes")]
    pub file_bytes_max: u64,
    /// Files kept in all.
    pub files_max: u32,
}

/// How severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For eyes.
    Human,
    /// For programs.
    Json,
}

/// Connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Clients at once.
    pub connections_max: usize,
    /// Requests in flight on one connection.
    pub in_flight_max: usize,
    /// How long running work may take to end.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

/// Generations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Generations at once, waiting ones included.
    pub active_max: usize,
    /// Answers to one request.
    pub choices_max: u16,
    /// The most time one may take, unless it is of low priority and says that it has longer.
    #[serde(deserialize_with = "duration")]
    pub deadline: Duration,
}

/// Events of long work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcripts {
    /// How long ended ones can still be read.
    #[serde(deserialize_with = "duration")]
    pub keep: Duration,
    /// How many ended ones are kept.
    pub ended_max: usize,
    /// Bytes of all ended ones that are kept.
    #[serde(deserialize_with = "bytes")]
    pub ended_bytes_max: u64,
    /// Events in one page.
    pub page_events_max: usize,
    /// Bytes of text in one page and in one merged delta.
    #[serde(deserialize_with = "bytes")]
    pub page_bytes_max: u64,
}

/// Which models, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// What requests without a name get.
    pub default: String,
    /// What requests for vectors without a name get.
    pub default_embedder: String,
    /// By model, the smaller one that guesses for it.
    pub draft_model: BTreeMap<String, String>,
    /// Models loaded at the start and never evicted.
    pub preload: Vec<String>,
    /// How long one stays without work; `None` is for ever.
    #[serde(deserialize_with = "duration_or_forever")]
    pub keep_alive: Option<Duration>,
    /// Whether a first step is run before a model counts as loaded.
    pub warm_up: bool,
}

/// What models may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// All loaded models together.
    pub budget: Amount,
    /// One worker, besides weights and KV cache.
    #[serde(deserialize_with = "bytes")]
    pub overhead: u64,
    /// KV cache of one model, in tokens.
    pub kv_tokens: u32,
    /// KV cache of one model at most.
    pub kv_max: Amount,
    /// What the cache may shrink to, in tokens.
    pub kv_tokens_min: u32,
    /// How keys and values are kept.
    pub kv: pipe::Keep,
    /// When a busy model gives way to a waiting one.
    #[serde(deserialize_with = "duration")]
    pub patience: Duration,
}

/// Prefixes of prompts that memory has no room for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Bytes of disk for all models together; 0 is off.
    #[serde(deserialize_with = "bytes")]
    pub disk: u64,
    /// Bytes written in a day.
    #[serde(deserialize_with = "bytes")]
    pub disk_per_day: u64,
    /// Whether what is written is sealed.
    pub encrypt: bool,
    /// Whether requests of different keys reuse each other's prefixes.
    pub shared: bool,
}

/// Worker processes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The program; empty searches for it.
    pub program: String,
    /// Compute threads; 0 lets placement decide.
    pub threads: u32,
    /// Sequences in one step.
    pub sequences_max: u32,
    /// Requests that wait for a place in a step.
    pub waiting_max: u32,
    /// How long a step may take while prompts are read.
    #[serde(deserialize_with = "duration")]
    pub step: Duration,
    /// Prompt tokens in one step.
    pub prefill_tokens_max: u32,
    /// Tokens guessed ahead for one sequence in one step.
    pub draft_tokens_max: u32,
    /// When a worker with work counts as hung.
    #[serde(deserialize_with = "duration")]
    pub silence: Duration,
    /// When a loading worker counts as hung.
    #[serde(deserialize_with = "duration")]
    pub load_silence: Duration,
    /// Deaths within `restart_window` that are forgiven.
    pub restarts_max: usize,
    /// The window in which deaths count.
    #[serde(deserialize_with = "duration")]
    pub restart_window: Duration,
    /// The wait before the first restart.
    #[serde(deserialize_with = "duration")]
    pub backoff: Duration,
    /// The longest wait before a restart.
    #[serde(deserialize_with = "duration")]
    pub backoff_max: Duration,
    /// How many deaths of its worker a request survives.
    pub resubmits_max: u32,
    /// How long an idle worker may take to exit.
    #[serde(deserialize_with = "duration")]
    pub exit_grace: Duration,
    /// How long reading a model's facts may take.
    #[serde(deserialize_with = "duration")]
    pub inspect: Duration,
}

/// Where models are pulled from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// The hub's base URL.
    pub endpoint: String,
    /// The cache folder; empty is the usual place.
    pub cache: String,
    /// The access token; empty takes the one that `hf auth login` left.
    pub token: Secret,
    /// Whether the hub is never asked.
    pub offline: bool,
    /// Pulls at once.
    pub pulls_max: usize,
    /// How long one HTTP request may take.
    #[serde(deserialize_with = "duration")]
    pub request: Duration,
    /// Failures without progress that are forgiven.
    pub retries: u32,
}

/// Where traces are exported to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The collector's URL for traces; empty exports nothing.
    pub endpoint: String,
    /// `name=value`, sent with every export.
    pub headers: Vec<Secret>,
}

/// A value that is never printed.
#[derive(Clone, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// The value, if there is one.
    pub fn given(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.clone())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "redacted" })
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No key has this name.
    #[error("{origin}: there is no key {key:?}{suggestion}")]
    UnknownKey {
        /// The file, variable or flag.
        origin: String,
        /// The key as given.
        key: String,
        /// `; did you mean …?`, or nothing.
        suggestion: String,
    },
    /// A value does not fit its key.
    #[error("{origin}: {cause}")]
    Value {
        /// The file, variable or flag.
        origin: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// What is laid over the defaults, least binding first.
#[derive(Debug, Default)]
pub struct Sources {
    /// The text of the config file, and its name for messages.
    pub file: Option<(String, String)>,
    /// The variables of the environment.
    pub variables: Vec<(String, String)>,
    /// `section.key=value` flags.
    pub settings: Vec<String>,
}

impl Config {
    /// Lays `sources` over the defaults. `home` and `socket` stay empty: `paths` knows them.
    pub fn parse(sources: &Sources) -> Result<Self, ConfigError> {
        let environment = environment(&sources.variables)?;
        let mut defaults: Table = DEFAULT.parse().expect("the embedded default.toml is valid; a test reads it");
        let profiles = defaults.remove("profile");
        let known = defaults.clone();
        let mut layers = Layers { known, merged: defaults, fixed: Default::default() };
        if let Some(Value::Table(mut profiles)) = profiles
            && let Some(Value::Table(profile)) = profiles.remove(&environment)
        {
            layers.add("default.toml", profile)?;
        }
        if let Some((text, name)) = &sources.file {
            layers.add_file(text, name, &environment)?;
        }
        // In the order of their names, so that HF_HUB_CACHE wins over HF_HOME, whoever sets them.
        let mut variables: Vec<_> = sources.variables.iter().collect();
        variables.sort();
        for (variable, value) in variables {
            layers.add_variable(variable, value)?;
        }
        for setting in &sources.settings {
            layers.add_setting(setting)?;
        }
        let mut config = layers.read("the configuration")?;
        config.environment = environment;
        config.layers = layers;
        Ok(config)
    }

    /// Lays changes over it, each the `section.key` and the value that a file would hold.
    pub fn with<'a>(&self, changes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let mut layers = self.layers.clone();
        for (name, value) in changes {
            let (section, key) = name.split_once('.').unwrap_or((name, ""));
            layers.lay(name, section, key, value)?;
        }
        let config = layers.read("the configuration")?;
        let Self { environment, home, socket, .. } = self.clone();
        Ok(Self { environment, home, socket, layers, ..config })
    }

    /// Returns the variable or flag that set `section.key`, if one did.
    pub fn fixed_by(&self, name: &str) -> Option<&str> {
        self.layers.fixed.get(name).map(String::as_str)
    }

    /// Returns the value of `section.key` as a file would hold it.
    pub fn text(&self, name: &str) -> Option<String> {
        let (section, key) = name.split_once('.')?;
        self.layers.text(section, key)
    }

    /// The defaults alone, in the profile `testing`, with all state in `home`.
    pub fn testing(home: &Path) -> Self {
        let variables = vec![("IMPETUS_ENV".to_owned(), "testing".to_owned())];
        let sources = Sources { variables, ..Sources::default() };
        let mut config = Self::parse(&sources).expect("the defaults are valid; a test reads them");
        config.home = home.to_owned();
        config.socket = home.join("run").join("impetus.sock");
        config
    }
}

/// Reads the text of the file at `path`; a file that is not there is no error.
pub fn read_file(path: &Path) -> Result<Option<(String, String)>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((text, path.display().to_string()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}
