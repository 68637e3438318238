//! Random model folders for tests and benches: any architecture, size and quantization, from a configuration and a seed.
//!
//! A folder of [`Recipe::write`] is whole: weights, tokenizer, chat template, generation settings. It answers nonsense, the
//! same nonsense for the same recipe on every machine. No product code calls this; the tests of the worker and of the
//! whole house, the benches and the maker of golden logits do. Weights are streamed, so the size of a real model is fine.

mod fill;
pub mod gguf;
mod letters;
mod peculiar;
mod pieces;
mod temp;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use self::fill::{Blank, blanks};
pub use self::pieces::sentencepiece;
pub use self::temp::TempFolder;
use crate::config::Config;
use crate::gguf::pooling;
use crate::models::Description;
use crate::models::encoders::{Encoder, Settings};

/// Token ids that the tokenizer of a random model knows.
pub const TOKENS: u32 = letters::COUNT;

/// What to write.
#[derive(Clone, Debug)]
pub struct Recipe {
    config: Map<String, Value>,
    seed: u64,
    shards: usize,
    endless: bool,
    pooling: Option<&'static str>,
    dense: Vec<Value>,
}

impl Recipe {
    /// A model of a few tens of thousands of parameters, in bf16: hidden 64, two layers, four heads that share two, and
    /// exactly [`TOKENS`] ids. What only its architecture has is set so that leaving it out would show.
    pub fn tiny(architecture: &str, seed: u64) -> Self {
        let config = json!({
            "model_type": architecture, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": TOKENS,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true,
            "hidden_act": "silu", "torch_dtype": "bfloat16",
        });
        let mut config = config.as_object().cloned().unwrap_or_default();
        config.extend(peculiar::of(architecture));
        Self::from_config(config, seed)
    }

    /// A model of Qwen3-0.6B's shape, in bf16.
    pub fn qwen3_600m(seed: u64) -> Self {
        let config = json!({
            "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "tie_word_embeddings": true, "hidden_act": "silu", "torch_dtype": "bfloat16",
        });
        Self::from_config(config.as_object().cloned().unwrap_or_default(), seed)
    }

    /// An encoder as small as `tiny`: `bert`, `xlm-roberta`, `nomic_bert` or `modernbert`. With `architectures` ending in
    /// `ForSequenceClassification` it reranks.
    pub fn tiny_encoder(architecture: &str, seed: u64) -> Self {
        let config = json!({
            "model_type": architecture, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 4, "vocab_size": TOKENS, "max_position_embeddings": 512, "type_vocab_size": 2,
            "local_attention": 16, "torch_dtype": "bfloat16",
        });
        Self::from_config(config.as_object().cloned().unwrap_or_default(), seed)
    }

    /// An encoder of nomic-embed-text-v1.5's shape, in bf16.
    pub fn nomic_137m(seed: u64) -> Self {
        let config = json!({
            "model_type": "nomic_bert", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "vocab_size": 30528, "max_position_embeddings": 8192, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12, "rope_theta": 1000.0, "torch_dtype": "bfloat16",
        });
        Self::from_config(config.as_object().cloned().unwrap_or_default(), seed).pooled("mean")
    }

    /// A model of any `config.json`.
    pub fn from_config(config: Map<String, Value>, seed: u64) -> Self {
        Self { config, seed, shards: 1, endless: false, pooling: None, dense: Vec::new() }
    }

    /// Its `config.json`, to be the text of a model of more than text.
    pub fn config(&self) -> Value {
        Value::Object(self.config.clone())
    }

    /// Sets a key of `config.json`.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.config.insert(key.to_string(), value.into());
        self
    }

    /// Quantizes every matrix as MLX does; scales and biases keep the type of the weights.
    pub fn quantized(self, bits: u32, group: u32) -> Self {
        self.set("quantization", json!({ "bits": bits, "group_size": group, "mode": "affine" }))
    }

    /// Spreads the weights over so many files with an index.
    pub fn sharded(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Pools as `mean`, `cls` or `lasttoken`, and says so in sentence-transformers' files.
    pub fn pooled(mut self, mode: &'static str) -> Self {
        self.pooling = Some(match mode {
            "mean" => "mean_tokens",
            "cls" => "cls_token",
            other => other,
        });
        self
    }

    /// Puts what was pooled through matrices, by the settings of sentence-transformers' Dense modules.
    pub fn projected(mut self, dense: Vec<Value>) -> Self {
        self.dense = dense;
        self
    }

    /// EmbeddingGemma as small as `tiny`: it sees both ways, and its mean goes through two matrices.
    pub fn tiny_embedding_gemma(seed: u64) -> Self {
        let recipe = Self::tiny("gemma3_text", seed).set("use_bidirectional_attention", true).pooled("mean");
        let dense = |inputs: u32, outputs: u32| {
            let identity = "torch.nn.modules.linear.Identity";
            json!({ "in_features": inputs, "out_features": outputs, "bias": false, "activation_function": identity })
        };
        recipe.projected(vec![dense(64, 256), dense(256, 64)])
    }

    /// Names no token that ends a turn, so that generation runs to its limit.
    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    /// Writes the model to a temporary folder.
    pub fn temporary(&self) -> io::Result<TempFolder> {
        let folder = TempFolder::new()?;
        self.write(folder.path())?;
        Ok(folder)
    }

    /// Writes the folder. A configuration that no model can have is an error of kind `Other`.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        write_json(&dir.join("config.json"), &Value::Object(self.full_config()))?;
        let config = Config::open(dir).map_err(io::Error::other)?;
        let converted = config.value("quantization").is_some();
        if let Some(mode) = self.pooling {
            let width = self.config.get("hidden_size").unwrap_or(&Value::Null);
            pooling::write_mode(dir, mode, width, &self.dense).map_err(io::Error::other)?;
        }
        // As converters write them: the matrices among the model's own, and of the modules only the list.
        let gathered = converted && !self.dense.is_empty();
        if gathered {
            let folders = (2..self.dense.len() + 2).map(|index| format!("{index}_Dense"));
            std::iter::once("1_Pooling".to_string())
                .chain(folders)
                .try_for_each(|it| fs::remove_dir_all(dir.join(it)))?;
        }
        let settings = Settings::open(dir).map_err(io::Error::other)?;
        let quantization = config.quantization().map_err(io::Error::other)?;
        let dtype = config.word_if_any("torch_dtype").map_err(io::Error::other)?.unwrap_or("bfloat16");
        let blanks = if Encoder::is_meant(&config, &settings).map_err(io::Error::other)? {
            letters::write_for_encoder(dir)?;
            let holds = |name: &str| gathered && name == "dense.0.weight";
            let encoder = Encoder::read(&config, &settings, &holds).map_err(io::Error::other)?;
            blanks(&encoder, encoder.vocabulary, &quantization, dtype)?
        } else {
            letters::write(dir, self.endless)?;
            // As converters write them: once they are quantized, experts in one tensor, and a latent's heads in others.
            let apart = config.word("model_type").is_ok_and(|name| name != "deepseek_v2");
            let holds = |name: &str| {
                converted
                    && (name.contains("switch_mlp")
                        || (apart && name.contains("embed_q"))
                        || name.starts_with("language_model."))
            };
            let decoder = Description::read(&config, &holds).map_err(io::Error::other)?;
            blanks(&decoder, decoder.vocabulary, &quantization, dtype)?
        };
        let (modules, own): (Vec<Blank>, Vec<Blank>) = blanks.into_iter().partition(|blank| blank.module().is_some());
        for blanks in modules.chunk_by(|one, next| one.module() == next.module()) {
            let module = blanks[0].module().unwrap_or_default();
            self.write_file(&dir.join(module).join("model.safetensors"), blanks, &format!("{module}."))?;
        }
        self.write_weights(dir, &own)
    }

    fn full_config(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        if !self.endless && self.pooling.is_none() {
            config.entry("eos_token_id").or_insert(json!(letters::TURN_END));
        }
        config
    }

    fn write_weights(&self, dir: &Path, blanks: &[Blank]) -> io::Result<()> {
        if self.shards == 1 {
            return self.write_file(&dir.join("model.safetensors"), blanks, "");
        }
        let mut weight_map = Map::new();
        for (index, shard) in blanks.chunks(blanks.len().div_ceil(self.shards)).enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, self.shards);
            self.write_file(&dir.join(&name), shard, "")?;
            weight_map.extend(shard.iter().map(|blank| (blank.name.clone(), json!(name))));
        }
        write_json(&dir.join("model.safetensors.index.json"), &json!({ "metadata": {}, "weight_map": weight_map }))
    }

    /// Writes tensors, whose names in the file lack a beginning.
    fn write_file(&self, path: &Path, blanks: &[Blank], beginning: &str) -> io::Result<()> {
        let mut header = Map::new();
        header.insert("__metadata__".to_string(), json!({ "format": "mlx" }));
        let mut start = 0;
        for blank in blanks {
            let end = start + blank.bytes();
            let entry = json!({ "dtype": blank.dtype(), "shape": blank.shape, "data_offsets": [start, end] });
            header.insert(blank.name.strip_prefix(beginning).unwrap_or(&blank.name).to_string(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string();
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        blanks.iter().try_for_each(|blank| blank.write(self.seed, &mut file))?;
        file.flush()
    }
}

fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    fs::write(path, format!("{value:#}\n"))
}

#[cfg(test)]
mod tests;
