//! How fast this machine reads memory now: what bounds every token that is decoded.
//!
//! Each thread reads its own part of a buffer far larger than any cache, front to back, as the kernels read packed
//! weights. On shared machines the figure moves within minutes, so the benches measure it beside every claim; nothing
//! else calls it.

use super::Pool;
use super::ShapeError;
use super::cpu::versions;
use super::memory::{LINE, Memory, share};
use std::hint::black_box;
use std::time::Instant;

/// Bytes that all threads read together: many times the last cache.
const BYTES: usize = 1 << 30;
/// Passes of which the fastest counts: the question is what the memory can do.
const PASSES: usize = 3;

/// A buffer to read.
pub struct Bandwidth {
    memory: Memory,
}

impl Bandwidth {
    /// Takes the memory, and touches it.
    pub fn new(pool: &Pool) -> Result<Bandwidth, ShapeError> {
        let mut memory = Memory::zeroed(BYTES)?;
        memory.bytes_mut().fill(1);
        let probe = Bandwidth { memory };
        probe.measure(pool);
        Ok(probe)
    }

    /// Reads the buffer with every thread of the pool, and returns bytes per second.
    pub fn measure(&self, pool: &Pool) -> f64 {
        let lines = self.memory.bytes().as_chunks::<LINE>().0;
        let pass = || {
            let start = Instant::now();
            pool.run(&|thread| {
                let mut sums = [0; LINE];
                add_up(pool.isa(), &lines[share(lines.len(), thread, pool.threads())], &mut sums);
                black_box(sums);
            });
            start.elapsed().as_secs_f64()
        };
        BYTES as f64 / (0..PASSES).map(|_| pass()).fold(f64::INFINITY, f64::min)
    }
}

versions! { fn add_up(lines: &[[u8; LINE]], sums: &mut [u8; LINE]) = add_up_body }

#[inline(always)]
fn add_up_body(lines: &[[u8; LINE]], sums: &mut [u8; LINE]) {
    let mut both = [[0u8; LINE]; 2];
    for pair in lines.as_chunks::<2>().0 {
        for (sums, line) in both.iter_mut().zip(pair) {
            for (sum, byte) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(*byte);
            }
        }
    }
    for (sum, (first, second)) in sums.iter_mut().zip(both[0].iter().zip(&both[1])) {
        *sum = first.wrapping_add(*second);
    }
}
