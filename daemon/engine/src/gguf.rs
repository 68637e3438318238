//! GGUF files, made into folders that load: weights in MLX's form, `config.json`, tokenizer, templates.
//!
//! The file comes from a stranger and is large: it is mapped, every claim in it is checked against its length, and the copy
//! takes a few megabytes of memory. Most forms lose nothing; [`Imported`] says how far the others moved. The folder is what
//! any other model's is, and no other part of the engine has heard of GGUF. The worker program calls [`import`] in a
//! process of its own.

mod fields;
mod form;
mod head;
mod letters;
mod names;
mod pages;
pub(crate) mod pooling;
mod weights;

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::head::Head;
use self::pages::Page;
use self::weights::Plan;
pub(crate) use self::weights::{Layout, Order};
use crate::LoadError;
use crate::checkpoint;
use crate::config::Config;
use crate::models::Description;
use crate::models::encoders::{Encoder, Settings};

const ADVICE: &str = "give the path of a GGUF file";

/// What an import made of a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// Tensors whose numbers moved, because MLX has no form that holds them exactly.
    pub requantized: u32,
    /// How far those moved: the root of the sum of squared differences, as a share of that of the weights.
    pub moved: f64,
}

/// Makes a folder of a GGUF file. `dir` exists and is empty; what is in it after an error is of no use. `progress` hears
/// how many bytes of tensors are done, of how many.
pub fn import(file: &Path, dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Imported, LoadError> {
    let map = checkpoint::map(file, ADVICE)?;
    let head = Head::read(file, &map)?;
    if let Some(parts) = head.fields.whole_if_any("split.count")?.filter(|parts| *parts > 1) {
        let advice = "a file that holds all is: join them with llama-gguf-split --merge";
        return Err(LoadError::unsupported(format!("a GGUF model in {parts} files"), advice));
    }
    if let Some(kind) = head.fields.text_if_any("general.type")?.filter(|kind| *kind != "model") {
        return Err(LoadError::unsupported(format!("a GGUF file of type {kind}"), "a whole model is"));
    }
    let page = Page::of(&head)?;
    let values = page.config(&head)?;
    pooling::write(&head, page, dir)?;
    let model = Model::read(&head, page, &Config::new(file, values.clone()), dir)?;
    let plan = Plan::new(&head, &model, page)?;
    letters::write(&head, page, dir)?;
    let copied = plan.write(&dir.join("model.safetensors"), progress)?;
    let mut values = values;
    if let Some(quantization) = plan.quantization() {
        values.insert("quantization".to_string(), quantization);
    }
    write_json(&dir.join("config.json"), &Value::Object(values))?;
    // The folder's own entry, so that no name is lost with the power.
    let synced = File::open(dir).and_then(|folder| folder.sync_all());
    synced.map_err(|source| LoadError::Unwritable { path: dir.to_path_buf(), source })?;
    let share = copied.moved.differences / copied.moved.weights.max(f64::MIN_POSITIVE);
    Ok(Imported { requantized: copied.requantized as u32, moved: share.sqrt() })
}

/// What the engine makes of a file.
enum Model {
    Decoder(Box<Description>),
    Encoder(Box<Encoder>),
}

impl Model {
    /// Reads the `config.json` of a folder that has its other settings, given the tensors of the file.
    fn read(head: &Head<'_>, page: &Page, config: &Config, dir: &Path) -> Result<Self, LoadError> {
        let holds = |tensor: &str| {
            let name = tensor.strip_suffix(".weight").and_then(page.name);
            name.is_some_and(|name| head.tensors.contains_key(format!("{name}.weight").as_str()))
        };
        let settings = Settings::open(dir)?;
        Ok(match Encoder::is_meant(config, &settings)? {
            true => Self::Encoder(Box::new(Encoder::read(config, &settings, &holds)?)),
            false => Self::Decoder(Box::new(Description::read(config, &holds)?)),
        })
    }
}

/// The name that a file of an architecture has for a module: for those who write such files to test this.
pub(crate) fn gguf_name(architecture: &str, module: &str) -> Option<String> {
    (Page::named(architecture)?.name)(module)
}

/// The name that a file has for a decoder's vector that is no norm's and no bias.
pub(crate) fn gguf_vector(name: &str) -> Option<String> {
    names::vector(name)
}

/// How a module or a vector of a decoder lies in a file of an architecture.
pub(crate) fn layout(architecture: &str, description: &Description, name: &str) -> Layout {
    let head_dim = description.layers.first().map(|layer| layer.mixer.inner.attention.head_dim);
    let delta = description.recurrent().map(|(shape, _)| shape);
    Page::named(architecture).map_or(Layout::SAME, |page| Layout::of(page, head_dim, delta, name))
}

fn write_json(path: &Path, value: &Value) -> Result<(), LoadError> {
    let written = fs::write(path, format!("{value:#}\n")).and_then(|()| File::open(path)?.sync_all());
    written.map_err(|source| LoadError::Unwritable { path: path.to_path_buf(), source })
}
