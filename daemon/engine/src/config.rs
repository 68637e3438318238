//! `config.json` as typed questions: a count, a number, a flag, a word; each answer checked, each refusal naming the key.
//!
//! It knows JSON and the quantization table that MLX writes. It knows no architecture: the pages in `models/` ask the
//! questions. `null` counts as absent, as in the files that transformers writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::LoadError;

/// The most bytes of a JSON file that is not a tokenizer; real ones are under 100 kB.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// The largest count that any dimension may have; it keeps every product of two of them inside 64 bits.
const COUNT_MAX: u64 = 1 << 28;

/// A model's `config.json`.
pub(crate) struct Config {
    path: PathBuf,
    values: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        if !dir.is_dir() {
            return Err(LoadError::NoFolder(dir.to_path_buf()));
        }
        let path = dir.join("config.json");
        if !path.exists() {
            refuse_adapter(dir)?;
        }
        let values = read_object(&path, "a model folder holds config.json, tokenizer.json and *.safetensors")?;
        Ok(Self { path, values })
    }

    /// Takes values that are not in a file yet; `path` is named in errors.
    pub fn new(path: &Path, values: Map<String, Value>) -> Self {
        Self { path: path.to_path_buf(), values }
    }

    /// The same with values for keys that it lacks.
    pub fn with_defaults(&self, defaults: &Value) -> Self {
        let mut values = self.values.clone();
        for (key, value) in defaults.as_object().into_iter().flatten() {
            if self.value(key).is_none() {
                values.insert(key.clone(), value.clone());
            }
        }
        Self { path: self.path.clone(), values }
    }

    /// The same without some keys.
    pub fn without(&self, keys: &[&str]) -> Self {
        let mut values = self.values.clone();
        keys.iter().for_each(|key| drop(values.remove(*key)));
        Self { path: self.path.clone(), values }
    }

    /// The value of a key, unless it is absent or null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the file says anything of a key, if only null.
    pub fn says(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A word that must be there.
    pub fn word(&self, key: &str) -> Result<&str, LoadError> {
        self.word_if_any(key)?.ok_or_else(|| self.problem(format!("{key} is missing")))
    }

    /// A word that may be absent.
    pub fn word_if_any(&self, key: &str) -> Result<Option<&str>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.problem(format!("{key} is {value}, not a string")))
    }

    /// A positive count that must be there.
    pub fn count(&self, key: &str) -> Result<usize, LoadError> {
        self.count_if_any(key)?.ok_or_else(|| self.problem(format!("{key} is missing")))
    }

    /// A positive count that may be absent.
    pub fn count_if_any(&self, key: &str) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_u64() {
            Some(count) if (1..=COUNT_MAX).contains(&count) => Ok(Some(count as usize)),
            _ => Err(self.problem(format!("{key} is {value}, not a whole number from 1 to {COUNT_MAX}"))),
        }
    }

    /// A count that may be 0 or absent.
    pub fn whole_if_any(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.value(key).and_then(Value::as_u64) {
            Some(0) => Ok(Some(0)),
            _ => self.count_if_any(key),
        }
    }

    /// A positive number that may be absent.
    pub fn number_if_any(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(self.problem(format!("{key} is {value}, not a positive number"))),
        }
    }

    /// A number of any sign that may be absent.
    pub fn real_if_any(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.problem(format!("{key} is {value}, not a number")))
    }

    /// A flag; absent is false.
    pub fn flag(&self, key: &str) -> Result<bool, LoadError> {
        Ok(self.flag_if_any(key)?.unwrap_or(false))
    }

    /// A flag that may be absent.
    pub fn flag_if_any(&self, key: &str) -> Result<Option<bool>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.problem(format!("{key} is {value}, not true or false")))
    }

    /// An object that may be absent, as a config of its own whose errors name the same file.
    pub fn object_if_any(&self, key: &str) -> Result<Option<Config>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let values = value.as_object().ok_or_else(|| self.problem(format!("{key} is {value}, not an object")))?;
        Ok(Some(Config { path: self.path.clone(), values: values.clone() }))
    }

    /// A list of objects that must be there, each as a config of its own.
    pub fn objects(&self, key: &str) -> Result<Vec<Config>, LoadError> {
        let list = self.value(key).and_then(Value::as_array);
        let objects =
            list.and_then(|list| list.iter().map(|value| value.as_object().cloned()).collect::<Option<Vec<_>>>());
        let objects = objects.ok_or_else(|| self.problem(format!("{key} is not a list of objects")))?;
        Ok(objects.into_iter().map(|values| Config { path: self.path.clone(), values }).collect())
    }

    /// A list of words that may be absent.
    pub fn words_if_any(&self, key: &str) -> Result<Option<Vec<&str>>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let words = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        words.map(Some).ok_or_else(|| self.problem(format!("{key} is {value}, not a list of strings")))
    }

    /// A list of positive numbers that must be there.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>, LoadError> {
        let list = self.value(key).and_then(Value::as_array);
        let numbers =
            list.and_then(|list| list.iter().map(|value| value.as_f64().filter(|number| *number > 0.0)).collect());
        numbers.ok_or_else(|| self.problem(format!("{key} is not a list of positive numbers")))
    }

    /// A list of positive counts that must be there.
    pub fn counts(&self, key: &str) -> Result<Vec<usize>, LoadError> {
        let count =
            |value: &Value| value.as_u64().filter(|count| (1..=COUNT_MAX).contains(count)).map(|it| it as usize);
        let counts = self.value(key).and_then(Value::as_array).and_then(|list| list.iter().map(count).collect());
        counts.ok_or_else(|| self.problem(format!("{key} is not a list of whole numbers from 1 to {COUNT_MAX}")))
    }

    /// The name that the folder was published under: its own, or in the cache of Hugging Face's tools, where folders are
    /// called by their commits (`models--ORG--NAME/snapshots/COMMIT`), that of the repository.
    pub fn folder_name(&self) -> &str {
        let mut folder = self.path.parent();
        let above = folder.and_then(Path::parent);
        if above.is_some_and(|above| above.ends_with("snapshots")) {
            folder = above.and_then(Path::parent);
        }
        folder.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// An error about this file.
    pub fn problem(&self, problem: String) -> LoadError {
        LoadError::invalid(&self.path, problem)
    }

    /// How the weights are quantized.
    pub fn quantization(&self) -> Result<Quantization, LoadError> {
        if let Some(table) = self.object_if_any("quantization")? {
            return Quantization::from_table(&table);
        }
        match self.object_if_any("quantization_config")? {
            None => Ok(Quantization::default()),
            Some(table) => match table.word_if_any("quant_method")? {
                None => Quantization::from_table(&table),
                Some(method) => {
                    Err(LoadError::unsupported(format!("quantization method {method}"), Quantization::INSTEAD))
                }
            },
        }
    }
}

/// How a matrix is quantized: in MLX's affine form, `value = scale × word + bias` with one pair a group of inputs, or in
/// MXFP4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AffineFormat {
    /// Bits of a weight.
    pub bits: usize,
    /// Weights that share a scale and a bias.
    pub group: usize,
    /// Four-bit floats whose scales are powers of two, without biases.
    pub mxfp4: bool,
}

impl AffineFormat {
    fn from_table(table: &Config) -> Result<Self, LoadError> {
        let mxfp4 = match table.word_if_any("mode")? {
            None | Some("affine") => false,
            Some("mxfp4") => true,
            Some(mode) => {
                return Err(LoadError::unsupported(format!("quantization mode {mode}"), Quantization::SUPPORTED));
            }
        };
        let format = Self { bits: table.count("bits")?, group: table.count("group_size")?, mxfp4 };
        let known = match mxfp4 {
            true => (format.bits, format.group) == (4, 32),
            false => matches!(format.bits, 2..=6 | 8) && matches!(format.group, 32 | 64 | 128),
        };
        if !known {
            let form = if mxfp4 { "mxfp4 " } else { "" };
            let found = format!("{form}quantization of {} bits in groups of {}", format.bits, format.group);
            return Err(LoadError::unsupported(found, Quantization::SUPPORTED));
        }
        Ok(format)
    }
}

/// Which matrices are quantized, and how: one format for all, and exceptions by name.
#[derive(Debug, Default)]
pub(crate) struct Quantization {
    default: Option<AffineFormat>,
    exceptions: HashMap<String, Option<AffineFormat>>,
}

impl Quantization {
    const SUPPORTED: &'static str =
        "MLX affine quantization of 2 to 6 or 8 bits in groups of 32, 64 or 128 is, and mxfp4, bf16, f16 and f32 are";

    /// What to do with weights that are quantized in another way.
    pub const INSTEAD: &'static str = "take the model as it was before, in bf16, as mlx-lm converts it (mlx-community has many), \
                                   or as a GGUF file for impetusctl models import";

    fn from_table(table: &Config) -> Result<Self, LoadError> {
        let mut exceptions = HashMap::new();
        for (name, value) in &table.values {
            let exception = match value {
                Value::Object(values) => {
                    let entry = Config { path: table.path.clone(), values: values.clone() };
                    Some(AffineFormat::from_table(&entry)?)
                }
                Value::Bool(false) => None,
                _ => continue,
            };
            exceptions.insert(name.clone(), exception);
        }
        Ok(Self { default: Some(AffineFormat::from_table(table)?), exceptions })
    }

    /// The format of a matrix, if it is quantized at all. As in MLX, a matrix without an exception of its own is
    /// quantized where the default says so and its scales are in the file.
    pub fn of(&self, name: &str, has_scales: bool) -> Option<AffineFormat> {
        match self.exceptions.get(name) {
            Some(exception) => *exception,
            None => self.default.filter(|_| has_scales),
        }
    }
}

/// Refuses a folder that only changes another model, once it is known to hold no model of its own.
pub(crate) fn refuse_adapter(dir: &Path) -> Result<(), LoadError> {
    match dir.join("adapter_config.json").exists() {
        true => {
            Err(LoadError::unsupported("a LoRA adapter", "whole models are: merge it into the one it was made for"))
        }
        false => Ok(()),
    }
}

/// What stands in place of a large file where a repository was cloned without Git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What is wrong with a file that is only a pointer, if it is one.
pub(crate) fn pointer(content: &[u8]) -> Option<&'static str> {
    let is_pointer = content.starts_with(POINTER);
    is_pointer.then_some("it is a pointer of Git LFS and not the file itself; run git lfs pull in its folder")
}

/// Reads a JSON file that must hold an object.
pub(crate) fn read_object(path: &Path, advice: &str) -> Result<Map<String, Value>, LoadError> {
    let text = read_text(path, advice)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(LoadError::invalid(path, "it does not hold a JSON object")),
        Err(error) => Err(LoadError::invalid(path, format!("it is not JSON ({error})"))),
    }
}

/// Opens a regular file. It looks before it opens, which may wait for ever where the name is a pipe's or a device's.
pub(crate) fn open_file(path: &Path, advice: &str) -> Result<File, LoadError> {
    let unreadable = |error| LoadError::reading(path, error, advice);
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    File::open(path).map_err(unreadable)
}

/// Reads a text file of bounded size.
pub(crate) fn read_text(path: &Path, advice: &str) -> Result<String, LoadError> {
    let file = open_file(path, advice)?;
    let mut bytes = Vec::new();
    file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| LoadError::reading(path, error, advice))?;
    if bytes.len() as u64 > JSON_BYTES_MAX {
        return Err(LoadError::invalid(path, format!("it is larger than {JSON_BYTES_MAX} bytes")));
    }
    if let Some(problem) = pointer(&bytes) {
        return Err(LoadError::invalid(path, problem));
    }
    String::from_utf8(bytes).map_err(|_| LoadError::invalid(path, "it is not UTF-8 text"))
}

#[cfg(test)]
impl Config {
    /// A config from a JSON literal.
    pub fn from_json(value: Value) -> Self {
        let values = value.as_object().cloned().expect("a config is an object");
        Self { path: PathBuf::from("config.json"), values }
    }
}
