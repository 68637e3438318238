//! Every parser of bytes from outside, as functions that any bytes may be thrown at: they return, in
//! bounded memory and time, or the parser has a fault.
//!
//! `make fuzz` throws mutations (`examples/mutate.rs`); `make test` throws `corpus`, which keeps an example of each kind
//! of input and whatever once found a fault. No product code calls this.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bodies;
mod folder;
mod output;
mod text;
mod watch;
mod wire;

use std::fs;
use std::path::Path;

pub use watch::Watch;

/// A target: its name, what it does with bytes, and bytes to begin with beside those in `corpus`.
pub struct Target {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'static str,
    /// What it does with bytes.
    pub run: fn(&[u8]),
    /// Makes more bytes to begin with: what is too large to be kept.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", run: wire::socket, seeds: wire::frames },
    Target { name: "pipe", run: wire::pipe, seeds: wire::messages },
    Target { name: "bodies", run: bodies::read, seeds: none },
    Target { name: "forms", run: bodies::form, seeds: none },
    Target { name: "messages", run: bodies::message, seeds: none },
    Target { name: "heads", run: bodies::head, seeds: none },
    Target { name: "settings", run: bodies::settings, seeds: bodies::defaults },
    Target { name: "config", run: folder::config, seeds: folder::config_seeds },
    Target { name: "safetensors", run: folder::safetensors, seeds: folder::safetensors_seeds },
    Target { name: "index", run: folder::index, seeds: none },
    Target { name: "tokenizer", run: folder::tokenizer, seeds: folder::tokenizer_seeds },
    Target { name: "gguf", run: folder::gguf, seeds: folder::gguf_seeds },
    Target { name: "template", run: text::template, seeds: text::templates },
    Target { name: "grammar", run: text::grammar, seeds: none },
    Target { name: "output", run: output::read, seeds: none },
];

/// Returns the files of a folder of this repository, as bytes to begin with.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Parts the first byte from the rest: it chooses among the kinds of one target.
fn choice(bytes: &[u8]) -> (usize, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (usize::from(*first), rest))
}
