//! Float weights as panels of 32 outputs: bf16 pairs under `Fast`, f32 under `Exact`.

use crate::native::amx;
use crate::native::cpu::versions;
use crate::native::memory::{Memory, Scratch, Shared, lines, share};
use crate::native::tile::{self, Call, Kind, LANES, STEP};
use crate::native::{Isa, Pool, Precision, ShapeError, from_bf16, pair};

/// Columns of a call at most.
const COLUMNS: usize = amx::ROWS;
/// Steps of bf16 panels come in runs of so many, as a tile unit takes them.
const RUN: usize = amx::ROWS;

/// Steps of a panel.
fn steps(kind: Kind, inputs: usize) -> usize {
    let steps = inputs.div_ceil(kind.width());
    if kind == Kind::Bf16 { steps.next_multiple_of(RUN) } else { steps }
}

/// A packed matrix: for each 32 outputs one panel over all inputs (the last panel and steps padded with zeros).
pub(super) struct Panels {
    memory: Memory,
    kind: Kind,
    outputs: usize,
    inputs: usize,
}

impl Panels {
    /// Packs the rows that `read(row, out)` gives; `shape` is outputs, inputs.
    pub(super) fn pack(
        read: &(dyn Fn(usize, &mut [f32]) + Sync),
        shape: (usize, usize),
        precision: Precision,
        pool: &Pool,
    ) -> Result<Panels, ShapeError> {
        let (outputs, inputs) = shape;
        let kind = if precision == Precision::Fast { Kind::Bf16 } else { Kind::F32 };
        let panel = steps(kind, inputs) * STEP;
        let panels = outputs.div_ceil(LANES);
        let mut memory = Memory::zeroed(panels * panel)?;
        let base = Shared::new(memory.bytes_mut());
        pool.run(&|thread| {
            let mut row = vec![0.0; inputs];
            for p in share(panels, thread, pool.threads()) {
                // SAFETY: panels lie side by side in `memory`, and each is written by one thread.
                #[allow(unsafe_code)]
                let out = unsafe { std::slice::from_raw_parts_mut(base.get().add(p * panel), panel) };
                for lane in 0..LANES.min(outputs - p * LANES) {
                    read(p * LANES + lane, &mut row);
                    write_lane(pool.isa(), kind, lane, &row, out);
                }
            }
        });
        Ok(Panels { memory, kind, outputs, inputs })
    }

    fn steps(&self) -> usize {
        steps(self.kind, self.inputs)
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.len()
    }

    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        let panel = &self.memory.bytes()[index / LANES * self.steps() * STEP..][..self.steps() * STEP];
        for (step, out) in out.chunks_mut(self.kind.width()).enumerate() {
            let at = step * STEP + index % LANES * 4;
            let dword = u32::from_le_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]]);
            match self.kind {
                Kind::F32 => out[0] = f32::from_bits(dword),
                Kind::Bf16 => {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = from_bf16((dword >> (16 * i)) as u16);
                    }
                }
            }
        }
    }

    pub(super) fn forward(&self, pool: &Pool, scratch: &mut Scratch, x: &[f32], rows: usize, y: &mut [f32]) {
        let isa = pool.isa();
        let columns_max = tile::columns(isa, self.kind);
        let blocks = rows.div_ceil(columns_max);
        let kind = tile::column(isa, self.kind);
        let dwords = self.steps() * self.kind.width() / kind.width();
        let apart = tile::apart(isa, self.kind, dwords);
        let block_bytes = lines(dwords * columns_max * 4);
        let columns = scratch.reserve(blocks * block_bytes);
        let part = |b: usize| share(rows, b, blocks);
        let pack = |b: usize| {
            // SAFETY: each block has its own lines, and is written by one thread before any reads it.
            #[allow(unsafe_code)]
            let out = unsafe {
                let at = columns.get().add(b * block_bytes).cast::<u32>();
                std::slice::from_raw_parts_mut(at, part(b).len() * dwords)
            };
            let x = &x[part(b).start * self.inputs..part(b).end * self.inputs];
            if apart == 0 {
                pack_columns(kind, x, part(b).len(), out);
            } else {
                x.chunks_exact(self.inputs)
                    .zip(out.chunks_exact_mut(apart))
                    .for_each(|(x, out)| pack_columns(kind, x, 1, out));
            }
        };
        if blocks == 1 {
            pack(0);
        } else {
            pool.deal(blocks, &|_, b| pack(b));
        }
        let y = Shared::new(y);
        pool.deal(self.outputs.div_ceil(LANES), &|_, p| {
            for b in 0..blocks {
                // SAFETY: the block was packed above, and only this thread writes the outputs of panel `p`.
                #[allow(unsafe_code)]
                unsafe {
                    let columns = columns.get().add(b * block_bytes).cast::<u32>();
                    self.multiply(isa, p, (columns, apart), part(b), y);
                }
            }
        });
    }

    /// Panel `p` times the packed columns of `rows`.
    ///
    /// # Safety
    /// `columns` holds those rows, `y` is `[.., outputs]`, and no other thread touches panel `p`'s part of it.
    #[allow(unsafe_code)]
    unsafe fn multiply(
        &self,
        isa: Isa,
        p: usize,
        (columns, apart): (*const u32, usize),
        rows: std::ops::Range<usize>,
        y: Shared<f32>,
    ) {
        let lanes = LANES.min(self.outputs - p * LANES);
        let mut ragged = [0.0f32; COLUMNS * LANES];
        // SAFETY: the panel lies inside `memory`, the rest is passed on to the caller.
        unsafe {
            let out = y.get().add(rows.start * self.outputs + p * LANES);
            let whole = lanes == LANES;
            let call = Call {
                panel: self.memory.bytes().as_ptr().add(p * self.steps() * STEP),
                steps: self.steps(),
                beside: 1,
                pitch: 0,
                shared: true,
                columns,
                apart,
                count: rows.len(),
                out: if whole { out } else { ragged.as_mut_ptr() },
                stride: if whole { self.outputs } else { LANES },
                keep: std::ptr::null(),
                next: std::ptr::null(),
            };
            tile::run(isa, self.kind, &call);
            if !whole {
                for c in 0..rows.len() {
                    std::ptr::copy_nonoverlapping(ragged.as_ptr().add(c * LANES), out.add(c * self.outputs), lanes);
                }
            }
        }
    }
}

versions! { fn write_lane(kind: Kind, lane: usize, row: &[f32], panel: &mut [u8]) = write_lane_body }

#[inline(always)]
fn write_lane_body(kind: Kind, lane: usize, row: &[f32], panel: &mut [u8]) {
    let steps = panel.as_chunks_mut::<STEP>().0.iter_mut();
    let write = |step: &mut [u8; STEP], dword: u32| step.as_chunks_mut::<4>().0[lane] = dword.to_le_bytes();
    match kind {
        Kind::F32 => steps.zip(row).for_each(|(step, value)| write(step, value.to_bits())),
        Kind::Bf16 => {
            for (step, values) in steps.zip(row.chunks(2)) {
                write(step, dword(kind, values));
            }
        }
    }
}

/// One lane of a step: an f32, or one or two bf16 with zero for the missing one.
#[inline(always)]
fn dword(kind: Kind, values: &[f32]) -> u32 {
    match kind {
        Kind::F32 => values[0].to_bits(),
        Kind::Bf16 => pair(values[0], *values.get(1).unwrap_or(&0.0)),
    }
}

/// Interleaves `count` rows: dword `number * count + column`, zeros beyond a row's end.
fn pack_columns(kind: Kind, x: &[f32], count: usize, out: &mut [u32]) {
    for (column, row) in x.chunks_exact(x.len() / count).enumerate() {
        let dwords = row.chunks(kind.width()).map(|values| dword(kind, values)).chain(std::iter::repeat(0));
        out.chunks_exact_mut(count).zip(dwords).for_each(|(out, dword)| out[column] = dword);
    }
}
