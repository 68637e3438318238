//! The online softmax of one block: scores to probabilities, relative to the largest score so far.
//!
//! Scores count in powers of two (their scale includes log2 e). The sums of probabilities stay spread over 16 lanes
//! until the end, and are sums of the very probabilities that multiply the values, rounded where those are.

use super::Shape;
#[cfg(target_arch = "x86_64")]
use crate::native::Avx512;
use crate::native::Isa;
use crate::native::cpu::versions;
use crate::native::exponential::{exp, exp2};
use crate::native::kv::Keep;
use crate::native::tile::LANES;

/// Columns of an item, rounded up to a vector.
pub(super) const COLUMNS: usize = 16;

/// The running softmax of each column.
#[derive(Clone)]
pub(super) struct Running {
    /// Largest score so far.
    pub max: [f32; COLUMNS],
    /// Sum of 2^(score - max), in 16 parts.
    pub sum: [[f32; 16]; COLUMNS],
}

impl Running {
    pub(super) fn new() -> Running {
        Running { max: [f32::NEG_INFINITY; COLUMNS], sum: [[0.0; 16]; COLUMNS] }
    }
}

/// One block of scores on its way to probabilities.
pub(super) struct Block<'a> {
    pub shape: &'a Shape<'a>,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub keep: Keep,
    pub scores: &'a mut [[f32; LANES]],
    /// The probabilities in the form of a tile's columns.
    pub weights: &'a mut [[u32; LANES]],
    /// Tokens that each column sees, as bits.
    pub seen: &'a [u32; COLUMNS],
}

/// Computes the probabilities; returns what each column's sums before this block are worth now.
pub(super) fn softmax(isa: Isa, block: &mut Block<'_>, running: &mut Running) -> [f32; COLUMNS] {
    let mut keep = [0.0; COLUMNS];
    if let Some(cap) = block.shape.softcap {
        soften(isa, block.scores, block.shape.scale / cap, cap / block.shape.scale);
    }
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: a pool carries only what `Isa::available` has found on this processor.
        #[allow(unsafe_code)]
        match (isa, block.keep) {
            (Isa::Avx512(Avx512::Amx | Avx512::Full | Avx512::Bf16), Keep::Bf16) => {
                unsafe { x86::rounded(block, running, &mut keep) };
                return keep;
            }
            (Isa::Avx512(_), Keep::Bf16 | Keep::Int8) => {
                unsafe { x86::whole(block, running, &mut keep) };
                return keep;
            }
            _ => {}
        }
    }
    probabilities(isa, block, running, &mut keep);
    keep
}

versions! { fn soften(scores: &mut [[f32; LANES]], down: f32, up: f32) = soften_body }

/// score = up * tanh(down * score).
#[inline(always)]
fn soften_body(scores: &mut [[f32; LANES]], down: f32, up: f32) {
    for score in scores.as_flattened_mut() {
        *score = up * (1.0 - 2.0 / (exp(2.0 * down * *score) + 1.0));
    }
}

versions! { fn probabilities(block: &mut Block<'_>, running: &mut Running, keep: &mut [f32; COLUMNS]) = probabilities_body }

#[inline(always)]
fn probabilities_body(block: &mut Block<'_>, running: &mut Running, keep: &mut [f32; COLUMNS]) {
    let scale = block.shape.scale * std::f32::consts::LOG2_E;
    let before = running.max;
    for (column, scores) in block.scores.iter_mut().enumerate() {
        for score in scores.iter_mut() {
            *score *= scale;
        }
        let seen = block.seen[column];
        if seen != u32::MAX {
            for (token, score) in scores.iter_mut().enumerate() {
                *score = if seen >> token & 1 == 1 { *score } else { f32::NEG_INFINITY };
            }
        }
        let largest = largest(scores);
        running.max[column] = if largest > before[column] { largest } else { before[column] };
    }
    for column in 0..COLUMNS {
        keep[column] = exp2(before[column] - finite(running.max[column]));
    }
    for (column, (scores, weights)) in block.scores.iter_mut().zip(block.weights.iter_mut()).enumerate() {
        let max = finite(running.max[column]);
        for score in scores.iter_mut() {
            *score = exp2(*score - max);
        }
        *weights = scores.map(f32::to_bits);
        for (lane, sum) in running.sum[column].iter_mut().enumerate() {
            *sum = *sum * keep[column] + (scores[lane] + scores[lane + 16]);
        }
    }
}

/// Zero for -infinity, the maximum of nothing: 2^(-infinity - 0) is 0, where -infinity - -infinity is NaN.
#[inline(always)]
pub(super) fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// The largest of a block's numbers, halving the lanes: a fixed order that vectors keep.
#[inline(always)]
pub(super) fn largest(scores: &[f32; LANES]) -> f32 {
    let mut lanes = *scores;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i + half] > lanes[i] { lanes[i + half] } else { lanes[i] };
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::{Block, COLUMNS, Running, exp2, finite};
    use std::arch::x86_64::*;

    /// 2^f on -1/2..=1/2 to 3e-6, from degree 0 up: far below the rounding to bf16 that follows. Exact at 0.
    const POWER: [f32; 5] = [1.0, 0.693_124_2, 0.240_241, 0.055_906_44, 0.009_582_854];

    /// `probabilities` for bf16, two vectors to a column.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,fma")]
    pub(super) fn rounded(block: &mut Block<'_>, running: &mut Running, keep: &mut [f32; COLUMNS]) {
        largest(block, running, keep);
        let ones = _mm512_set1_epi32(0x3f80_3f80);
        for (column, (scores, weights)) in block.scores.iter().zip(block.weights.iter_mut()).enumerate() {
            let (low, high) = powers(scores, running.max[column]);
            let sum = running.sum[column].as_mut_ptr();
            // SAFETY: 16 dwords of weights are used, and the sum has 16 lanes; `__m512bh` is 64 bytes of bf16 pairs.
            unsafe {
                let both = _mm512_cvtne2ps_pbh(high, low);
                _mm512_storeu_si512(weights.as_mut_ptr().cast(), std::mem::transmute::<__m512bh, __m512i>(both));
                let old = _mm512_mul_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(keep[column]));
                let ones = std::mem::transmute::<__m512i, __m512bh>(ones);
                _mm512_storeu_ps(sum, _mm512_dpbf16_ps(old, both, ones));
            }
        }
    }

    /// The same in f32: for int8, whose weights are rounded later, and where floats are multiplied.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
    pub(super) fn whole(block: &mut Block<'_>, running: &mut Running, keep: &mut [f32; COLUMNS]) {
        largest(block, running, keep);
        for (column, (scores, weights)) in block.scores.iter().zip(block.weights.iter_mut()).enumerate() {
            let (low, high) = powers(scores, running.max[column]);
            let (sum, weights) = (running.sum[column].as_mut_ptr(), weights.as_mut_ptr().cast::<f32>());
            // SAFETY: a column has 32 weights, and the sum has 16 lanes.
            unsafe {
                _mm512_storeu_ps(weights, low);
                _mm512_storeu_ps(weights.add(16), high);
                let both = _mm512_add_ps(low, high);
                _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), _mm512_set1_ps(keep[column]), both));
            }
        }
    }

    /// 2^(score - max) of a column's scores.
    #[inline]
    #[target_feature(enable = "avx512f,fma")]
    fn powers(scores: &[f32; 32], max: f32) -> (__m512, __m512) {
        let max = _mm512_set1_ps(finite(max));
        // SAFETY: a column has 32 scores.
        let (low, high) = unsafe { (_mm512_loadu_ps(scores.as_ptr()), _mm512_loadu_ps(scores.as_ptr().add(16))) };
        (power(_mm512_sub_ps(low, max)), power(_mm512_sub_ps(high, max)))
    }

    /// Scales scores, hides those that are not seen, and raises each column's largest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
    fn largest(block: &mut Block<'_>, running: &mut Running, keep: &mut [f32; COLUMNS]) {
        let scale = _mm512_set1_ps(block.shape.scale * std::f32::consts::LOG2_E);
        let nothing = _mm512_set1_ps(f32::NEG_INFINITY);
        let before = running.max;
        for (column, scores) in block.scores.iter_mut().enumerate() {
            let seen = block.seen[column];
            let at = scores.as_mut_ptr();
            // SAFETY: a column has 32 scores.
            let (low, high) = unsafe { (_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(16))) };
            let low = _mm512_mask_mul_ps(nothing, seen as u16, low, scale);
            let high = _mm512_mask_mul_ps(nothing, (seen >> 16) as u16, high, scale);
            // SAFETY: as above.
            unsafe {
                _mm512_storeu_ps(at, low);
                _mm512_storeu_ps(at.add(16), high);
            }
            running.max[column] = _mm512_reduce_max_ps(_mm512_max_ps(low, high)).max(before[column]);
        }
        for column in 0..COLUMNS {
            keep[column] = exp2(before[column] - finite(running.max[column]));
        }
    }

    /// 2^x; 0 below -126, NaN for NaN.
    #[inline]
    #[target_feature(enable = "avx512f,fma")]
    fn power(x: __m512) -> __m512 {
        let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        let f = _mm512_sub_ps(x, n);
        let mut p = _mm512_set1_ps(POWER[4]);
        for c in [POWER[3], POWER[2], POWER[1], POWER[0]] {
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
        }
        let whole = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(-126.0));
        _mm512_maskz_scalef_ps(whole, p, n)
    }
}
