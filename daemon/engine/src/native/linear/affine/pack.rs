//! Repacking of one checkpoint row into its lane of a tile.

use super::{Affine, Format, ROWS};
use crate::native::cpu::versions;
use crate::native::{Dtype, to_bf16};

/// Words that are rearranged together: one vector, and a part of every group.
const WORDS: usize = 4;

versions! {
    /// Writes row `row` of `part` as lane `lane` of `tile`.
    pub(super) fn lane(format: &Format, part: &Affine<'_>, row: usize, lane: usize, tile: &mut [u8]) = lane_body
}

#[inline(always)]
fn lane_body(format: &Format, part: &Affine<'_>, row: usize, lane: usize, tile: &mut [u8]) {
    let widened;
    let words = if part.bits as usize == format.bits && part.dtype != Dtype::E8m0 {
        part.words(row)
    } else {
        widened = part.widened(row, format.bits);
        &widened
    };
    let words = words.as_chunks::<4>().0.as_chunks::<WORDS>().0;
    let per_group = format.group * format.bits / 32 / WORDS;
    let groups = words.chunks_exact(per_group).zip(tile.chunks_exact_mut(format.group_bytes()));
    for (g, (words, out)) in groups.enumerate() {
        let (weights, pairs) = out.split_at_mut(format.weight_bytes());
        for (lines, words) in weights.as_chunks_mut::<{ 64 * WORDS }>().0.iter_mut().zip(words) {
            let words = words.map(u32::from_le_bytes);
            let words = if format.bits == 4 { words.map(interleave) } else { words };
            for (line, word) in lines.as_chunks_mut::<64>().0.iter_mut().zip(words) {
                line.as_chunks_mut::<4>().0[lane] = word.to_le_bytes();
            }
        }
        let (scale, bias) = part.pair(row, g);
        for (i, value) in [(lane, scale), (ROWS + lane, bias)] {
            if format.narrow {
                pairs[2 * i..2 * i + 2].copy_from_slice(&to_bf16(value).to_le_bytes());
            } else {
                pairs[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}

/// Eight 4-bit weights in order become bytes of inputs i (low half) and 4 + i (high half).
#[inline(always)]
fn interleave(word: u32) -> u32 {
    spread(word & 0xffff) | spread(word >> 16) << 4
}

/// Four nibbles become the low halves of four bytes.
#[inline(always)]
fn spread(nibbles: u32) -> u32 {
    let pairs = (nibbles | nibbles << 8) & 0x00ff_00ff;
    (pairs | pairs << 4) & 0x0f0f_0f0f
}
