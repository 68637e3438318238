//! The head of a GGUF file: what it says of itself, and where its tensors lie.
//!
//! The file comes from a stranger. Every count, length and offset is compared with what the file holds before it is
//! followed, and nothing is set aside for what a count merely promises. Only the import calls this.

use std::collections::HashMap;
use std::path::Path;

use super::fields::{Fields, Value};
use super::form::Form;
use crate::LoadError;

/// The most fields and the most tensors; the largest files have a few thousand.
const ENTRIES_MAX: u64 = 1 << 16;
/// The most entries of a list; the largest vocabularies have 260,000 words and twice as many merges.
const LIST_MAX: u64 = 1 << 22;
/// The most entries of all lists together: a byte of the file may become an entry of sixteen.
const LISTED_MAX: u64 = 1 << 24;
/// The most bytes of a name.
const NAME_BYTES_MAX: usize = 1024;
/// The most that offsets may be rounded up to.
const ALIGNMENT_MAX: u64 = 1 << 20;
/// What offsets are rounded up to where the file does not say.
const ALIGNMENT: u64 = 32;
/// The largest count that a dimension may have, as for `config.json`.
const DIMENSION_MAX: u64 = 1 << 28;

/// What a file says.
pub(super) struct Head<'a> {
    /// Its metadata.
    pub fields: Fields<'a>,
    /// Its tensors by name.
    pub tensors: HashMap<&'a str, Tensor<'a>>,
}

/// A tensor in a file.
#[derive(Clone)]
pub(super) struct Tensor<'a> {
    /// How its numbers are stored.
    pub form: Form,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads the head of a file.
    pub fn read(path: &'a Path, bytes: &'a [u8]) -> Result<Self, LoadError> {
        let mut reader = Reader { path, bytes, at: 0, listed: 0 };
        if reader.take(4)? != b"GGUF" {
            return Err(reader.problem("it does not begin as a GGUF file does"));
        }
        match reader.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 2 | 3) => {
                return Err(LoadError::unsupported("a GGUF file of big-endian numbers", "little-endian ones are"));
            }
            version => {
                return Err(LoadError::unsupported(format!("GGUF version {version}"), "versions 2 and 3 are"));
            }
        }
        let tensors = reader.count("tensors", ENTRIES_MAX)?;
        let fields = reader.count("fields", ENTRIES_MAX)?;
        let mut values = HashMap::new();
        for _ in 0..fields {
            let key = reader.name()?;
            let kind = reader.u32()?;
            let value = reader.value(kind)?;
            if values.insert(key, value).is_some() {
                return Err(reader.problem(format!("it has {key} twice")));
            }
        }
        let fields = Fields::new(path, values);
        let entries = (0..tensors).map(|_| reader.entry()).collect::<Result<Vec<_>, _>>()?;
        let alignment = fields.count_if_any("general.alignment")?.map_or(ALIGNMENT, |count| count as u64);
        if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
            return Err(reader.problem(format!("general.alignment is {alignment}")));
        }
        let data = (reader.at as u64).next_multiple_of(alignment);
        let mut placed = HashMap::new();
        for entry in entries {
            let name = entry.name;
            if placed.insert(name, entry.place(&reader, data, alignment)?).is_some() {
                return Err(reader.problem(format!("it has tensor {name} twice")));
            }
        }
        refuse_overlaps(&reader, &placed)?;
        Ok(Self { fields, tensors: placed })
    }
}

/// Refuses tensors that share bytes: one of the two would be made of the other's.
fn refuse_overlaps(reader: &Reader<'_>, tensors: &HashMap<&str, Tensor<'_>>) -> Result<(), LoadError> {
    let mut spans: Vec<_> = tensors.iter().map(|(name, tensor)| (tensor.bytes.as_ptr_range(), name)).collect();
    spans.sort_by_key(|(span, name)| (span.start, *name));
    match spans.windows(2).find(|pair| pair[1].0.start < pair[0].0.end) {
        Some(pair) => Err(reader.problem(format!("tensors {} and {} share bytes", pair[0].1, pair[1].1))),
        None => Ok(()),
    }
}

/// What the head says of a tensor.
struct Entry<'a> {
    name: &'a str,
    /// Innermost first, as in the file.
    sizes: Vec<u64>,
    form: u32,
    offset: u64,
}

impl<'a> Entry<'a> {
    /// Finds the tensor's bytes, which must lie in the file.
    fn place(self, reader: &Reader<'a>, data: u64, alignment: u64) -> Result<Tensor<'a>, LoadError> {
        let Entry { name, sizes, form, offset } = self;
        let form = Form::of(form).map_err(|known| {
            LoadError::unsupported(format!("tensor type {known} (of {name})"), format!("{} are", Form::KNOWN))
        })?;
        let (elements, bytes) = form.block();
        let wrong = |what: &str| reader.problem(format!("tensor {name} {what}"));
        if !sizes[0].is_multiple_of(elements as u64) {
            return Err(wrong(&format!("has rows of {} numbers, which are no whole blocks of {elements}", sizes[0])));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(wrong("does not begin where the file's alignment says"));
        }
        let blocks = sizes.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        let length = blocks.and_then(|count| (count / elements as u64).checked_mul(bytes as u64));
        let start = data.checked_add(offset);
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        let found = start
            .zip(end)
            .and_then(|(start, end)| reader.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?));
        let bytes = found.ok_or_else(|| wrong("reaches past the end of the file, which is cut short"))?;
        Ok(Tensor { form, shape: sizes.iter().rev().map(|size| *size as usize).collect(), bytes })
    }
}

/// Reads on in a file that may end anywhere.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    /// How many entries the lists so far have.
    listed: u64,
}

impl<'a> Reader<'a> {
    fn problem(&self, problem: impl Into<String>) -> LoadError {
        LoadError::invalid(self.path, problem)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], LoadError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.problem("it ends inside its head; it is cut short"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, LoadError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, LoadError> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, LoadError> {
        match self.u64()? {
            count if count <= most => Ok(count),
            count => Err(self.problem(format!("it claims {count} {what}, and the most is {most}"))),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], LoadError> {
        let length = self.u64()?;
        // A length beyond the address space is beyond the file too.
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn name(&mut self) -> Result<&'a str, LoadError> {
        let text = self.text()?;
        let name = std::str::from_utf8(text).ok().filter(|name| name.len() <= NAME_BYTES_MAX);
        name.ok_or_else(|| self.problem(format!("it has a name that is no text of at most {NAME_BYTES_MAX} bytes")))
    }

    fn entry(&mut self) -> Result<Entry<'a>, LoadError> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(self.problem(format!("tensor {name} has {dimensions} dimensions")));
        }
        let sizes = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        if let Some(size) = sizes.iter().find(|size| !(1..=DIMENSION_MAX).contains(*size)) {
            return Err(self.problem(format!("tensor {name} has a dimension of {size}")));
        }
        Ok(Entry { name, sizes, form: self.u32()?, offset: self.u64()? })
    }

    fn value(&mut self, kind: u32) -> Result<Value<'a>, LoadError> {
        Ok(match kind {
            7 => Value::Flag(self.array::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => self.list()?,
            _ => Value::Number(self.number(kind)?),
        })
    }

    fn number(&mut self, kind: u32) -> Result<f64, LoadError> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            6 => f32::from_le_bytes(self.array()?).into(),
            10 => self.u64()? as f64,
            11 => i64::from_le_bytes(self.array()?) as f64,
            12 => f64::from_le_bytes(self.array()?),
            _ => return Err(self.problem(format!("it has a value of the unknown kind {kind}"))),
        })
    }

    fn list(&mut self) -> Result<Value<'a>, LoadError> {
        let kind = self.u32()?;
        let count = self.count("entries of one list", LIST_MAX)?;
        self.listed += count;
        if self.listed > LISTED_MAX {
            return Err(self.problem(format!("its lists have more than {LISTED_MAX} entries together")));
        }
        Ok(match kind {
            7 => Value::Numbers(self.take(count as usize)?.iter().map(|flag| f64::from(*flag)).collect()),
            8 => Value::Texts((0..count).map(|_| self.text()).collect::<Result<_, _>>()?),
            9 => return Err(self.problem("it has a list of lists")),
            _ => Value::Numbers((0..count).map(|_| self.number(kind)).collect::<Result<_, _>>()?),
        })
    }
}
