//! The float kernel: 32 outputs times a few columns, with every accumulator in registers.
//!
//! Dense weights, keys and values share one layout, a *panel*: a sequence of steps, each 32 lanes of 4 bytes. A lane
//! holds one f32 (`Kind::F32`) or two consecutive bf16 inputs (`Kind::Bf16`). A column gives its inputs as f32, or as bf16
//! pairs where the processor multiplies those at once (`column`). Each output is summed in step order by itself, so nothing
//! depends on the number of columns.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::{Avx512, Isa, amx};

/// Outputs of one panel.
pub(super) const LANES: usize = 32;
/// Bytes of one step of a panel.
pub(super) const STEP: usize = LANES * 4;

/// What 4 bytes of a lane or of a column hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Two bf16 inputs; products are summed in f32.
    Bf16,
    /// One f32 input; multiplied and added with a rounding each, which is the same on every processor.
    F32,
}

impl Kind {
    /// Inputs in 4 bytes.
    pub(super) fn width(self) -> usize {
        match self {
            Kind::Bf16 => 2,
            Kind::F32 => 1,
        }
    }
}

/// One call: `count` columns against one panel, or against `beside` of them at once.
#[derive(Clone, Copy)]
pub(super) struct Call {
    /// The panel: `steps * STEP` bytes, aligned to a cache line.
    pub panel: *const u8,
    pub steps: usize,
    /// Panels, 1 or what `beside` said, and bytes from one to the next. When they share the columns, their outputs are 32 of
    /// each column after those of the panel before; else each has its own columns and outputs, which follow those of the
    /// panel before.
    pub beside: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub pitch: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub shared: bool,
    /// Dwords of the kind that `column` says; number i of column c is `i * count + c` if `apart` is 0, else `c * apart + i`:
    /// what the function `apart` says, or `APART`.
    pub columns: *const u32,
    pub apart: usize,
    pub count: usize,
    /// f32; that of column c and lane l is `c * stride + l`.
    pub out: *mut f32,
    pub stride: usize,
    /// One factor per column: the old output times it is added to. Null overwrites the output.
    pub keep: *const f32,
    /// Memory that will be read soon, as much as the panels hold, or null: it is fetched ahead as far as that is possible, in
    /// one run, which memory gives faster than several beside each other.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub next: *const u8,
}

/// Dwords between columns that lie apart for every instruction set: the probabilities of a block of tokens.
pub(super) const APART: usize = LANES;

/// Columns of a call at most.
pub(super) fn columns(isa: Isa, kind: Kind) -> usize {
    if unit(isa, kind) { amx::ROWS } else { isa.columns() }
}

/// How far columns of so many dwords lie apart where a call may choose: 0 where they lie between each other.
pub(super) fn apart(isa: Isa, kind: Kind, dwords: usize) -> usize {
    if unit(isa, kind) { dwords } else { 0 }
}

/// Whether a tile unit multiplies panels of `kind`.
fn unit(isa: Isa, kind: Kind) -> bool {
    isa == Isa::Avx512(Avx512::Amx) && kind == Kind::Bf16
}

/// What the columns for panels of `kind` hold.
pub(super) fn column(isa: Isa, kind: Kind) -> Kind {
    if matches!(isa, Isa::Avx512(Avx512::Amx | Avx512::Full | Avx512::Bf16)) { kind } else { Kind::F32 }
}

/// How many of `panels` to take at once for so many columns: a divisor of theirs. A sum waits long for the one before it in
/// the same register, so few columns need several panels to keep the multipliers busy.
pub(super) fn beside(isa: Isa, kind: Kind, columns: usize, panels: usize) -> usize {
    let most = match (isa, kind, columns) {
        (Isa::Avx512(Avx512::Amx), Kind::Bf16, _) => return panels,
        (Isa::Avx512(_), Kind::Bf16, 1 | 2) => 4,
        (Isa::Avx512(_), Kind::Bf16, 3 | 4) => 2,
        _ => 1,
    };
    [4, 2].into_iter().find(|count| *count <= most && panels.is_multiple_of(*count)).unwrap_or(1)
}

/// Runs `call`.
///
/// # Safety
/// The pointers are valid for the sizes that `Call` states, `count` is 1 to `isa.columns()`, no other thread writes
/// what is read or touches what is written, and this processor runs `isa`.
#[allow(unsafe_code)]
pub(super) unsafe fn run(isa: Isa, kind: Kind, call: &Call) {
    debug_assert!((1..=columns(isa, kind)).contains(&call.count));
    debug_assert!(unit(isa, kind) || call.apart == 0 || call.apart == APART && (call.beside == 1 || call.shared));
    debug_assert_eq!(call.beside, beside(isa, kind, call.count, call.beside), "as `beside` says");
    // SAFETY: passed on to the caller.
    unsafe {
        match (isa, kind) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512(Avx512::Amx), Kind::Bf16) => x86::tiled(call),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512(Avx512::Full | Avx512::Bf16), Kind::Bf16) => x86::bf16(call),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512(_), Kind::F32) => x86::avx512_f32(call),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512(Avx512::Vnni), Kind::Bf16) => x86::floats(call),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2(_), Kind::F32) => avx2::run::<false>(call),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2(_), Kind::Bf16) => avx2::run::<true>(call),
            (_, Kind::F32) => few::<false, false>(call),
            (_, Kind::Bf16) => few::<true, { cfg!(target_arch = "aarch64") }>(call),
        }
    }
}

/// Calls with at most 3 columns, for 16 or 32 narrow registers.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn few<const PAIRS: bool, const FUSED: bool>(call: &Call) {
    // SAFETY: passed on to the caller.
    unsafe {
        match call.count {
            1 => portable::<1, PAIRS, FUSED>(call),
            2 => portable::<2, PAIRS, FUSED>(call),
            _ => portable::<3, PAIRS, FUSED>(call),
        }
    }
}

/// a * b + c, with one rounding where `FUSED` and two otherwise.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The kernel in portable code, which compilers vectorise for whatever the enclosing function enables.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn portable<const C: usize, const PAIRS: bool, const FUSED: bool>(call: &Call) {
    let (step_apart, column_apart) = if call.apart == 0 { (C, 1) } else { (1, APART) };
    let mut sums = [[0.0f32; LANES]; C];
    // SAFETY: every address lies in the ranges that `Call` states.
    unsafe {
        if !call.keep.is_null() {
            for (c, sums) in sums.iter_mut().enumerate() {
                let old = &*call.out.add(c * call.stride).cast::<[f32; LANES]>();
                let factor = *call.keep.add(c);
                for l in 0..LANES {
                    sums[l] = old[l] * factor;
                }
            }
        }
        for s in 0..call.steps {
            let lanes = &*call.panel.add(s * STEP).cast::<[u32; LANES]>();
            for (c, sums) in sums.iter_mut().enumerate() {
                let x = |i: usize| f32::from_bits(*call.columns.add(i * step_apart + c * column_apart));
                for l in 0..LANES {
                    if PAIRS {
                        let (first, second) = (f32::from_bits(lanes[l] << 16), f32::from_bits(lanes[l] & 0xffff_0000));
                        let sum = multiply_add::<FUSED>(first, x(2 * s), sums[l]);
                        sums[l] = multiply_add::<FUSED>(second, x(2 * s + 1), sum);
                    } else {
                        sums[l] = multiply_add::<FUSED>(f32::from_bits(lanes[l]), x(s), sums[l]);
                    }
                }
            }
        }
        for (c, sums) in sums.iter().enumerate() {
            *call.out.add(c * call.stride).cast::<[f32; LANES]>() = *sums;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{APART, Call, LANES, STEP, portable};
    use crate::native::amx::{ROWS, Tiles};
    use std::arch::x86_64::*;

    /// One function per number of columns, 1 to 12.
    macro_rules! by_count {
        ($call:expr, $kernel:ident $(, $constant:literal)*) => {
            match $call.count {
                1 => $kernel::<1 $(, $constant)*>($call),
                2 => $kernel::<2 $(, $constant)*>($call),
                3 => $kernel::<3 $(, $constant)*>($call),
                4 => $kernel::<4 $(, $constant)*>($call),
                5 => $kernel::<5 $(, $constant)*>($call),
                6 => $kernel::<6 $(, $constant)*>($call),
                7 => $kernel::<7 $(, $constant)*>($call),
                8 => $kernel::<8 $(, $constant)*>($call),
                9 => $kernel::<9 $(, $constant)*>($call),
                10 => $kernel::<10 $(, $constant)*>($call),
                11 => $kernel::<11 $(, $constant)*>($call),
                _ => $kernel::<12 $(, $constant)*>($call),
            }
        };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
    pub(super) unsafe fn avx512_f32(call: &Call) {
        // SAFETY: passed on to the caller.
        unsafe { by_count!(call, portable, false, false) }
    }

    /// One function per number of columns, of panels and place of the columns.
    macro_rules! by_panels {
        ($call:expr, $kernel:ident, $($panels:literal of $count:literal)*) => {
            match ($call.beside, $call.count, $call.apart != 0) {
                $(($panels, $count, true) => $kernel::<$count, $panels, true>($call),)*
                $(($panels, $count, false) => $kernel::<$count, $panels, false>($call),)*
                (_, _, true) => by_count!($call, $kernel, 1, true),
                (_, _, false) => by_count!($call, $kernel, 1, false),
            }
        };
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn bf16(call: &Call) {
        // SAFETY: passed on to the caller.
        unsafe { by_panels!(call, dot, 4 of 1 4 of 2 2 of 1 2 of 2 2 of 3 2 of 4) }
    }

    /// Bf16 panels times columns of f32.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn floats(call: &Call) {
        // SAFETY: passed on to the caller.
        unsafe { by_panels!(call, fused, 4 of 1 4 of 2 2 of 1 2 of 2 2 of 3 2 of 4) }
    }

    /// `$name`: P bf16 panels of two vectors of 16 lanes times C columns, with 24 accumulators at most. `$open` makes of a vector
    /// of pairs what `$add` multiplies with the dwords of a column, from `$width` of them a step, and adds to a sum.
    macro_rules! kernel {
        ($(#[$note:meta])* $name:ident, $width:literal, $open:expr, $add:expr) => {
            $(#[$note])*
            unsafe fn $name<const C: usize, const P: usize, const LIE_APART: bool>(call: &Call) {
                // SAFETY: every address lies in the ranges that `Call` states.
                unsafe {
                    let out = |p: usize, c: usize| {
                        call.out.add(c * call.stride + p * if LIE_APART { LANES } else { C * call.stride })
                    };
                    let mut sums = [[[_mm512_setzero_ps(); 2]; C]; P];
                    if !call.keep.is_null() {
                        for (p, sums) in sums.iter_mut().enumerate() {
                            for (c, sums) in sums.iter_mut().enumerate() {
                                let factor = _mm512_set1_ps(*call.keep.add(c));
                                sums[0] = _mm512_mul_ps(_mm512_loadu_ps(out(p, c)), factor);
                                sums[1] = _mm512_mul_ps(_mm512_loadu_ps(out(p, c).add(16)), factor);
                            }
                        }
                    }
                    let (mut panel, mut columns) = (call.panel, call.columns);
                    let mut next = call.next;
                    for _ in 0..call.steps {
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let panel = panel.add(p * call.pitch);
                            // To the second cache: it takes more lines at a time than the first, and holds them until then.
                            // Without a next panel the hint names what is being read, which costs nothing.
                            let hint = if call.next.is_null() { panel } else { next };
                            _mm_prefetch::<_MM_HINT_T1>(hint.cast());
                            _mm_prefetch::<_MM_HINT_T1>(hint.wrapping_add(64).cast());
                            next = next.wrapping_add(STEP);
                            let first = $open(_mm512_load_si512(panel.cast()));
                            let second = $open(_mm512_load_si512(panel.add(64).cast()));
                            for (c, sums) in sums.iter_mut().enumerate() {
                                let at = if LIE_APART { c * APART } else { p * call.steps * $width * C + c };
                                let x = (columns.add(at), if LIE_APART { 1 } else { C });
                                sums[0] = $add(sums[0], first, x);
                                sums[1] = $add(sums[1], second, x);
                            }
                        }
                        panel = panel.add(STEP);
                        columns = columns.add($width * if LIE_APART { 1 } else { C });
                    }
                    for (p, sums) in sums.iter().enumerate() {
                        for (c, sums) in sums.iter().enumerate() {
                            _mm512_storeu_ps(out(p, c), sums[0]);
                            _mm512_storeu_ps(out(p, c).add(16), sums[1]);
                        }
                    }
                }
            }
        };
    }

    kernel! {
        /// Columns of pairs, by vdpbf16ps.
        #[target_feature(enable = "avx512f,avx512bf16")]
        dot, 1, pairs_of, add_pairs
    }

    kernel! {
        /// Columns of f32, by two multiplications: twice as fast where vdpbf16ps takes the time of four.
        #[target_feature(enable = "avx512f")]
        fused, 2, halves_of, add_halves
    }

    /// Bf16 panels times columns of pairs that lie apart, by the tile unit: 16 columns, 16 steps and half a panel at a time.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn tiled(call: &Call) {
        // SAFETY: every address lies in the ranges that `Call` states.
        unsafe {
            if !call.keep.is_null() {
                scale(call);
            }
            let tiles = Tiles::new(call.count, ROWS);
            // A product waits long for the one before it in the same tile, so two panels take turns.
            for p in (0..call.beside).step_by(2) {
                let two = p + 1 < call.beside;
                begin::<0>(&tiles, call, p);
                if two {
                    begin::<1>(&tiles, call, p + 1);
                }
                for step in (0..call.steps).step_by(ROWS) {
                    add::<0>(&tiles, call, p, step);
                    if two {
                        add::<1>(&tiles, call, p + 1, step);
                    }
                }
                tiles.store::<0>(out(call, p, 0), 4 * call.stride);
                if two {
                    tiles.store::<1>(out(call, p + 1, 0), 4 * call.stride);
                }
            }
        }
    }

    /// Takes what panel `p` adds to.
    #[inline(always)]
    unsafe fn begin<const PAIR: usize>(tiles: &Tiles, call: &Call, p: usize) {
        // SAFETY: passed on to the caller.
        unsafe {
            if call.keep.is_null() {
                tiles.clear::<PAIR>();
            } else {
                tiles.load::<PAIR>(out(call, p, 0), 4 * call.stride);
            }
        }
    }

    /// Adds the products of up to `ROWS` steps of panel `p` from `step` on.
    #[inline(always)]
    unsafe fn add<const PAIR: usize>(tiles: &Tiles, call: &Call, p: usize, step: usize) {
        // SAFETY: passed on to the caller; a prefetch may point anywhere.
        unsafe {
            let columns = call.columns.add(step + if call.shared { 0 } else { p * call.count * call.apart }).cast();
            let panel = call.panel.add(p * call.pitch + step * STEP);
            if !call.next.is_null() {
                let next = call.next.wrapping_add((p * call.steps + step) * STEP);
                for line in 0..ROWS * STEP / 64 {
                    _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(64 * line).cast());
                }
            }
            if call.steps - step >= ROWS {
                return tiles.pairs::<PAIR>(columns, 4 * call.apart, panel, STEP);
            }
            // What follows may be another's, and no number.
            let mut rest = Rest([0; ROWS * STEP]);
            rest.0.as_mut_ptr().copy_from_nonoverlapping(panel, (call.steps - step) * STEP);
            tiles.pairs::<PAIR>(columns, 4 * call.apart, rest.0.as_ptr(), STEP);
        }
    }

    /// The last steps of a panel, and zeros.
    #[repr(align(64))]
    struct Rest([u8; ROWS * STEP]);

    /// Makes the old outputs what they are worth.
    #[target_feature(enable = "avx512f")]
    unsafe fn scale(call: &Call) {
        for c in 0..call.count {
            // SAFETY: passed on to the caller.
            unsafe {
                let factor = *call.keep.add(c);
                if factor == 1.0 {
                    continue;
                }
                for half in 0..2 * call.beside {
                    let out = out(call, half / 2, c).add(16 * (half % 2));
                    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_loadu_ps(out), _mm512_set1_ps(factor)));
                }
            }
        }
    }

    /// The outputs of column `c` and panel `p`.
    #[inline(always)]
    unsafe fn out(call: &Call, p: usize, c: usize) -> *mut f32 {
        // SAFETY: passed on to the caller.
        unsafe { call.out.add(c * call.stride + p * if call.shared { LANES } else { call.count * call.stride }) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs_of(dwords: __m512i) -> __m512bh {
        // SAFETY: `__m512bh` is 64 bytes of bf16 pairs.
        unsafe { std::mem::transmute(dwords) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn add_pairs(sum: __m512, pairs: __m512bh, (at, _): (*const u32, usize)) -> __m512 {
        // SAFETY: passed on to the caller: a dword at `at`.
        _mm512_dpbf16_ps(sum, pairs, pairs_of(_mm512_set1_epi32(unsafe { *at } as i32)))
    }

    /// The first and the second of each pair, as f32.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn halves_of(dwords: __m512i) -> [__m512; 2] {
        let second = _mm512_and_si512(dwords, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(dwords)), _mm512_castsi512_ps(second)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_halves(sum: __m512, [first, second]: [__m512; 2], (at, apart): (*const u32, usize)) -> __m512 {
        // SAFETY: passed on to the caller: two f32, `apart` from each other.
        let (x, y) = unsafe { (_mm512_set1_ps(*at.cast()), _mm512_set1_ps(*at.add(apart).cast())) };
        _mm512_fmadd_ps(second, y, _mm512_fmadd_ps(first, x, sum))
    }
}
