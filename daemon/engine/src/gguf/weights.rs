//! The weights of a GGUF file as `model.safetensors` in MLX's form: which tensors there must be, where each goes, and the
//! copy itself.
//!
//! What is needed is what the engine's own description of the model names, so a missing tensor, a wrong shape and a tensor
//! without a place are all found before a byte is written. Rows are read from the mapped file and written a megabyte at a
//! time; nothing of a tensor's size is held in memory.

mod copy;
mod order;

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Model;
use super::form::{Becomes, GROUP};
use super::head::{Head, Tensor};
use super::names;
use super::pages::Page;
use crate::LoadError;
use crate::models::encoders::Encoder;
use crate::models::{Description, Part, Stack, Vector};
use crate::native::{DeltaShape, Dtype};

pub(super) use copy::Copied;
pub(crate) use order::{Layout, Order};

/// What is to be written.
pub(super) struct Plan<'a> {
    items: Vec<Item<'a>>,
}

/// One tensor of the file, and what becomes of it.
struct Item<'a> {
    /// The module, and what follows its name; nothing does where the name is whole.
    module: String,
    ending: &'static str,
    tensor: Tensor<'a>,
    /// The shape of what is written.
    shape: Vec<usize>,
    layout: Layout,
    numbers: Numbers,
}

/// What becomes of plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// Nothing.
    Same,
    /// One is subtracted from each.
    LessOne,
    /// Each is what a state forgets at once, below 0, and becomes the logarithm of its size.
    Decays,
}

impl<'a> Plan<'a> {
    /// Finds every tensor that a model needs.
    pub fn new(head: &Head<'a>, model: &Model, page: &Page) -> Result<Self, LoadError> {
        let mut finder = Finder { head, page, head_dim: None, delta: None, used: HashSet::new(), items: Vec::new() };
        match model {
            Model::Decoder(description) => finder.decoder(description)?,
            Model::Encoder(encoder) => finder.encoder(encoder)?,
        }
        finder.finish()
    }

    /// How the matrices are quantized, as `config.json` says it; `None` if none is.
    pub fn quantization(&self) -> Option<Value> {
        let mut bytes: Vec<(Value, usize)> = Vec::new();
        let formats = || self.items.iter().filter_map(|item| Some((item, format(item.tensor.form.becomes())?)));
        for (item, format) in formats() {
            match bytes.iter_mut().find(|(known, _)| *known == format) {
                Some((_, sum)) => *sum += item.tensor.bytes.len(),
                None => bytes.push((format, item.tensor.bytes.len())),
            }
        }
        let usual = bytes.into_iter().max_by_key(|(_, bytes)| *bytes)?.0;
        let mut table = usual.clone();
        for (item, format) in formats().filter(|(_, format)| *format != usual) {
            table[&item.module] = format;
        }
        Some(table)
    }
}

/// What `config.json` calls a form.
fn format(becomes: Becomes) -> Option<Value> {
    match becomes {
        Becomes::Floats(_) => None,
        Becomes::Affine { bits, .. } => Some(json!({ "group_size": GROUP, "bits": bits, "mode": "affine" })),
        Becomes::Mxfp4 => Some(json!({ "group_size": GROUP, "bits": 4, "mode": "mxfp4" })),
    }
}

/// Takes tensors out of a file, each once.
struct Finder<'a, 'b> {
    head: &'b Head<'a>,
    page: &'b Page,
    head_dim: Option<usize>,
    delta: Option<DeltaShape>,
    used: HashSet<String>,
    items: Vec<Item<'a>>,
}

impl<'a> Finder<'a, '_> {
    fn decoder(&mut self, description: &Description) -> Result<(), LoadError> {
        self.head_dim = description.layers.first().map(|layer| layer.mixer.inner.attention.head_dim);
        self.delta = description.recurrent().map(|(shape, _)| shape);
        self.stacks(description.stacks())?;
        for norm in description.norms() {
            self.norm(&norm.weight, norm.less_one)?;
        }
        description.other_vectors().try_for_each(|vector| self.vector(vector))
    }

    fn encoder(&mut self, encoder: &Encoder) -> Result<(), LoadError> {
        if !self.page.whole {
            // A decoder that embeds may come with the matrix that scores tokens, of which a vector has no need.
            self.used.insert("output.weight".to_string());
        }
        self.stacks(encoder.stacks())?;
        for norm in encoder.norms() {
            self.norm(&norm.weight, norm.less_one)?;
            if let Some(bias) = &norm.bias {
                self.add(bias.name.trim_end_matches(".bias"), "bias", &bias.dims)?;
            }
        }
        Ok(())
    }

    fn stacks<'s>(&mut self, stacks: impl Iterator<Item = &'s Stack>) -> Result<(), LoadError> {
        let stacks: Vec<&Stack> = stacks.collect();
        self.refuse_fused(&stacks)?;
        for stack in stacks {
            for part in stack.parts.iter().filter(|part| part.slice.is_none_or(|(index, _)| index == 0)) {
                self.part(part, stack.inputs)?;
            }
        }
        Ok(())
    }

    /// Refuses matrices that converters join when they are asked to; the parts would only be called missing.
    fn refuse_fused(&self, stacks: &[&Stack]) -> Result<(), LoadError> {
        let mut names = stacks.iter().flat_map(|stack| &stack.parts).filter_map(|part| (self.page.name)(&part.name));
        let joined = names.any(|name| name.ends_with(".attn_qkv"));
        let fused = |name: &str| name.contains(".ffn_gate_up_exps.") || !joined && name.contains(".attn_qkv.");
        match self.head.tensors.keys().filter(|name| fused(name)).min() {
            None => Ok(()),
            Some(name) => Err(LoadError::unsupported(
                format!("tensor {name}, which joins several,"),
                "a file converted without --fuse-qkv and --fuse-gate-up-exps is",
            )),
        }
    }

    fn part(&mut self, part: &Part, inputs: usize) -> Result<(), LoadError> {
        let experts = part.slice.map(|(_, count)| count);
        let shape = |last: &[usize]| experts.iter().chain(last).copied().collect::<Vec<_>>();
        self.add(&part.name, "weight", &shape(&[part.outputs, inputs]))?;
        if part.bias {
            self.add(&part.name, "bias", &shape(&[part.outputs]))?;
        }
        Ok(())
    }

    fn norm(&mut self, weight: &Vector, less_one: bool) -> Result<(), LoadError> {
        self.add(weight.name.trim_end_matches(".weight"), "weight", &weight.dims)?;
        if let Some(item) = self.items.last_mut() {
            item.numbers = if less_one { Numbers::LessOne } else { Numbers::Same };
        }
        Ok(())
    }

    /// A vector that is no norm's: its name is whole.
    fn vector(&mut self, vector: &Vector) -> Result<(), LoadError> {
        let name = named(&vector.name, names::vector(&vector.name))?;
        // Files leave out the one dimension that counts nothing.
        let mut stored = vector.dims.clone();
        if stored.len() > 1 {
            stored.iter().rposition(|size| *size == 1).map(|at| stored.remove(at));
        }
        self.take(name, &vector.name, "", &stored)?;
        if let Some(item) = self.items.last_mut() {
            item.shape.clone_from(&vector.dims);
        }
        Ok(())
    }

    fn add(&mut self, module: &str, ending: &'static str, shape: &[usize]) -> Result<(), LoadError> {
        let name = format!("{}.{ending}", named(module, (self.page.name)(module))?);
        self.take(name, module, ending, shape)
    }

    /// Takes the tensor of a name for a module.
    fn take(&mut self, name: String, module: &str, ending: &'static str, shape: &[usize]) -> Result<(), LoadError> {
        let fields = &self.head.fields;
        let tensor = self.head.tensors.get(name.as_str()).ok_or_else(|| self.missing(&name))?;
        let layout = Layout::of(self.page, self.head_dim, self.delta, module);
        // Of a pair this is one, and a matrix of one row may be written as a vector.
        let stored = match layout.rows {
            Order::Paired { .. } => [&[2 * shape[0]], &shape[1..]].concat(),
            _ => shape.to_vec(),
        };
        if tensor.shape != stored && (stored[0] != 1 || tensor.shape != stored[1..]) {
            let found = &tensor.shape;
            return Err(fields.problem(format!("tensor {name} is {found:?} where its metadata call for {stored:?}")));
        }
        let plain = matches!(tensor.form.becomes(), Becomes::Floats(_));
        let vector = ending != "weight" || shape.len() == 1;
        if vector && !plain {
            return Err(LoadError::unsupported(format!("{name} in quantized form"), "vectors of plain numbers are"));
        }
        if layout.columns.is_some_and(|heads| !plain && !heads.width.is_multiple_of(GROUP)) {
            let feature = format!("{name} in quantized form, whose heads are no multiple of {GROUP} wide,");
            return Err(LoadError::unsupported(feature, "plain numbers are"));
        }
        self.used.insert(name);
        let numbers = if module.ends_with(".A_log") { Numbers::Decays } else { Numbers::Same };
        let (module, tensor) = (module.to_string(), Tensor { shape: shape.to_vec(), ..tensor.clone() });
        self.items.push(Item { module, ending, tensor, shape: shape.to_vec(), layout, numbers });
        Ok(())
    }

    /// What a file without a tensor is refused with.
    fn missing(&self, name: &str) -> LoadError {
        // Files of 2023 hold each expert's matrices by themselves, as in `blk.0.ffn_gate.0.weight`.
        let apart = name.strip_suffix("_exps.weight").map(|matrix| format!("{matrix}.0.weight"));
        match apart.filter(|apart| self.head.tensors.contains_key(apart.as_str())) {
            Some(apart) => LoadError::unsupported(
                format!("a GGUF file with a tensor for each expert (as {apart})"),
                "one with a tensor for all of them, as newer converters write it, is",
            ),
            None => self.head.fields.problem(format!("tensor {name} is missing")),
        }
    }

    /// Refuses what has no place; factors of rope have been read by then.
    fn finish(self) -> Result<Plan<'a>, LoadError> {
        let rope = |name: &str| name == "rope_freqs.weight" || name.starts_with("rope_factors_");
        let guesses = self.page.guesses(self.head)?;
        let guesses = |name: &str| layer(name).is_some_and(|layer| guesses.contains(&layer));
        let placed = |name: &str| self.used.contains(name) || rope(name) || guesses(name);
        let extra = self.head.tensors.keys().filter(|name| !placed(name)).min();
        match extra {
            None => Ok(Plan { items: self.items }),
            Some(name) => Err(LoadError::unsupported(
                format!("tensor {name} of this GGUF file"),
                "a model whose every tensor has a place is",
            )),
        }
    }
}

/// The layer of a tensor.
fn layer(tensor: &str) -> Option<usize> {
    tensor.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The name of a tensor that a module has; a refusal if it has none.
fn named(module: &str, name: Option<String>) -> Result<String, LoadError> {
    name.ok_or_else(|| LoadError::unsupported(module, "modules that GGUF has a name for are"))
}

/// A stretch of the file that is written.
struct Place {
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: u64,
}

impl Item<'_> {
    /// The tensors that this one becomes: endings of names, and what they hold.
    fn places(&self) -> Vec<(&'static str, Place)> {
        let place = |dtype, last: usize| {
            let mut shape = self.shape.clone();
            *shape.last_mut().expect("a tensor has a dimension") = last;
            let bytes = shape.iter().map(|size| *size as u64).product::<u64>() * width(dtype);
            Place { dtype, shape, bytes }
        };
        let inputs = self.inputs();
        match self.tensor.form.becomes() {
            Becomes::Floats(_) if self.numbers != Numbers::Same => vec![(self.ending, place("F32", inputs))],
            Becomes::Floats(dtype) => vec![(self.ending, place(name(dtype), inputs))],
            Becomes::Affine { bits, pairs } => vec![
                ("weight", place("U32", inputs * bits / 32)),
                ("scales", place(name(pairs), inputs / GROUP)),
                ("biases", place(name(pairs), inputs / GROUP)),
            ],
            Becomes::Mxfp4 => vec![("weight", place("U32", inputs / 8)), ("scales", place("U8", inputs / GROUP))],
        }
    }

    fn inputs(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

fn name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bf16 => "BF16",
        Dtype::F16 => "F16",
        Dtype::F32 => "F32",
        Dtype::E8m0 => "U8",
    }
}

fn width(dtype: &str) -> u64 {
    match dtype {
        "U8" => 1,
        "F16" | "BF16" => 2,
        _ => 4,
    }
}

/// The header of the file, and where each place begins after it.
fn lay_out(items: &[Item<'_>]) -> (Vec<u8>, Vec<Vec<u64>>) {
    let mut header = Map::new();
    header.insert("__metadata__".to_string(), json!({ "format": "mlx" }));
    let (mut at, mut starts) = (0, Vec::new());
    for item in items {
        let mut of_item = Vec::new();
        for (ending, place) in item.places() {
            let end = at + place.bytes;
            let dot = if ending.is_empty() { "" } else { "." };
            let entry = json!({ "dtype": place.dtype, "shape": place.shape, "data_offsets": [at, end] });
            header.insert(format!("{}{dot}{ending}", item.module), entry);
            of_item.push(at);
            at = end;
        }
        starts.push(of_item);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut head = (text.len() as u64).to_le_bytes().to_vec();
    head.extend(text);
    let first = head.len() as u64;
    starts.iter_mut().flatten().for_each(|start| *start += first);
    (head, starts)
}

impl Plan<'_> {
    /// Writes the file; `progress` hears how many bytes of tensors have been read, of how many.
    pub fn write(&self, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Copied, LoadError> {
        let (head, starts) = lay_out(&self.items);
        copy::write(path, &head, self.items.iter().zip(starts), progress)
    }
}
