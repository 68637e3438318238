//! What becomes of a product's outputs while they are in cache: they are written, added to what is there, or gated.
//!
//! The affine kernels give the outputs of two tiles at a time; the numbers are those of the passes that would follow.

use crate::native::activation::{Activation, each_body};
use crate::native::cpu::versions;
use crate::native::elementwise::silu_row_body;
use crate::native::swiglu::clipped_row_body;

/// Outputs of two tiles.
pub(super) const WIDE: usize = 32;
/// Outputs of one.
const HALF: usize = WIDE / 2;

/// How a gate opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// silu(gate) * up.
    Silu,
    /// gelu(gate) * up, by the approximation with tanh.
    GeluTanh,
    /// As `swiglu_clipped`.
    Clipped,
}

/// What becomes of the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// They replace what is there.
    Write,
    /// They are added to it.
    Add,
    /// The first tile gates the second; one number replaces what is there.
    Gate(Gate),
}

versions! {
    /// Ends a row for each of `sums` at `out`, whose rows lie `stride` apart. The rows are valid, and nobody else touches
    /// their part.
    pub(super) fn finish(finish: Finish, sums: &[[f32; WIDE]], out: *mut f32, stride: usize) = finish_body
}

#[inline(always)]
#[allow(unsafe_code)]
fn finish_body(finish: Finish, sums: &[[f32; WIDE]], out: *mut f32, stride: usize) {
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's rows, of `WIDE` numbers, or half of that where they are gated.
        unsafe {
            let out = out.add(row * stride);
            match finish {
                Finish::Write => *out.cast::<[f32; WIDE]>() = *sums,
                Finish::Add => {
                    let out = &mut *out.cast::<[f32; WIDE]>();
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                }
                Finish::Gate(gate) => open(gate, sums, &mut *out.cast::<[f32; HALF]>()),
            }
        }
    }
}

#[inline(always)]
fn open(gate: Gate, sums: &[f32; WIDE], out: &mut [f32; HALF]) {
    let (gates, up) = sums.split_at(HALF);
    match gate {
        Gate::Silu => silu_row_body(gates, up, out),
        Gate::Clipped => clipped_row_body(gates, up, out),
        Gate::GeluTanh => {
            out.copy_from_slice(gates);
            each_body(Activation::GeluTanh, out);
            out.iter_mut().zip(up).for_each(|(out, up)| *out *= up);
        }
    }
}
