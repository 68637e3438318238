//! A stack of matrices in memory: one product where the parts are stored alike, and the bias that some families add.
//!
//! Queries, keys and values, or gate and up, are read by one kernel call. Where a model quantizes the parts differently
//! each is its own product, and their outputs are laid side by side: the numbers are the same.

use crate::LoadError;
use crate::folder::{Described, Folder};
use crate::matrix::Matrix;
use crate::models::Stack;
use crate::native::{Affine, Dense, Gate, Linear, Pool, Precision, Scratch, add_to_rows};

/// What every product needs: threads, and memory that is kept between calls.
pub(crate) struct Machine {
    /// The threads.
    pub pool: Pool,
    /// The kernels' working memory.
    pub scratch: Scratch,
    /// Outputs of one part, on their way beside the others.
    part: Vec<f32>,
}

/// A stack of matrices, packed for this machine.
pub(crate) struct Projection {
    linears: Vec<Linear>,
    bias: Option<Vec<f32>>,
    outputs: usize,
    inputs: usize,
    /// The first half of the outputs gates the second as they are computed.
    gated: bool,
}

impl Machine {
    /// Starts so many threads.
    pub fn new(threads: usize) -> Self {
        Self { pool: Pool::new(threads), scratch: Scratch::new(), part: Vec::new() }
    }
}

/// Whether one packed matrix can hold both.
fn alike(left: &Matrix<'_>, right: &Matrix<'_>) -> bool {
    left.format() == right.format() && left.dtype() == right.dtype()
}

impl Projection {
    /// Packs a stack's matrices.
    pub fn load<D: Described>(
        folder: &Folder<D>,
        stack: &Stack,
        precision: Precision,
        pool: &Pool,
    ) -> Result<Self, LoadError> {
        let matrices = folder.matrices(stack)?;
        let runs = matrices.chunk_by(alike);
        let linears = runs.map(|run| pack(run, precision, pool)).collect::<Result<_, _>>()?;
        Ok(Self { linears, bias: folder.bias(stack)?, outputs: stack.outputs(), inputs: stack.inputs, gated: false })
    }

    /// Packs a gate and what it multiplies: for `forward_gated` where one product can give both, else as `load` does.
    pub fn load_gate<D: Described>(
        folder: &Folder<D>,
        stack: &Stack,
        precision: Precision,
        pool: &Pool,
    ) -> Result<Self, LoadError> {
        let matrices = folder.matrices(stack)?;
        let parts: Vec<Affine<'_>> = matrices.iter().filter_map(Matrix::affine).collect();
        let one = precision == Precision::Fast
            && parts.len() == matrices.len()
            && matrices.windows(2).all(|two| alike(&two[0], &two[1]))
            && folder.bias(stack)?.is_none();
        let linear = if one { Linear::from_affine_gate(&parts, pool)? } else { None };
        let Some(linear) = linear else { return Self::load(folder, stack, precision, pool) };
        Ok(Self { linears: vec![linear], bias: None, outputs: stack.outputs(), inputs: stack.inputs, gated: true })
    }

    /// Whether `forward_gated` is what computes it.
    pub fn gates(&self) -> bool {
        self.gated
    }

    /// Whether `forward_onto` computes it.
    pub fn adds(&self) -> bool {
        self.bias.is_none() && matches!(self.linears.as_slice(), [whole] if whole.adds())
    }

    /// y += W x for each row, where it `adds`.
    pub fn forward_onto(&self, machine: &mut Machine, x: &[f32], rows: usize, y: &mut [f32]) {
        self.linears[0].forward_onto(&machine.pool, &mut machine.scratch, x, rows, y);
    }

    /// y = gate(G x) × U x for each row, where it `gates`: `y` is `[rows, outputs / 2]`.
    pub fn forward_gated(&self, machine: &mut Machine, gate: Gate, x: &[f32], y: &mut [f32]) {
        self.linears[0].forward_gated(&machine.pool, &mut machine.scratch, gate, x, y);
    }

    /// Width of a row of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Width of a row of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// y = W x + b for each row: `x` is `[rows, inputs]`, `y` is `[rows, outputs]`.
    pub fn forward(&self, machine: &mut Machine, x: &[f32], rows: usize, y: &mut [f32]) {
        let Machine { pool, scratch, part } = machine;
        if let [whole] = self.linears.as_slice() {
            whole.forward(pool, scratch, x, rows, y);
        } else {
            let mut first = 0;
            for linear in &self.linears {
                let width = linear.outputs();
                let part = sized(part, rows * width);
                linear.forward(pool, scratch, x, rows, part);
                for (from, to) in part.chunks_exact(width).zip(y.chunks_exact_mut(self.outputs)) {
                    to[first..first + width].copy_from_slice(from);
                }
                first += width;
            }
        }
        if let Some(bias) = &self.bias {
            add_to_rows(pool, y, bias);
        }
    }

    /// Row `index` of the first matrix: an embedding.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        self.linears[0].row(index, out);
    }
}

/// Packs matrices of one format as one.
fn pack(run: &[Matrix<'_>], precision: Precision, pool: &Pool) -> Result<Linear, LoadError> {
    let dense: Vec<Dense<'_>> = run.iter().filter_map(Matrix::dense).collect();
    let affine: Vec<Affine<'_>> = run.iter().filter_map(Matrix::affine).collect();
    Ok(if affine.is_empty() {
        Linear::from_dense_stack(&dense, precision, pool)?
    } else {
        Linear::from_affine_stack(&affine, precision, pool)?
    })
}

/// The first `length` numbers of a buffer that grows to its largest need and stays.
pub(crate) fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}
