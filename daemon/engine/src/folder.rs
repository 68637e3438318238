//! A model folder, opened and checked: its configuration, its description and every tensor that it needs.
//!
//! Both `inspect` and the loader begin here, so a folder that inspects well loads. Headers are read, weights are not.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::LoadError;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Quantization};
use crate::matrix::{self, Matrix};
use crate::models::encoders::{Encoder, Settings};
use crate::models::{Description, Part, Stack, Vector};
#[cfg(feature = "mlx")]
use crate::native::Dtype;

/// What a description must tell for its folder to be checked.
pub(crate) trait Described {
    /// Every stack of matrices.
    fn stacks(&self) -> impl Iterator<Item = &Stack>;
    /// Every vector that is no matrix's bias.
    fn vectors(&self) -> impl Iterator<Item = &Vector>;
    /// Whether a tensor of the folder serves another task and may be left out.
    fn may_leave_out(&self, tensor: &str) -> bool;

    /// Whether the norms' factors are stored less one.
    fn less_one(&self) -> bool {
        false
    }

    /// How many parameters there are.
    fn parameters(&self) -> u64 {
        let vectors: usize = self.vectors().map(Vector::length).sum();
        let of_part = |stack: &Stack, part: &Part| part.outputs * (stack.inputs + usize::from(part.bias));
        let matrices = self.stacks().flat_map(|stack| stack.parts.iter().map(move |part| of_part(stack, part)));
        vectors as u64 + matrices.map(|count| count as u64).sum::<u64>()
    }
}

/// An opened folder of a decoder, or of a model that another type describes.
pub(crate) struct Folder<D = Description> {
    /// Where it is.
    pub path: PathBuf,
    /// `model_type`.
    pub architecture: String,
    /// What the model is.
    pub description: D,
    /// Its weights.
    pub checkpoint: Checkpoint,
    quantization: Quantization,
}

impl Folder {
    /// Opens a folder and checks that everything a decoder needs is there, and nothing that it would ignore.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let config = Config::open(path)?;
        let (architecture, quantization) = Self::foresee(path, &config)?;
        let checkpoint = Checkpoint::open(path)?;
        let description = Description::read(&config, &|name| checkpoint.has(name))?;
        let folder = Self { path: path.to_path_buf(), architecture, description, checkpoint, quantization };
        folder.check()?;
        Ok(folder)
    }

    /// What is known before the weights are looked at, so that an unknown architecture is named even where they are missing.
    fn foresee(path: &Path, config: &Config) -> Result<(String, Quantization), LoadError> {
        let architecture = Description::read(config, &|_| true)?.architecture;
        let quantization = config.quantization()?;
        require_tokenizer(path)?;
        Ok((architecture, quantization))
    }
}

impl Folder<Encoder> {
    /// Opens the folder of an encoder, as `open` does that of a decoder; `None` if it holds no encoder.
    pub fn open_encoder(path: &Path) -> Result<Option<Self>, LoadError> {
        let config = Config::open(path)?;
        let settings = Settings::open(path)?;
        let Some((architecture, quantization)) = Self::foresee(path, &config, &settings)? else { return Ok(None) };
        let mut checkpoint = Checkpoint::open(path)?;
        let description = Encoder::read(&config, &settings, &|name| checkpoint.has(name))?;
        settings.folders().try_for_each(|folder| checkpoint.add_module(path, folder))?;
        let folder = Self { path: path.to_path_buf(), architecture, description, checkpoint, quantization };
        folder.check()?;
        Ok(Some(folder))
    }

    /// What is known before the weights are looked at, as of a decoder; `None` if it is no encoder.
    fn foresee(path: &Path, config: &Config, settings: &Settings) -> Result<Option<(String, Quantization)>, LoadError> {
        if !Encoder::is_meant(config, settings)? {
            return Ok(None);
        }
        let architecture = Encoder::read(config, settings, &|_| false)?.architecture;
        let quantization = config.quantization()?;
        require_tokenizer(path)?;
        Ok(Some((architecture, quantization)))
    }
}

/// Refuses a folder that will not load whatever its weights are, which need not be there yet.
pub fn foresee(path: &Path) -> Result<(), LoadError> {
    let config = Config::open(path)?;
    match Folder::<Encoder>::foresee(path, &config, &Settings::open(path)?)? {
        Some(_) => Ok(()),
        None => Folder::<Description>::foresee(path, &config).map(drop),
    }
}

impl<D: Described> Folder<D> {
    /// The matrices of a stack.
    pub fn matrices(&self, stack: &Stack) -> Result<Vec<Matrix<'_>>, LoadError> {
        let find = |part| Matrix::find(&self.checkpoint, &self.quantization, part, stack.inputs);
        stack.parts.iter().map(find).collect()
    }

    /// Bytes of all matrices.
    pub fn matrix_bytes(&self) -> Result<u64, LoadError> {
        let of_stack = |stack| Ok(self.matrices(stack)?.iter().map(Matrix::bytes).sum::<u64>());
        self.description.stacks().map(of_stack).sum()
    }

    /// The biases of a stack, zero for a part without; `None` if no part has any.
    pub fn bias(&self, stack: &Stack) -> Result<Option<Vec<f32>>, LoadError> {
        if !stack.parts.iter().any(|part| part.bias) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(stack.outputs());
        for part in &stack.parts {
            match part.bias {
                true => values.extend(matrix::bias(&self.checkpoint, part)?),
                false => values.resize(values.len() + part.outputs, 0.0),
            }
        }
        Ok(Some(values))
    }

    /// A vector's values.
    pub fn vector(&self, vector: &Vector) -> Result<Vec<f32>, LoadError> {
        matrix::vector(&self.checkpoint, vector)
    }

    /// The type that a vector is stored in.
    #[cfg(feature = "mlx")]
    pub fn vector_dtype(&self, vector: &Vector) -> Result<Dtype, LoadError> {
        matrix::vector_dtype(&self.checkpoint, vector)
    }

    fn check(&self) -> Result<(), LoadError> {
        for stack in self.description.stacks() {
            self.matrices(stack)?;
            self.bias(stack)?;
        }
        for vector in self.description.vectors() {
            self.vector(vector)?;
        }
        self.refuse_extra_tensors()
    }

    /// Refuses tensors that the description has no place for: leaving them out would change the model. Precomputed rope
    /// tables and what only serves another task change nothing.
    fn refuse_extra_tensors(&self) -> Result<(), LoadError> {
        let parts = self.description.stacks().flat_map(|stack| &stack.parts);
        let modules: HashMap<&str, bool> = parts.map(|part| (part.name.as_str(), part.bias)).collect();
        let vectors: HashSet<&str> = self.description.vectors().map(|vector| vector.name.as_str()).collect();
        let known = |name: &str| match name.rsplit_once('.') {
            _ if vectors.contains(name) || self.description.may_leave_out(name) => true,
            Some((module, "weight" | "scales" | "biases")) => modules.contains_key(module),
            Some((module, "bias")) => modules.get(module) == Some(&true),
            Some((module, "inv_freq")) if module.ends_with("rotary_emb") => true,
            _ => false,
        };
        match self.checkpoint.names().filter(|name| !known(name)).min() {
            None => Ok(()),
            Some(name) => Err(LoadError::unsupported(
                format!("tensor {name}"),
                format!("a {} model by this config.json has no place for it", self.architecture),
            )),
        }
    }
}

impl Described for Description {
    fn stacks(&self) -> impl Iterator<Item = &Stack> {
        Description::stacks(self)
    }

    fn vectors(&self) -> impl Iterator<Item = &Vector> {
        self.norms().map(|norm| &norm.weight).chain(self.other_vectors())
    }

    /// The unused output matrix of a shared embedding, and what serves pictures.
    fn may_leave_out(&self, tensor: &str) -> bool {
        let head = tensor.starts_with("lm_head.") && !tensor.ends_with(".bias");
        head || self.unread.iter().any(|unread| tensor.starts_with(unread.as_str()))
    }

    fn less_one(&self) -> bool {
        self.norm.less_one
    }
}

impl Described for Encoder {
    fn stacks(&self) -> impl Iterator<Item = &Stack> {
        Encoder::stacks(self)
    }

    fn vectors(&self) -> impl Iterator<Item = &Vector> {
        self.norms().flat_map(|norm| std::iter::once(&norm.weight).chain(&norm.bias))
    }

    fn less_one(&self) -> bool {
        self.norm.as_ref().is_some_and(|norm| norm.less_one)
    }

    fn may_leave_out(&self, tensor: &str) -> bool {
        self.unused.iter().any(|beginning| tensor.starts_with(beginning.as_str()))
    }
}

fn require_tokenizer(dir: &Path) -> Result<(), LoadError> {
    let path = dir.join("tokenizer.json");
    // Reading it refuses what is no regular file.
    if path.exists() {
        return Ok(());
    }
    let advice = match OTHER_TOKENIZERS.into_iter().find(|name| dir.join(name).is_file()) {
        Some(name) => format!(
            "{name} alone is not enough; save the tokenizer with transformers, which writes tokenizer.json, or take a \
             conversion that has it"
        ),
        None => "without it text cannot become tokens; download the folder again".to_string(),
    };
    Err(LoadError::MissingFile { path, advice })
}

/// Files of other tokenizers, the newest first: some folders have nothing else.
const OTHER_TOKENIZERS: [&str; 6] =
    ["tekken.json", "tokenizer.model", "tiktoken.model", "qwen.tiktoken", "vocab.json", "vocab.txt"];

#[cfg(test)]
mod tests;
