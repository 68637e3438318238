//! A weight matrix, repacked once for the kernels, and its product with activation rows.
//!
//! `affine` keeps 4- and 8-bit weights quantized and multiplies them with int8 activations; `dense` keeps bf16 (fast)
//! or f32 (exact). Both sum each output over its inputs in one fixed order that no batch and no thread changes.

mod affine;
mod columns;
mod dense;
mod finish;

#[cfg(test)]
mod tests;

pub use finish::Gate;

use super::memory::Scratch;
use super::{Dtype, Isa, Pool, Precision, ShapeError, from_bf16};
use finish::Finish;

/// A matrix in affine quantization, as MLX stores it: weight = scale * q + bias, with one pair per `group` inputs. MXFP4
/// is of that kind too: twice its weights are whole numbers up to 12, and its scales are of `Dtype::E8m0`, without biases.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Little-endian u32 words `[outputs, inputs * bits / 32]`, lowest bits first.
    pub weights: &'a [u8],
    /// `[outputs, inputs / group]` of `dtype`.
    pub scales: &'a [u8],
    /// `[outputs, inputs / group]` of `dtype`.
    pub biases: &'a [u8],
    /// Type of scales and biases.
    pub dtype: Dtype,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Columns of the matrix.
    pub inputs: usize,
    /// 2 to 6, or 8.
    pub bits: u32,
    /// 32, 64 or 128.
    pub group: usize,
}

/// A matrix of plain floats.
#[derive(Clone, Copy)]
pub struct Dense<'a> {
    /// `[outputs, inputs]` of `dtype`, little-endian.
    pub bytes: &'a [u8],
    /// Element type.
    pub dtype: Dtype,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Columns of the matrix.
    pub inputs: usize,
}

/// One weight matrix `[outputs, inputs]`, packed for this machine.
pub struct Linear {
    outputs: usize,
    inputs: usize,
    packed: Packed,
}

enum Packed {
    Affine(affine::Tiles),
    Dense(dense::Panels),
}

impl Linear {
    /// Packs a quantized matrix; `Exact` dequantizes it to f32.
    pub fn from_affine(matrix: &Affine<'_>, precision: Precision, pool: &Pool) -> Result<Linear, ShapeError> {
        Linear::from_affine_stack(std::slice::from_ref(matrix), precision, pool)
    }

    /// Packs matrices of equal inputs and format as one, outputs after outputs: fused query, key and value.
    pub fn from_affine_stack(parts: &[Affine<'_>], precision: Precision, pool: &Pool) -> Result<Linear, ShapeError> {
        let first = stackable(parts)?;
        let outputs = parts.iter().map(|part| part.outputs).sum();
        let packed = match precision {
            Precision::Fast => Packed::Affine(affine::Tiles::pack(parts, outputs, false, pool)?),
            Precision::Exact => Packed::Dense(dense::Panels::pack(
                &|row, out| affine_row(parts, row, out),
                (outputs, first.inputs),
                precision,
                pool,
            )?),
        };
        Ok(Linear { outputs, inputs: first.inputs, packed })
    }

    /// Packs matrices whose first half of outputs gates the second, for `forward_gated` alone; none if it cannot.
    pub fn from_affine_gate(parts: &[Affine<'_>], pool: &Pool) -> Result<Option<Linear>, ShapeError> {
        let first = stackable(parts)?;
        let outputs = parts.iter().map(|part| part.outputs).sum::<usize>();
        if !outputs.is_multiple_of(finish::WIDE) {
            return Ok(None);
        }
        let packed = Packed::Affine(affine::Tiles::pack(parts, outputs, true, pool)?);
        Ok(Some(Linear { outputs, inputs: first.inputs, packed }))
    }

    /// Packs a float matrix: bf16 under `Fast`, f32 under `Exact`.
    pub fn from_dense(matrix: &Dense<'_>, precision: Precision, pool: &Pool) -> Result<Linear, ShapeError> {
        Linear::from_dense_stack(std::slice::from_ref(matrix), precision, pool)
    }

    /// Packs float matrices of equal inputs as one, outputs after outputs.
    pub fn from_dense_stack(parts: &[Dense<'_>], precision: Precision, pool: &Pool) -> Result<Linear, ShapeError> {
        let first = parts.first().ok_or(ShapeError::Empty { what: "the stack" })?;
        for part in parts {
            part.check()?;
            if part.inputs != first.inputs {
                return Err(ShapeError::Stack);
            }
        }
        let outputs = parts.iter().map(|part| part.outputs).sum();
        let packed =
            dense::Panels::pack(&|row, out| dense_row(parts, row, out), (outputs, first.inputs), precision, pool)?;
        Ok(Linear { outputs, inputs: first.inputs, packed: Packed::Dense(packed) })
    }

    /// Rows of the matrix.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of memory that the packed weights take.
    pub fn bytes(&self) -> usize {
        match &self.packed {
            Packed::Affine(tiles) => tiles.bytes(),
            Packed::Dense(panels) => panels.bytes(),
        }
    }

    /// y = x W^T: `x` is `[rows, inputs]`, `y` is `[rows, outputs]`, row-major. Row r of `y` depends on row r of `x`
    /// only, bit for bit, for every number of rows and threads.
    pub fn forward(&self, pool: &Pool, scratch: &mut Scratch, x: &[f32], rows: usize, y: &mut [f32]) {
        assert_eq!(x.len(), rows * self.inputs, "x must be [rows, inputs]");
        assert_eq!(y.len(), rows * self.outputs, "y must be [rows, outputs]");
        if rows == 0 {
            return;
        }
        match &self.packed {
            Packed::Affine(tiles) => tiles.forward(pool, scratch, x, rows, (y, Finish::Write)),
            Packed::Dense(panels) => panels.forward(pool, scratch, x, rows, y),
        }
    }

    /// Whether this is a quantized matrix, whose product can be added to what is there.
    pub fn adds(&self) -> bool {
        matches!(self.packed, Packed::Affine(_))
    }

    /// y += x W^T, of a matrix that `adds`.
    pub fn forward_onto(&self, pool: &Pool, scratch: &mut Scratch, x: &[f32], rows: usize, y: &mut [f32]) {
        assert_eq!(y.len(), rows * self.outputs, "y must be [rows, outputs]");
        self.finished(pool, scratch, x, rows, (y, Finish::Add));
    }

    /// y = gate(x G^T) * (x U^T) of a matrix from `from_affine_gate`; `y` is `[rows, outputs / 2]`.
    pub fn forward_gated(&self, pool: &Pool, scratch: &mut Scratch, gate: Gate, x: &[f32], y: &mut [f32]) {
        let rows = x.len() / self.inputs;
        assert_eq!(y.len(), rows * self.outputs / 2, "y must be [rows, outputs / 2]");
        self.finished(pool, scratch, x, rows, (y, Finish::Gate(gate)));
    }

    fn finished(&self, pool: &Pool, scratch: &mut Scratch, x: &[f32], rows: usize, y: (&mut [f32], Finish)) {
        assert_eq!(x.len(), rows * self.inputs, "x must be [rows, inputs]");
        assert!(self.adds(), "a quantized matrix");
        if let (Packed::Affine(tiles), 1..) = (&self.packed, rows) {
            tiles.forward(pool, scratch, x, rows, y);
        }
    }

    /// Writes row `index` of the matrix, dequantized: an embedding lookup.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.outputs, "row {index} of a matrix with {} rows", self.outputs);
        assert_eq!(out.len(), self.inputs, "out must hold one row");
        match &self.packed {
            Packed::Affine(tiles) => tiles.row(index, out),
            Packed::Dense(panels) => panels.row(index, out),
        }
    }
}

/// The first of checked parts of one format.
fn stackable<'a, 'b>(parts: &'b [Affine<'a>]) -> Result<&'b Affine<'a>, ShapeError> {
    let first = parts.first().ok_or(ShapeError::Empty { what: "the stack" })?;
    for part in parts {
        part.check()?;
        let format = |a: &Affine<'_>| (a.inputs, a.bits, a.group, a.dtype);
        if format(part) != format(first) {
            return Err(ShapeError::Stack);
        }
    }
    Ok(first)
}

/// The code of zero among those of `MXFP4`.
const MXFP4_ZERO: f32 = 12.0;
/// Twice the value of each E2M1 number, 12 added.
const MXFP4: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

impl Affine<'_> {
    fn check(&self) -> Result<(), ShapeError> {
        non_empty(self.outputs, self.inputs)?;
        if !matches!(self.bits, 2..=6 | 8) {
            return Err(ShapeError::Bits { bits: self.bits });
        }
        if !matches!(self.group, 32 | 64 | 128) {
            return Err(ShapeError::Group { group: self.group });
        }
        if !self.inputs.is_multiple_of(self.group) {
            return Err(ShapeError::Inputs { inputs: self.inputs, group: self.group });
        }
        let pairs = self.outputs * (self.inputs / self.group) * self.dtype.bytes();
        holds("the weights", self.weights, self.outputs * self.inputs * self.bits as usize / 8)?;
        holds("the scales", self.scales, pairs)?;
        if self.dtype != Dtype::E8m0 {
            return holds("the biases", self.biases, pairs);
        }
        if (self.bits, self.group) != (4, 32) {
            return Err(ShapeError::Mxfp4 { bits: self.bits, group: self.group });
        }
        holds("the biases", self.biases, 0)
    }

    /// Bytes of the matrix that a token reads under `Fast`: the kernels know weights of 4 and of 8 bits, and scales in bf16 and
    /// in f32.
    pub fn packed_bytes(&self) -> usize {
        affine::packed_bytes(self)
    }

    /// Bytes that it takes in memory then, with the kernels of `isa`.
    pub fn memory_bytes(&self, isa: Isa) -> usize {
        affine::packed_bytes(self) + affine::pairs_bytes(self, isa)
    }

    /// Scale and bias of one group.
    fn pair(&self, row: usize, group: usize) -> (f32, f32) {
        let at = row * (self.inputs / self.group) + group;
        if self.dtype == Dtype::E8m0 {
            let half = 0.5 * self.dtype.read(self.scales, at);
            return (half, -MXFP4_ZERO * half);
        }
        (self.dtype.read(self.scales, at), self.dtype.read(self.biases, at))
    }

    /// Quantized weight `at` of a row's `words`: a run of bits that may end in the next byte.
    #[inline(always)]
    fn code(&self, words: &[u8], at: usize) -> u8 {
        let bits = self.bits as usize;
        let (byte, shift) = (at * bits / 8, at * bits % 8);
        let high = if shift + bits > 8 { words[byte + 1] } else { 0 };
        let code = ((u16::from(high) << 8 | u16::from(words[byte])) >> shift) as u8 & (0xff >> (8 - bits));
        if self.dtype == Dtype::E8m0 { MXFP4[usize::from(code)] } else { code }
    }

    /// Bits of the kernel's form: 4 or 8, which hold any width below them, or every weight of MXFP4.
    fn packed_bits(&self) -> usize {
        if self.bits <= 4 && self.dtype != Dtype::E8m0 { 4 } else { 8 }
    }

    /// The quantized weights of one row, which take `bits` each, in 4 or 8.
    fn widened(&self, row: usize, bits: usize) -> Vec<u8> {
        let words = self.words(row);
        let codes = (0..self.inputs).map(|at| self.code(words, at));
        if bits == 8 {
            return codes.collect();
        }
        codes.collect::<Vec<_>>().as_chunks::<2>().0.iter().map(|[low, high]| low | high << 4).collect()
    }

    /// The quantized weights of one row.
    fn words(&self, row: usize) -> &[u8] {
        let bytes = self.inputs * self.bits as usize / 8;
        &self.weights[row * bytes..(row + 1) * bytes]
    }
}

impl Dense<'_> {
    fn check(&self) -> Result<(), ShapeError> {
        non_empty(self.outputs, self.inputs)?;
        holds("the matrix", self.bytes, self.outputs * self.inputs * self.dtype.bytes())
    }
}

fn non_empty(outputs: usize, inputs: usize) -> Result<(), ShapeError> {
    match (outputs, inputs) {
        (0, _) => Err(ShapeError::Empty { what: "the number of outputs" }),
        (_, 0) => Err(ShapeError::Empty { what: "the number of inputs" }),
        _ => Ok(()),
    }
}

fn holds(what: &'static str, bytes: &[u8], needs: usize) -> Result<(), ShapeError> {
    if bytes.len() == needs { Ok(()) } else { Err(ShapeError::Bytes { what, has: bytes.len(), needs }) }
}

/// The part and its row that hold row `row` of a stack.
fn find<T>(parts: &[T], outputs: impl Fn(&T) -> usize, mut row: usize) -> (&T, usize) {
    let mut at = 0;
    while row >= outputs(&parts[at]) {
        row -= outputs(&parts[at]);
        at += 1;
    }
    (&parts[at], row)
}

fn affine_row(parts: &[Affine<'_>], row: usize, out: &mut [f32]) {
    let (part, row) = find(parts, |part| part.outputs, row);
    let words = part.words(row);
    for (group, out) in out.chunks_exact_mut(part.group).enumerate() {
        let (scale, bias) = part.pair(row, group);
        for (i, out) in out.iter_mut().enumerate() {
            let at = group * part.group + i;
            *out = scale * f32::from(part.code(words, at)) + bias;
        }
    }
}

fn dense_row(parts: &[Dense<'_>], row: usize, out: &mut [f32]) {
    let (part, row) = find(parts, |part| part.outputs, row);
    let bytes = part.inputs * part.dtype.bytes();
    let stored = &part.bytes[row * bytes..(row + 1) * bytes];
    let halves = stored.as_chunks::<2>().0.iter().map(|&half| u16::from_le_bytes(half));
    match part.dtype {
        Dtype::Bf16 => halves.zip(out).for_each(|(half, out)| *out = from_bf16(half)),
        Dtype::F16 => halves.zip(out).for_each(|(half, out)| *out = half::f16::from_bits(half).to_f32()),
        Dtype::F32 => {
            stored.as_chunks::<4>().0.iter().zip(out).for_each(|(word, out)| *out = f32::from_le_bytes(*word));
        }
        Dtype::E8m0 => (0..part.inputs).zip(out).for_each(|(at, out)| *out = part.dtype.read(stored, at)),
    }
}
