//! The copy of tensors, row by row: codes are unpacked and packed again, heads turned back, floats taken as they are.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use half::{bf16, f16};

use super::order::{Heads, Order};
use super::{Item, Numbers};
use crate::LoadError;
use crate::gguf::form::{Becomes, GROUP, Moved};
use crate::native::Dtype;

/// Bytes of the source that are read between two writes.
const CHUNK: usize = 1 << 20;

/// Bytes that are written between two waits for the disk: one at the end would look like a stall.
const UNSYNCED_MAX: u64 = 256 << 20;

/// What was copied.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::gguf) struct Copied {
    /// Tensors whose numbers moved.
    pub requantized: usize,
    /// How far the numbers of those moved.
    pub moved: Moved,
}

/// Writes a file of items that begin at given places.
pub(super) fn write<'a>(
    path: &Path,
    head: &[u8],
    items: impl Iterator<Item = (&'a Item<'a>, Vec<u64>)> + Clone,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Copied, LoadError> {
    let unwritable = |source| LoadError::Unwritable { path: path.to_path_buf(), source };
    let file = File::create(path).map_err(unwritable)?;
    file.write_all_at(head, 0).map_err(unwritable)?;
    let total = items.clone().map(|(item, _)| Rows::new(item)).map(|rows| (rows.count * rows.bytes) as u64).sum();
    let (mut done, mut unsynced, mut copied) = (0, 0, Copied::default());
    progress(0, total);
    for (item, mut starts) in items {
        let rows = Rows::new(item);
        let mut moved = Moved::default();
        for first in (0..rows.count).step_by(rows.per_chunk) {
            let count = rows.per_chunk.min(rows.count - first);
            let mut parts = [Vec::new(), Vec::new(), Vec::new()];
            for row in first..first + count {
                rows.convert(row, &mut parts, &mut moved)?;
            }
            for (part, start) in parts.iter().zip(&mut starts) {
                file.write_all_at(part, *start).map_err(unwritable)?;
                *start += part.len() as u64;
                unsynced += part.len() as u64;
            }
            if unsynced > UNSYNCED_MAX {
                file.sync_data().map_err(unwritable)?;
                unsynced = 0;
            }
            done += (count * rows.bytes) as u64;
            progress(done, total);
        }
        if moved.differences > 0.0 {
            copied.requantized += 1;
            copied.moved.weights += moved.weights;
            copied.moved.differences += moved.differences;
        }
    }
    file.sync_all().map_err(unwritable)?;
    Ok(copied)
}

/// The rows of an item.
struct Rows<'a> {
    item: &'a Item<'a>,
    count: usize,
    /// Of one row.
    bytes: usize,
    per_chunk: usize,
}

impl<'a> Rows<'a> {
    fn new(item: &'a Item<'a>) -> Self {
        let shape = &item.tensor.shape;
        // What lies elsewhere is a row by itself, of a matrix or of a vector.
        let alone = item.layout.rows != Order::Same && shape.len() == 1;
        let inputs = if alone { 1 } else { shape.last().copied().unwrap_or(1) };
        let (elements, block) = item.tensor.form.block();
        let bytes = inputs / elements * block;
        // A tensor may hold more than this item takes.
        let count = shape.iter().product::<usize>() / inputs;
        Self { item, count, bytes, per_chunk: (CHUNK / bytes).max(1) }
    }

    /// Appends row `row` of what is written to its parts: weights, scales, biases.
    fn convert(&self, row: usize, parts: &mut [Vec<u8>; 3], moved: &mut Moved) -> Result<(), LoadError> {
        let Some(heads) = self.item.layout.columns else { return self.convert_in_order(row, parts, moved) };
        let mut stored = [Vec::new(), Vec::new(), Vec::new()];
        self.convert_in_order(row, &mut stored, moved)?;
        let heads = Heads { width: 1, ..heads };
        for (part, stored) in parts.iter_mut().zip(&stored) {
            let width = stored.len() / (heads.keys * heads.each);
            (0..heads.keys * heads.each)
                .map(|head| heads.source(head) * width)
                .for_each(|at| part.extend(&stored[at..at + width]));
        }
        Ok(())
    }

    /// The same with the columns as they lie in the file.
    fn convert_in_order(&self, row: usize, parts: &mut [Vec<u8>; 3], moved: &mut Moved) -> Result<(), LoadError> {
        let form = self.item.tensor.form;
        let source = self.item.layout.rows.source(row);
        let bytes = &self.item.tensor.bytes[source * self.bytes..(source + 1) * self.bytes];
        match (form.becomes(), self.item.numbers) {
            (Becomes::Floats(_), Numbers::Same) => parts[0].extend(bytes),
            (Becomes::Floats(dtype), Numbers::LessOne) => {
                numbers(bytes, dtype).for_each(|number| parts[0].extend((number - 1.0).to_le_bytes()));
            }
            (Becomes::Floats(dtype), Numbers::Decays) => {
                for number in numbers(bytes, dtype) {
                    if number >= 0.0 || !number.is_finite() {
                        let feature = format!("a state that changes by {number} in {}", self.item.module);
                        return Err(LoadError::unsupported(feature, "factors below 0 are"));
                    }
                    parts[0].extend((-number).ln().to_le_bytes());
                }
            }
            (Becomes::Affine { bits, pairs }, _) => self.affine(bytes, bits, pairs, parts, moved)?,
            (Becomes::Mxfp4, _) => {
                let mut codes = [0; GROUP];
                for block in bytes.chunks_exact(form.block().1) {
                    form.unpack(block, &mut codes, &mut [], moved);
                    pack(&codes, 4, &mut parts[0]);
                    parts[1].push(block[0]);
                }
            }
        }
        Ok(())
    }

    fn affine(
        &self,
        bytes: &[u8],
        bits: usize,
        dtype: Dtype,
        parts: &mut [Vec<u8>; 3],
        moved: &mut Moved,
    ) -> Result<(), LoadError> {
        let (elements, block_bytes) = self.item.tensor.form.block();
        let (mut codes, mut pairs) = ([0; 256], [[0.0; 2]; 256 / GROUP]);
        let (codes, pairs) = (&mut codes[..elements], &mut pairs[..elements / GROUP]);
        for block in bytes.chunks_exact(block_bytes) {
            self.item.tensor.form.unpack(block, codes, pairs, moved);
            pack(codes, bits, &mut parts[0]);
            for [scale, bias] in &*pairs {
                for (value, part) in [(*scale, 1), (*bias, 2)] {
                    match dtype {
                        Dtype::F16 if value.abs() > f16::MAX.to_f32() => {
                            let feature = format!("a bias of {value} in {}", self.item.module);
                            return Err(LoadError::unsupported(feature, format!("biases up to {} are", f16::MAX)));
                        }
                        Dtype::F16 => parts[part].extend(f16::from_f32(value).to_le_bytes()),
                        _ => parts[part].extend(value.to_le_bytes()),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Codes of so many bits, the first in the lowest bits.
fn pack(codes: &[u8], bits: usize, out: &mut Vec<u8>) {
    let (mut held, mut word) = (0, 0u32);
    for code in codes {
        word |= u32::from(*code) << held;
        held += bits;
        while held >= 8 {
            out.push(word as u8);
            word >>= 8;
            held -= 8;
        }
    }
}

/// Plain numbers, in f32.
fn numbers(bytes: &[u8], dtype: Dtype) -> impl Iterator<Item = f32> {
    let width = if matches!(dtype, Dtype::F16 | Dtype::Bf16) { 2 } else { 4 };
    bytes.chunks_exact(width).map(move |bytes| match (dtype, bytes) {
        (Dtype::F16, &[low, high]) => f16::from_le_bytes([low, high]).to_f32(),
        (Dtype::Bf16, &[low, high]) => bf16::from_le_bytes([low, high]).to_f32(),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => 0.0,
    })
}
