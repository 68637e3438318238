//! The words for models: what a model folder holds, where it came from, and whether it is in memory.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::generation::Sampling;
use crate::measures::Measures;

/// Everything a client may know of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The name requests use.
    pub name: String,
    /// Where the model came from.
    pub source: Source,
    /// The folder of its files.
    pub path: String,
    /// What the folder holds.
    pub facts: ModelFacts,
    /// Whether it is in memory.
    pub state: ModelState,
    /// Whether it is never evicted.
    pub pinned: bool,
    /// When it was added, in seconds since 1970.
    pub created_unix_s: i64,
}

/// Where a model came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Shipped with Impetus.
    Bundled,
    /// A folder on this machine.
    Local,
    /// A repository of the Hugging Face hub, at a commit.
    Hub {
        /// `ORG/NAME`.
        repo: String,
        /// The commit.
        revision: String,
    },
}

/// What a model folder holds, as read from its files without loading them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// `model_type` of `config.json`.
    pub architecture: String,
    /// How many parameters.
    pub parameters: u64,
    /// The most positions the model was configured for.
    pub context_length: u32,
    /// How many token ids the model scores.
    pub vocabulary: u32,
    /// How its weights are stored, as in `4-bit, group 64` or `bf16`.
    pub weights: String,
    /// Bytes of its weight files.
    pub weights_bytes: u64,
    /// Bytes of memory that its weights take, where kernels keep them in another form; 0 where it is not known yet.
    #[serde(default)]
    pub memory_bytes: u64,
    /// Bytes of weights that are read for one more token of one answer: of experts those that are chosen, of the embedding
    /// what scores. 0 for models that generate nothing, and where it is not known yet.
    #[serde(default)]
    pub step_bytes: u64,
    /// Bytes of memory per token of context: KV cache, or what an encoder computes with.
    pub kv_bytes_per_token: u64,
    /// How long the vectors of an embedder are; `None` for other models.
    #[serde(default)]
    pub dimensions: Option<u32>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl ModelFacts {
    /// Bytes of memory that the weights take, or those of their files where that is all that is known.
    pub fn weights_in_memory(&self) -> u64 {
        if self.memory_bytes > 0 { self.memory_bytes } else { self.weights_bytes }
    }
}

/// What a model's folder holds for people to read, as its publisher wrote it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTexts {
    /// The chat template's source.
    pub template: Option<String>,
    /// The license.
    pub license: Option<String>,
    /// How answers are drawn where a request does not say, as far as the folder says.
    pub sampling: Sampling,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// It has a chat template.
    pub chat: bool,
    /// Its template shows tools to the model.
    pub tools: bool,
    /// It reasons before it answers.
    pub reasoning: bool,
    /// It turns texts into vectors; it generates nothing.
    #[serde(default)]
    pub embed: bool,
    /// It scores documents for a query; it generates nothing.
    #[serde(default)]
    pub rerank: bool,
}

impl Capabilities {
    /// Whether it generates text.
    pub fn generates(&self) -> bool {
        !self.embed && !self.rerank
    }
}

/// Where a model is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ModelState {
    /// On disk, not in memory.
    Available,
    /// Being read into a worker.
    Loading,
    /// Ready to answer.
    Loaded(Residence),
    /// Finishing its work before it leaves memory.
    Unloading,
    /// Its last load failed.
    Failed(Error),
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residence {
    /// The worker's process id.
    pub pid: u32,
    /// The compute device in words, as in `CPU, 2 threads, AVX-512 VNNI`.
    pub device: String,
    /// Bytes of memory the worker holds.
    pub memory_bytes: u64,
    /// Bytes it is accounted with against the budget: what it was granted, or what it holds if that is more.
    pub accounted_bytes: u64,
    /// Bytes of KV cache it was granted.
    pub kv_bytes: u64,
    /// Milliseconds that the load took.
    pub load_ms: u64,
    /// Milliseconds until it is unloaded if idle; `None` keeps it.
    pub expires_in_ms: Option<u64>,
    /// Requests being answered.
    pub running: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// KV blocks in use.
    pub blocks_used: u32,
    /// KV blocks in all.
    pub blocks_total: u32,
    /// What it has counted and timed.
    pub measures: Measures,
}

/// Asks to register a folder of model files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRequest {
    /// An absolute path on the daemon's machine.
    pub path: String,
    /// The name to give it; `None` takes the folder's.
    pub name: Option<String>,
}

/// Asks to make a model folder of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// An absolute path on the daemon's machine.
    pub path: String,
    /// The name to give the model; `None` takes the file's.
    pub name: Option<String>,
}

/// Asks to forget a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// The model's name.
    pub model: String,
    /// Whether files that Impetus downloaded or made for it go too; those of a folder that was added never do.
    pub delete_files: bool,
}

/// Asks to bring a model into memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRequest {
    /// The model's name.
    pub model: String,
    /// Whether it is then never evicted; `None` leaves that as it is. This and the next are an administrator's to say.
    pub pin: Option<bool>,
    /// Milliseconds of idleness before it is unloaded, `u64::MAX` for ever; `None` leaves that as it is, and is the daemon's
    /// default where the model is not in memory.
    pub keep_alive_ms: Option<u64>,
}

/// Asks to fetch a model from the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// `ORG/NAME`.
    pub repo: String,
    /// A branch, tag or commit; `None` is `main`.
    pub revision: Option<String>,
    /// The name to give it; `None` takes `ORG/NAME`.
    pub name: Option<String>,
}
