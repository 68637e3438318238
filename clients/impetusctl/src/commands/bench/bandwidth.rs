//! How fast the processor reads memory now: no token that reads every weight comes faster.
//!
//! All cores read a buffer far larger than their caches, front to back. It knows nothing of models.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use protocol::{Error, Result};

/// Bytes of the buffer, and the least that says anything about memory rather than caches.
const BYTES: u64 = 512 << 20;
const BYTES_MIN: u64 = 128 << 20;

/// Passes of which the fastest counts: the question is what the memory can do.
const PASSES: usize = 3;

/// Returns bytes per second; takes at most a quarter of what is available.
pub fn measure(available_bytes: u64) -> Result<f64> {
    let bytes = BYTES.min(available_bytes / 4);
    if bytes < BYTES_MIN {
        let message = format!("Measuring the memory needs {} MB to spare, and there are not.", BYTES_MIN >> 18);
        return Err(Error::new(protocol::ErrorKind::NoMemory, message).hint("Close something, or unload a model."));
    }
    let words = vec![1u64; bytes as usize / 8];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let best = (0..PASSES).map(|_| pass(&words, threads)).fold(f64::INFINITY, f64::min);
    Ok(words.len() as f64 * 8.0 / best)
}

/// Seconds from the moment when all threads run to the end of the last.
fn pass(words: &[u64], threads: usize) -> f64 {
    let barrier = &Barrier::new(words.chunks(words.len().div_ceil(threads)).len());
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let read = |part| {
            scope.spawn(move || {
                barrier.wait();
                let start = Instant::now();
                black_box(sum(part));
                (start, Instant::now())
            })
        };
        let readers: Vec<_> = words.chunks(words.len().div_ceil(threads)).map(read).collect();
        readers.into_iter().map(|reader| reader.join().expect("adding numbers does not panic")).collect()
    });
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    start.zip(end).map_or(f64::INFINITY, |(start, end)| (end - start).as_secs_f64())
}

/// Adds all words, in as many sums as hide the latency of adding.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    for line in words.as_chunks::<16>().0 {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
