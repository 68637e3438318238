//! GGUF files for tests and benches: a writer of the format, and any model's folder written with it.
//!
//! A folder's names and keys go through the same dictionary that the import reads; that the dictionary is right is for
//! golden files and for the peer of the benches to say. Quantizers here are plain and quick, not good.

mod delta;
mod encode;
mod metadata;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use self::encode::Form;
use crate::folder::{Described, Folder};
use crate::gguf::{Layout, gguf_name, gguf_vector, layout};
use crate::matrix::Matrix;
use crate::models::Vector;
use crate::native::{DeltaShape, Linear, Pool, Precision};

/// Offsets of tensors are multiples of this.
const ALIGNMENT: u64 = 32;

/// Writes a tensor's bytes.
type Content<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + 'a>;

/// A file in the making.
#[derive(Default)]
pub struct Gguf<'a> {
    fields: Vec<u8>,
    count: u64,
    tensors: Vec<Tensor<'a>>,
}

struct Tensor<'a> {
    name: String,
    /// Inputs first.
    shape: Vec<u64>,
    form: Form,
    content: Content<'a>,
}

impl<'a> Gguf<'a> {
    /// Adds a whole number.
    pub fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.fields.extend(value.to_le_bytes());
    }

    /// Adds a number.
    pub fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.fields.extend(value.to_le_bytes());
    }

    /// Adds a flag.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.fields.push(value.into());
    }

    /// Adds a text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        text(&mut self.fields, value);
    }

    /// Adds a list of texts.
    pub fn texts(&mut self, key: &str, values: impl Iterator<Item = String>) {
        let values: Vec<String> = values.collect();
        self.list(key, 8, values.len());
        values.iter().for_each(|value| text(&mut self.fields, value));
    }

    /// Adds a list of whole numbers.
    pub fn numbers(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        self.list(key, 5, values.len());
        values.for_each(|value| self.fields.extend(value.to_le_bytes()));
    }

    /// Adds a list of numbers.
    pub fn floats(&mut self, key: &str, values: &[f32]) {
        self.list(key, 6, values.len());
        values.iter().for_each(|value| self.fields.extend(value.to_le_bytes()));
    }

    /// Adds a tensor, inputs first; `content` writes it when the file is.
    pub fn tensor(&mut self, name: &str, shape: &[u64], form: Form, content: Content<'a>) {
        self.tensors.push(Tensor { name: name.to_string(), shape: shape.to_vec(), form, content });
    }

    /// Adds a vector of f32.
    pub fn vector(&mut self, name: &str, values: Vec<f32>) {
        let length = values.len() as u64;
        let write = move |out: &mut dyn Write| values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()));
        self.tensor(name, &[length], Form::F32, Box::new(write));
    }

    /// Takes a tensor out again.
    pub fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend(self.count.to_le_bytes());
        head.extend(&self.fields);
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut head, &tensor.name);
            head.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|size| head.extend(size.to_le_bytes()));
            head.extend(tensor.form.number().to_le_bytes());
            head.extend(u64::to_le_bytes(offset));
            offset += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&head)?;
        for tensor in &self.tensors {
            (tensor.content)(&mut file)?;
            let padding = tensor.bytes().next_multiple_of(ALIGNMENT) - tensor.bytes();
            file.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
        }
        file.flush()
    }

    fn key(&mut self, key: &str, kind: u32) {
        text(&mut self.fields, key);
        self.fields.extend(kind.to_le_bytes());
        self.count += 1;
    }

    fn list(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, 9);
        self.fields.extend(kind.to_le_bytes());
        self.fields.extend((length as u64).to_le_bytes());
    }
}

impl Tensor<'_> {
    fn bytes(&self) -> u64 {
        let (elements, bytes) = self.form.block();
        self.shape.iter().product::<u64>() / elements as u64 * bytes as u64
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Writes a folder as a GGUF file: matrices in the form that `form` chooses by GGUF's name, vectors in f32.
pub fn write_folder(dir: &Path, path: &Path, form: impl Fn(&str) -> Form) -> io::Result<()> {
    let mut file = of_folder(dir, form)?;
    letters(dir, &mut file, "gpt-2")?;
    file.write(path)
}

/// Adds a folder's byte-level tokenizer, chat template and end of a turn. Text is split as `split` names it, whatever the
/// folder says: a name is all that GGUF has for it.
pub fn letters(dir: &Path, file: &mut Gguf<'_>, split: &str) -> io::Result<()> {
    metadata::letters(dir, file, split)
}

/// A folder as a file in the making, but for its letters.
pub fn of_folder(dir: &Path, form: impl Fn(&str) -> Form) -> io::Result<Gguf<'static>> {
    of_folder_since(dir, form, true)
}

/// The same as converters write it, or as the first ones wrote what a delta net projects: in one matrix.
pub fn of_folder_since(dir: &Path, form: impl Fn(&str) -> Form, apart: bool) -> io::Result<Gguf<'static>> {
    let mut file = Gguf::default();
    let architecture = metadata::describe(dir, &mut file)?;
    if let Some(folder) = Folder::open_encoder(dir).map_err(io::Error::other)? {
        let place = Place { architecture, layout: &|_| Layout::SAME, delta: None };
        matrices(&folder, &place, form, &mut file)?;
        for norm in folder.description.norms() {
            norm_of(&folder, architecture, &norm.weight, norm.less_one, &mut file)?;
            if let Some(bias) = &norm.bias {
                norm_of(&folder, architecture, bias, false, &mut file)?;
            }
        }
        return Ok(file);
    }
    let folder = Folder::open(dir).map_err(io::Error::other)?;
    let layout = |name: &str| layout(architecture, &folder.description, name);
    let delta = folder.description.recurrent().map(|(shape, _)| shape).filter(|_| apart);
    matrices(&folder, &Place { architecture, layout: &layout, delta }, form, &mut file)?;
    for norm in folder.description.norms() {
        norm_of(&folder, architecture, &norm.weight, norm.less_one, &mut file)?;
    }
    for vector in folder.description.other_vectors() {
        let name = gguf_vector(&vector.name);
        let name = name.ok_or_else(|| io::Error::other(format!("GGUF has no name for {}", vector.name)))?;
        let values = folder.vector(vector).map_err(io::Error::other)?;
        delta::vector(&mut file, vector, &name, layout(&vector.name).rows, values);
    }
    Ok(file)
}

/// Adds the factors of a norm, which a folder may hold less one, or what it adds.
fn norm_of<D: Described>(
    folder: &Folder<D>,
    architecture: &str,
    vector: &Vector,
    less_one: bool,
    file: &mut Gguf<'_>,
) -> io::Result<()> {
    let mut values = folder.vector(vector).map_err(io::Error::other)?;
    values.iter_mut().for_each(|value| *value += if less_one { 1.0 } else { 0.0 });
    let (module, ending) = vector.name.rsplit_once('.').unwrap_or((&vector.name, "weight"));
    let rows: Vec<Vec<f32>> = values.chunks(vector.width()).map(<[f32]>::to_vec).collect();
    matrix_of(file, &format!("{}.{ending}", named(architecture, module)?), &rows, None, Form::F32);
    Ok(())
}

fn named(architecture: &str, module: &str) -> io::Result<String> {
    // What is part of a classifier is named without it.
    let bare = |module: &str| gguf_name(architecture, module.split_once('.')?.1);
    let name = gguf_name(architecture, module).or_else(|| bare(module));
    name.ok_or_else(|| io::Error::other(format!("GGUF has no name for {module}")))
}

/// Where a file of an architecture has what a folder has.
struct Place<'a> {
    architecture: &'a str,
    /// How a module lies.
    layout: &'a dyn Fn(&str) -> Layout,
    /// The delta nets whose projections are taken apart.
    delta: Option<DeltaShape>,
}

/// Adds every matrix and its bias.
fn matrices<D: Described>(
    folder: &Folder<D>,
    place: &Place<'_>,
    form: impl Fn(&str) -> Form,
    file: &mut Gguf<'static>,
) -> io::Result<()> {
    let pool = Pool::new(1);
    for stack in folder.description.stacks() {
        let matrices = folder.matrices(stack).map_err(io::Error::other)?;
        for (part, matrix) in stack.parts.iter().zip(matrices) {
            let layout = (place.layout)(&part.name);
            let rows = delta::stored(layout, rows(&matrix, &pool)?);
            if let Some(shape) = place.delta.filter(|_| part.name.ends_with("in_proj_qkvz")) {
                delta::apart(file, &shape, &part.name, rows, &form);
                continue;
            }
            let name = format!("{}.weight", named(place.architecture, &part.name)?);
            matrix_of(file, &name, &rows, part.slice, form(&name));
            if part.bias {
                let bias = crate::matrix::bias(&folder.checkpoint, part).map_err(io::Error::other)?;
                let bias = delta::stored(layout, bias.iter().map(|value| vec![*value]).collect());
                let bytes = bias.into_iter().flatten().flat_map(f32::to_le_bytes).collect();
                let name = format!("{}.bias", named(place.architecture, &part.name)?);
                add(file, &name, &mut vec![part.outputs as u64], part.slice, Form::F32, bytes);
            }
        }
    }
    Ok(())
}

/// Adds a matrix by its rows.
fn matrix_of(file: &mut Gguf<'_>, name: &str, rows: &[Vec<f32>], joined: Option<(usize, usize)>, form: Form) {
    let mut bytes = Vec::new();
    rows.iter().for_each(|row| encode::row(form, row, &mut bytes));
    let mut shape = vec![rows[0].len() as u64, rows.len() as u64];
    // As converters write a matrix of one row.
    shape.truncate(rows.len().min(2));
    add(file, name, &mut shape, joined, form, bytes);
}

/// Adds a matrix or a bias; of many that are one tensor, the first makes the tensor and the others go on with it.
fn add(
    file: &mut Gguf<'_>,
    name: &str,
    shape: &mut Vec<u64>,
    joined: Option<(usize, usize)>,
    form: Form,
    bytes: Vec<u8>,
) {
    let content = move |out: &mut dyn Write| out.write_all(&bytes);
    match joined {
        Some((index, count)) if index > 0 => {
            let before = file.tensors.iter_mut().find(|tensor| tensor.name == name);
            let before = before.expect("the first of many came first");
            debug_assert_eq!(before.shape.last(), Some(&(count as u64)));
            let first = std::mem::replace(&mut before.content, Box::new(|_| Ok(())));
            before.content = Box::new(move |out| first(out).and_then(|()| content(out)));
        }
        Some((_, count)) => {
            shape.push(count as u64);
            file.tensor(name, shape, form, Box::new(content));
        }
        None => file.tensor(name, shape, form, Box::new(content)),
    }
}

/// The rows of a matrix.
fn rows(matrix: &Matrix<'_>, pool: &Pool) -> io::Result<Vec<Vec<f32>>> {
    let linear = match (matrix.affine(), matrix.dense()) {
        (Some(affine), _) => Linear::from_affine(&affine, Precision::Exact, pool),
        (_, Some(dense)) => Linear::from_dense(&dense, Precision::Exact, pool),
        _ => return Err(io::Error::other("a matrix is dense or affine")),
    };
    let linear = linear.map_err(io::Error::other)?;
    let mut rows = vec![vec![0.0; linear.inputs()]; linear.outputs()];
    rows.iter_mut().enumerate().for_each(|(row, out)| linear.row(row, out));
    Ok(rows)
}
