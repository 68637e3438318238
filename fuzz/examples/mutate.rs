//! `make fuzz`: mutations of the corpus are thrown at every target, or at those named, each for some seconds.
//!
//! `mutate SECONDS SEED [TARGET…]`; the same seed makes the same inputs. The input under way lies in `fuzz/found`, so that
//! one that ends the program is there too, as does one that takes too much memory or does not come to an end; one that
//! only panics or is slow is kept beside it. A run that found nothing leaves nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target, Watch};

/// The longest input that mutations make.
const BYTES_MAX: usize = 1 << 20;

/// An input that takes longer is a fault too.
const PATIENCE: Duration = Duration::from_secs(10);

/// What parsers stumble over.
const WORDS: [&[u8]; 20] = [
    b"",
    b"0",
    b"-1",
    b"1e309",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967295",
    b"2147483648",
    b"null",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x80",
    b"\xf0\x9f\x98\x80",
    b"\xc3",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what: &str| -> u64 {
        arguments
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("mutate SECONDS SEED [TARGET…]: no {what}"))
    };
    let (seconds, seed) = (number("SECONDS"), number("SEED"));
    let wanted: Vec<String> = arguments.collect();
    let watch = Watch::start();
    let mut faults = 0;
    for target in TARGETS.iter().filter(|target| wanted.is_empty() || wanted.iter().any(|name| name == target.name)) {
        let (runs, found) = throw(target, Duration::from_secs(seconds), Random(seed), &watch);
        println!("{:<12} {runs} inputs, {found} faults", target.name);
        faults += found;
    }
    assert!(faults == 0, "{faults} faults: see fuzz/found");
}

/// Throws mutations at one target; returns how many, and how many faults they found.
fn throw(target: &Target, time: Duration, mut random: Random, watch: &Watch) -> (u64, u64) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = fs::read_dir(root.join("corpus").join(target.name));
    let files: Vec<PathBuf> = corpus.map(|files| files.map(|file| file.unwrap().path()).collect()).unwrap_or_default();
    let mut inputs = (target.seeds)();
    inputs.extend(files.iter().map(|file| fs::read(file).unwrap()));
    let found = root.join("found").join(target.name);
    fs::create_dir_all(&found).unwrap();
    let current = found.join("current");
    let (start, mut runs, mut faults) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        let input = random.mutation(&inputs);
        fs::write(&current, &input).unwrap();
        let began = Instant::now();
        let panicked = watch.during(target.name, || catch_unwind(|| (target.run)(&input)).is_err());
        if panicked || began.elapsed() > PATIENCE {
            faults += 1;
            fs::write(found.join(format!("{}-{runs}", if panicked { "panic" } else { "slow" })), &input).unwrap();
        }
        runs += 1;
    }
    fs::remove_file(current).unwrap();
    // What was found stays.
    let _ = fs::remove_dir(found).and_then(|()| fs::remove_dir(root.join("found")));
    (runs, faults)
}

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// Changes one of the inputs in a few places.
    fn mutation(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            let end = (at + 1 + self.below(16)).min(input.len());
            match self.below(7) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = self.below(256) as u8,
                2 => drop(input.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
                3 if at < end => drop(input.splice(at..end, WORDS[self.below(WORDS.len())].iter().copied())),
                4 if at < end => drop(input.drain(at..end)),
                5 if at < end => {
                    let again = input[at..end].repeat(1 + self.below(40));
                    drop(input.splice(at..at, again));
                }
                6 => {
                    let other = &inputs[self.below(inputs.len())];
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(64)).min(other.len());
                    drop(input.splice(at..at, other[from..to].iter().copied()));
                }
                _ => {}
            }
        }
        if self.below(16) == 0 {
            input.truncate(self.below(input.len() + 1));
        }
        input.truncate(BYTES_MAX);
        input
    }
}
