//! `make bench-peers`: this engine and llama.cpp on the same work in one run, both with random weights of one shape.
//!
//! Each round measures how fast memory is read, then the peer, then this house (in the next round the other way
//! round); a row shows the medians, and the median and the spread of the rounds' own ratios. The peer is what its own
//! programs report; `peers/setup.sh` builds them. Run it with nothing else running.

pub mod accuracy;
mod gguf;
mod letters;
pub mod llama;
pub mod ours;

use engine::Keep;
use engine::native::{Bandwidth, Pool};

use crate::shape::threads;
use llama::Llama;
use ours::Ours;

/// Rounds of a row.
const ROUNDS: usize = 5;

/// Steps of a decode figure.
const STEPS: u32 = 32;

/// Room for this many tokens when the memory of a ready server is taken.
const ROOM: &str = "8192";

/// What is done.
#[derive(Clone, Copy)]
pub enum Work {
    /// Reads a prompt.
    Prefill { tokens: u32 },
    /// Decodes one stream from this context on.
    Decode { context: u32 },
    /// Decodes so many streams with prompts of 128 tokens at once.
    Streams { count: u32 },
    /// Turns one text into a vector.
    Embed { tokens: u32 },
    /// Starts the service; seconds until the model can be asked.
    Ready,
    /// Starts the service; megabytes it then holds.
    Memory,
}

/// A row of the table.
pub struct Line {
    name: &'static str,
    title: &'static str,
    bits: u32,
    /// How this house keeps keys and values.
    keep: Keep,
    work: Work,
    /// How many times as good as the peer the house means to be.
    goal: f64,
}

const fn line(name: &'static str, title: &'static str, bits: u32, work: Work, goal: f64) -> Line {
    Line { name, title, bits, keep: Keep::Bf16, work, goal }
}

impl Line {
    /// The same with keys and values in int8 on this side.
    const fn int8(self) -> Line {
        Line { keep: Keep::Int8, ..self }
    }
}

const LINES: &[Line] = &[
    line("prefill-512", "prefill, 512 tokens", 4, Work::Prefill { tokens: 512 }, 3.0),
    line("prefill-2000", "prefill, 2,000 tokens", 4, Work::Prefill { tokens: 2000 }, 3.5),
    line("decode-0", "decode, empty context", 4, Work::Decode { context: 0 }, 1.3),
    line("decode-2000", "decode at a context of 2,000", 4, Work::Decode { context: 2000 }, 2.8),
    line("streams-4", "decode, 4 streams together", 4, Work::Streams { count: 4 }, 4.5),
    line("streams-8", "decode, 8 streams together", 4, Work::Streams { count: 8 }, 5.5),
    line("streams-16", "decode, 16 streams together", 4, Work::Streams { count: 16 }, 4.5),
    line("int8-decode-2000", "int8 keys: decode at a context of 2,000", 4, Work::Decode { context: 2000 }, 2.8).int8(),
    line("int8-streams-16", "int8 keys: decode, 16 streams together", 4, Work::Streams { count: 16 }, 4.5).int8(),
    line("wide-prefill-512", "8-bit: prefill, 512 tokens", 8, Work::Prefill { tokens: 512 }, 2.5),
    line("wide-decode-0", "8-bit: decode, empty context", 8, Work::Decode { context: 0 }, 1.3),
    line("embed-512", "embed one text of 512 tokens, ours 4-bit", 4, Work::Embed { tokens: 512 }, 2.5),
    line("embed-128", "embed one text of 128 tokens, ours 4-bit", 4, Work::Embed { tokens: 128 }, 2.5),
    line("wide-embed-512", "the same, ours 8-bit, 512 tokens", 8, Work::Embed { tokens: 512 }, 2.5),
    line("wide-embed-128", "the same, ours 8-bit, 128 tokens", 8, Work::Embed { tokens: 128 }, 2.5),
    line("plain-embed-512", "the same, ours bf16, 512 tokens", 16, Work::Embed { tokens: 512 }, 2.5),
    line("plain-embed-128", "the same, ours bf16, 128 tokens", 16, Work::Embed { tokens: 128 }, 2.5),
    line("ready", "service start to model ready, page cache warm", 4, Work::Ready, 2.6),
    line("memory", "resident when ready, room for 8,192 tokens", 4, Work::Memory, 2.2),
];

impl Work {
    fn unit(self) -> &'static str {
        match self {
            Work::Ready => "s",
            Work::Memory => "MB",
            _ => "tok/s",
        }
    }

    /// How many times as good `ours` is as `theirs`.
    fn ratio(self, ours: f64, theirs: f64) -> f64 {
        if matches!(self, Work::Ready | Work::Memory) { theirs / ours } else { ours / theirs }
    }
}

/// Runs the rows whose names begin with one of `wanted`, or all.
pub async fn run(wanted: &[String]) {
    let llama = Llama::new();
    let pool = Pool::new(threads());
    let memory = Bandwidth::new(&pool).unwrap();
    let mut ours = Ours::default();
    println!(
        "\n| work | llama.cpp | Impetus | ratio (spread) | goal | memory read | share of it |\n|---|---|---|---|---|---|---|"
    );
    for line in LINES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| line.name.starts_with(wanted.as_str())) {
            continue;
        }
        let mut rounds = Rounds::default();
        for round in 0..ROUNDS {
            rounds.read.push(memory.measure(&pool) / 1e9);
            if round % 2 == 0 {
                rounds.theirs.push(llama.measure(line));
                rounds.ours.push(ours.measure(line).await);
            } else {
                rounds.ours.push(ours.measure(line).await);
                rounds.theirs.push(llama.measure(line));
            }
        }
        rounds.print(line, ours.bytes(line));
    }
}

/// The samples of one row.
#[derive(Default)]
struct Rounds {
    read: Vec<f64>,
    theirs: Vec<f64>,
    ours: Vec<f64>,
}

impl Rounds {
    /// Prints the row; `bytes` is what one token of decoding must read.
    fn print(&self, line: &Line, bytes: Option<f64>) {
        let pairs = self.ours.iter().zip(&self.theirs);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| line.work.ratio(*ours, *theirs)).collect();
        let (least, most) =
            (ratios.iter().copied().fold(f64::INFINITY, f64::min), ratios.iter().copied().fold(0.0, f64::max));
        let shares = self.ours.iter().zip(&self.read).map(|(rate, read)| rate / read).collect::<Vec<_>>();
        let share = bytes.map_or(String::new(), |bytes| format!("{:.0} %", median(&shares) * bytes / 1e9 * 100.0));
        let digits = if matches!(line.work, Work::Ready) { 2 } else { 0 };
        println!(
            "| {} | {:.digits$} {unit} | {:.digits$} {unit} | {:.2}× ({least:.2}–{most:.2}) | {}× | {:.0} GB/s | {share} |",
            line.title,
            median(&self.theirs),
            median(&self.ours),
            median(&ratios),
            line.goal,
            median(&self.read),
            unit = line.work.unit(),
        );
    }
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
