//! Activation rows quantized to int8 and interleaved for the affine kernels.
//!
//! x is taken as scale * q with whole numbers q up to a limit, one scale per group of at most 64 inputs. Rows become the
//! *columns* of a block that one kernel call holds in registers. The sum that meets the weights' bias is that of the quantized
//! activations: with the sum of the originals the weights are no longer centred, and the error triples.
//!
//! The smallest groups are *fitted*, so that no more of their inputs is lost than in llama.cpp: of two limits they take the one
//! that leaves less of x out, and then the best scale for those q. That is 6 % less error of normally distributed inputs.
//!
//! Columns may be *paired*, for `affine`'s products of pairs: then inputs 8i..8i+4 lie 8 lower and 8i+4..8i+8 are raised to
//! 0..=240 by `PAIRED_LIMIT`, and each group knows what its own pairs give without any weights.

#[cfg(target_arch = "x86_64")]
mod x86;

use crate::native::Isa;
use crate::native::memory::lines;

/// Inputs per activation group at most.
pub(super) const GROUP_MAX: usize = 64;

/// Inputs of a group that is fitted, at most.
pub(super) const FITTED: usize = 32;

/// Inputs that are looked at together; groups are multiples of it.
const LANES: usize = 16;

/// The inputs of an activation group.
type Group<const V: usize> = [[f32; LANES]; V];

/// The limit of what may be paired: with a weight of 15 added, an input that is raised by as much still fits a byte.
pub(super) const PAIRED_LIMIT: i8 = 120;
/// By this an input that is not raised lies lower, so that a weight of 15 added to the limit fits a signed byte.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) const LOWERED: i8 = 8;

/// How a block of columns lies in memory.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub inputs: usize,
    /// Inputs per weight group.
    pub group: usize,
    /// Columns of a full block.
    pub columns_max: usize,
    /// The largest q.
    pub limit: i8,
}

/// How the inputs of a block's columns lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Side by side, as vectors of outputs meet one dword of each.
    Beside,
    /// So, and paired.
    Paired,
    /// Activation group after group, and in it column after column, as rows of a tile unit.
    Rows,
}

/// One block: `count` columns.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub count: usize,
    /// Dwords of four inputs: that of inputs 4s.. of column c is `s * count + c`, but for `Form::Rows`.
    pub q: *mut u32,
    /// That of activation group a is `a * count + c`.
    pub scale: *mut f32,
    /// Sum over weight group g of scale * q: `g * count + c`.
    pub sum: *mut f32,
    pub form: Form,
    /// Of paired columns, the sum over activation group a of what pairs of its inputs give, as stored: `a * count + c`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub pairs: *mut i32,
}

impl Layout {
    /// Inputs per activation group.
    pub(super) fn step(&self) -> usize {
        self.group.min(GROUP_MAX)
    }

    /// Activation groups per weight group: 1 or 2.
    pub(super) fn halves(&self) -> usize {
        self.group / self.step()
    }

    /// Bytes of one block, whole cache lines.
    pub(super) fn block_bytes(&self) -> usize {
        let words = 2 * self.inputs / self.step() + self.inputs / self.group;
        lines(self.columns_max * self.inputs) + lines(self.columns_max * words * 4)
    }

    /// The block of `count` columns at `base`; all but `Form::Beside` are for AVX-512.
    ///
    /// # Safety
    /// `base` is aligned to 4 and has `block_bytes` bytes.
    #[allow(unsafe_code)]
    pub(super) unsafe fn block(&self, base: *mut u8, count: usize, form: Form) -> Columns {
        let groups = self.inputs / self.step();
        // SAFETY: the four parts together are at most `block_bytes`.
        unsafe {
            let scale = base.add(lines(self.columns_max * self.inputs)).cast::<f32>();
            let pairs = scale.add(count * groups).cast::<i32>();
            Columns { count, q: base.cast(), scale, sum: pairs.add(count * groups).cast(), form, pairs }
        }
    }

    /// Quantizes `x`, `[columns.count, inputs]`.
    ///
    /// # Safety
    /// `columns` came from `block` of this layout, no other thread uses it, and this processor runs `isa`.
    #[allow(unsafe_code)]
    pub(super) unsafe fn quantize(&self, isa: Isa, x: &[f32], columns: Columns) {
        debug_assert_eq!(x.len(), columns.count * self.inputs);
        // SAFETY: passed on to the caller.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(_) => x86::avx512(self, x, columns),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(_) => x86::avx2(self, x, columns),
                _ => self.rows::<Portable>(x, columns),
            }
        }
    }

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn rows<S: Sums>(&self, x: &[f32], columns: Columns) {
        for (column, row) in x.chunks_exact(self.inputs).enumerate() {
            // SAFETY: passed on to the caller.
            unsafe {
                if self.step() == FITTED {
                    self.row::<S, { FITTED / LANES }>(row, columns, column);
                } else {
                    self.row::<S, { GROUP_MAX / LANES }>(row, columns, column);
                }
            }
        }
    }

    /// Quantizes one row, whose groups are `V` times as many inputs as are looked at together, as `column`.
    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn row<S: Sums, const V: usize>(&self, row: &[f32], columns: Columns, column: usize) {
        debug_assert_eq!((columns.form, V * LANES), (Form::Beside, self.step()), "other forms are for AVX-512");
        let halves = self.halves();
        let mut sum = 0.0;
        for (a, x) in row.as_chunks::<LANES>().0.as_chunks::<V>().0.iter().enumerate() {
            let mut q = [[0i8; LANES]; V];
            let (scale, total) = quantize_group::<S, V>(x, self.limit, &mut q);
            sum = if a % halves == 0 { scale * total as f32 } else { sum + scale * total as f32 };
            // SAFETY: all indices lie in the block; bytes of `q` make whole dwords.
            unsafe {
                for (s, dword) in q.as_flattened().chunks_exact(4).enumerate() {
                    let bytes = [dword[0] as u8, dword[1] as u8, dword[2] as u8, dword[3] as u8];
                    *columns.q.add((a * V * LANES / 4 + s) * columns.count + column) = u32::from_le_bytes(bytes);
                }
                *columns.scale.add(a * columns.count + column) = scale;
                *columns.sum.add(a / halves * columns.count + column) = sum;
            }
        }
    }
}

/// Quantizes one group; returns its scale and the sum of the integers. A group with a number that is none has no number for a
/// scale, so that none of its outputs is one: zero in its place would hide that weights are damaged.
#[inline(always)]
fn quantize_group<S: Sums, const V: usize>(x: &Group<V>, limit: i8, q: &mut [[i8; LANES]; V]) -> (f32, i32) {
    let magnitude = magnitude(x);
    let (scale, inverse) =
        if V * LANES <= FITTED { fitted::<S, V>(x, magnitude, limit) } else { scales(magnitude, limit) };
    let mut total = 0;
    for (q, x) in q.as_flattened_mut().iter_mut().zip(x.as_flattened()) {
        let integer = nearest(x * inverse);
        total = i32::wrapping_add(total, integer);
        *q = integer as i8;
    }
    (scale, total)
}

/// The largest absolute value, NaN above all: bits of what is not negative are in the order of its values. Lanes keep the loop
/// vectorisable.
#[inline(always)]
fn magnitude<const V: usize>(x: &Group<V>) -> f32 {
    let mut lanes = [0u32; LANES];
    for x in x {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = x.abs().to_bits().max(*lane);
        }
    }
    f32::from_bits(lanes.into_iter().fold(0, u32::max))
}

/// Scale and its inverse for a group; one too small to invert is taken as zero.
#[inline(always)]
fn scales(magnitude: f32, limit: i8) -> (f32, f32) {
    let limit = f32::from(limit);
    if magnitude <= 1e-30 { (0.0, 0.0) } else { (magnitude / limit, limit / magnitude) }
}

/// As `scales`, of `limit` or one less, with the scale that leaves least of x out.
#[inline(always)]
fn fitted<S: Sums, const V: usize>(x: &Group<V>, magnitude: f32, limit: i8) -> (f32, f32) {
    let (wide, narrow) = (tried::<S, V>(x, magnitude, limit), tried::<S, V>(x, magnitude, limit - 1));
    let better = narrow.taken * wide.squares > wide.taken * narrow.squares;
    let pick = |narrow, wide| std::hint::select_unpredictable(better, narrow, wide);
    (pick(narrow.scale, wide.scale), pick(narrow.inverse, wide.inverse))
}

/// What a limit gives with the scale that leaves least of x out: that is sum(x q) / sum(q q), and what it takes of the sum of
/// squares is sum(x q)^2 / sum(q q).
struct Tried {
    scale: f32,
    inverse: f32,
    /// sum(x q)^2, x in units of the magnitude.
    taken: f32,
    /// sum(q q).
    squares: f32,
}

#[inline(always)]
fn tried<S: Sums, const V: usize>(x: &Group<V>, magnitude: f32, limit: i8) -> Tried {
    let (scale, inverse) = scales(magnitude, limit);
    let (products, squares) = S::sums(x, inverse);
    let fit = if squares == 0.0 { 1.0 } else { products / squares };
    let length = products / f32::from(limit);
    Tried { scale: scale * fit, inverse, taken: length * length, squares }
}

/// What makes the sums of t q and of q q over a group, t being x * inverse and q the whole number next to it. Halves of the lanes
/// are added to each other, as vectors are, so that all instruction sets give the same bits.
trait Sums {
    fn sums<const V: usize>(x: &Group<V>, inverse: f32) -> (f32, f32);
}

/// The language's own loops.
struct Portable;

impl Sums for Portable {
    #[inline(always)]
    fn sums<const V: usize>(x: &Group<V>, inverse: f32) -> (f32, f32) {
        let (mut products, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
        for x in x {
            for lane in 0..LANES {
                let t = x[lane] * inverse;
                let q = nearest(t) as f32;
                products[lane] += t * q;
                squares[lane] += q * q;
            }
        }
        (sum(products), sum(squares))
    }
}

#[inline(always)]
fn sum(x: [f32; LANES]) -> f32 {
    let [a, b, c, d] = [0, 1, 2, 3].map(|lane| (x[lane] + x[lane + 8]) + (x[lane + 4] + x[lane + 12]));
    (a + c) + (b + d)
}

/// Rounds to nearest, ties to even, for values of int8 size: adding 1.5 * 2^23 leaves the integer in the low bits.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    (x + 12_582_912.0).to_bits().wrapping_sub(0x4b40_0000) as i32
}
