//! The weight files of a folder, memory-mapped: a tensor's name to its type, shape and bytes.
//!
//! It finds single and sharded safetensors, checks every header against its file before a byte is used, and never copies
//! a tensor. It does not know which tensors a model needs; [`crate::models`] does.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};

use crate::LoadError;
use crate::config::{open_file, pointer, read_object, refuse_adapter};
use crate::native::Mapped;

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
const ADVICE: &str = "weights are read from model.safetensors or from the shards that model.safetensors.index.json names; \
                      download the folder again";

/// The mapped weight files of one folder.
pub(crate) struct Checkpoint {
    files: Vec<Mapped>,
    places: HashMap<String, Place>,
}

/// Where a tensor lies.
struct Place {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// A tensor in a mapped file.
#[derive(Clone, Copy)]
pub(crate) struct Tensor<'a> {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: &'a [usize],
    /// Its elements, little-endian, row-major, at any alignment.
    pub bytes: &'a [u8],
}

impl Checkpoint {
    /// Maps every weight file of a folder and reads the headers.
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let mut checkpoint = Self { files: Vec::new(), places: HashMap::new() };
        for path in weight_files(dir)? {
            checkpoint.add(&path, "")?;
        }
        Ok(checkpoint)
    }

    /// Maps the weights of a module in a folder of its own, and calls them after it, as in `2_Dense.linear.weight`.
    pub fn add_module(&mut self, dir: &Path, module: &str) -> Result<(), LoadError> {
        weight_files(&dir.join(module))?.iter().try_for_each(|path| self.add(path, &format!("{module}.")))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let place = self.places.get(name)?;
        let bytes = &self.files[place.file][place.start..place.end];
        Some(Tensor { dtype: place.dtype, shape: &place.shape, bytes })
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Bytes of all weight files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    /// Maps a file; its tensors' names get a beginning.
    fn add(&mut self, path: &Path, beginning: &str) -> Result<(), LoadError> {
        let map = map(path, ADVICE)?;
        if let Some(problem) = pointer(&map) {
            return Err(LoadError::invalid(path, problem));
        }
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| broken(path, error))?;
        // Every offset was checked to lie inside the file, so none of these sums can overflow.
        let data = header + 8;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let place = Place {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + start,
                end: data + end,
            };
            if self.places.insert(format!("{beginning}{name}"), place).is_some() {
                return Err(LoadError::invalid(path, format!("tensor {name} is in another file too")));
            }
        }
        self.files.push(map);
        Ok(())
    }
}

/// Maps a file for reading; `advice` says what to do if there is none.
pub(crate) fn map(path: &Path, advice: &str) -> Result<Mapped, LoadError> {
    let file = open_file(path, advice)?;
    Mapped::new(&file).map_err(|error| LoadError::reading(path, error, advice))
}

/// The weight files of a folder: the shards of its index, else its one file, else an error that says what is there.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let index = dir.join(INDEX);
    if index.exists() {
        return shards(dir, &index);
    }
    let single = dir.join(SINGLE);
    if single.exists() {
        return Ok(vec![single]);
    }
    refuse_adapter(dir)?;
    match other_weights(dir) {
        Some(name) if name.ends_with(".gguf") => {
            let advice = "safetensors files are; make a model of it with impetusctl models import FILE";
            Err(LoadError::unsupported(format!("weight file {name}"), advice))
        }
        Some(name) => {
            Err(LoadError::unsupported(format!("weight file {name}"), "safetensors files are; convert it first"))
        }
        None => Err(LoadError::MissingFile { path: single, advice: ADVICE.to_string() }),
    }
}

/// The distinct files that an index names, in order.
fn shards(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let object = read_object(index, ADVICE)?;
    let table = object.get("weight_map").and_then(|table| table.as_object());
    let table = table.ok_or_else(|| LoadError::invalid(index, "it has no weight_map object"))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in table {
        let plain = file.as_str().filter(|name| is_plain(name));
        names.insert(plain.ok_or_else(|| {
            LoadError::invalid(index, format!("it places {tensor} in {file}, which is no file name of this folder"))
        })?);
    }
    if names.is_empty() {
        return Err(LoadError::invalid(index, "its weight_map is empty"));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Whether a name stays inside the folder.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
}

/// The name of a weight file of another format, if there is one.
fn other_weights(dir: &Path) -> Option<String> {
    const OTHERS: [&str; 7] = ["bin", "pt", "pth", "ckpt", "gguf", "h5", "npz"];
    let names = fs::read_dir(dir).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.rsplit_once('.').is_some_and(|(_, end)| OTHERS.contains(&end))).min()
}

/// What a header error means for the file.
fn broken(path: &Path, error: SafeTensorError) -> LoadError {
    use SafeTensorError as E;
    let problem = match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => "it ends inside its header; it is cut short".to_string(),
        E::HeaderTooLarge => "its header claims more than 100 MB; it is not a safetensors file".to_string(),
        E::InvalidHeaderDeserialization(error) if error.is_data() => {
            format!("its header says what cannot be read here ({error})")
        }
        E::InvalidHeader(_) | E::InvalidHeaderDeserialization(_) => {
            "its header is not JSON; it is not a safetensors file".to_string()
        }
        E::InvalidOffset(name) => format!("tensor {name} has offsets that leave a gap, overlap or run backwards"),
        E::TensorInvalidInfo | E::ValidationOverflow => "a tensor's shape disagrees with its bytes".to_string(),
        E::MetadataIncompleteBuffer => {
            "its header promises another number of bytes than it holds; it is cut short".to_string()
        }
        other => other.to_string(),
    };
    LoadError::invalid(path, problem)
}

#[cfg(test)]
mod tests;
