//! `make bench-serving`: what clients feel, over HTTP, of this house and of llama-server, in turns, on one model shape.
//!
//! Every row is measured on the house, on the peer as it is by itself, and on the peer with 16 places, one after another in
//! each round; a cell is the median of the rounds. The goal is beside the better of the two peers. Prompts are made-up
//! tokens, different in each round and row. Run it with nothing else running: `peers/run.sh serving-peers [ROW…]`, or
//! `benches served [ROW…]` for this house alone.

mod sides;
mod stream;

use std::time::Instant;

use futures::future::join_all;

use crate::peers::llama::Llama;
use crate::sample::ms;
use sides::Side;
use stream::{Read, Server};

/// Rounds of a row; the slow ones have one.
const ROUNDS: u32 = 3;

/// Tokens of the prompts of a crowd, of its answers, and of the long prompt.
const SHORT: u32 = 100;
const ANSWER: u32 = 64;
const LONG: u32 = 2_000;

/// What a row measures.
#[derive(Clone, Copy)]
enum Work {
    /// So many streams at once: tokens a second of all.
    Rate(u32),
    /// So many streams at once: the median of the milliseconds to the first token.
    First(u32),
    /// A long prompt never seen.
    Cold,
    /// The same prompt again.
    Again,
    /// The same prompt and 50 tokens more.
    More,
    /// The same prompt after the model's process was another one.
    Restarted,
    /// The worst first token of four at once that share 1,950 tokens seen before.
    Shared,
    /// The longest gap of a stream while a long prompt arrives.
    Stall,
    /// Megabytes after all this.
    Memory,
}

/// A row of the table.
struct Line {
    name: &'static str,
    title: &'static str,
    work: Work,
    rounds: u32,
    goal: &'static str,
}

const fn line(name: &'static str, title: &'static str, work: Work, rounds: u32, goal: &'static str) -> Line {
    Line { name, title, work, rounds, goal }
}

const LINES: &[Line] = &[
    line("rate-1", "1 stream, 64 tokens after 100", Work::Rate(1), ROUNDS, "≥ 1.25×"),
    line("rate-4", "4 streams", Work::Rate(4), ROUNDS, "≥ 4×"),
    line("rate-16", "16 streams", Work::Rate(16), ROUNDS, "≥ 4×"),
    line("rate-64", "64 streams", Work::Rate(64), 1, "no error, not below 16 streams"),
    line("first-1", "first token, prompt of 100", Work::First(1), ROUNDS, "≤ 0.5×"),
    line("first-16", "first token, median of 16 streams", Work::First(16), ROUNDS, "≤ 0.25×"),
    line("cold", "first token, prompt of 2,000, cold", Work::Cold, ROUNDS, "≤ 0.35×"),
    line("again", "first token, the same 2,000 again", Work::Again, ROUNDS, "a decode step + 10 ms"),
    line("more", "first token, those and 50 more", Work::More, ROUNDS, "≤ 0.25×"),
    line("restarted", "first token, the same 2,000 after a restart", Work::Restarted, ROUNDS, "≤ 0.25× of cold"),
    line("shared", "worst first token of 4 that share 1,950", Work::Shared, ROUNDS, "< 500 ms"),
    line("stall", "longest gap of a stream while 2,000 arrive", Work::Stall, ROUNDS, "< 250 ms"),
    line("memory", "resident memory after that", Work::Memory, 1, "flat"),
];

/// Runs the rows whose names begin with one of `wanted`, or all; without a peer, on this house alone.
pub async fn run(wanted: &[String], peer: Option<Llama>) {
    let mut sides = vec![Side::ours().await];
    if let Some(llama) = &peer {
        sides.extend([Side::peer(llama, false), Side::peer(llama, true)]);
    }
    for side in &sides {
        side.server().ask(&prompt(1, 300), 8).await.unwrap();
    }
    println!("\n| over HTTP | Impetus | llama-server | llama-server -np 16 | beside its best | goal |");
    println!("|---|---|---|---|---|---|");
    let mut seed = 10;
    for line in LINES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| line.name.starts_with(wanted.as_str())) {
            continue;
        }
        let mut cells = [const { Vec::new() }; 3];
        let mut errors = [0; 3];
        for _ in 0..line.rounds {
            for ((side, cell), errors) in sides.iter().zip(&mut cells).zip(&mut errors) {
                seed += 100;
                match measure(side, line.work, seed).await {
                    Ok(figure) => cell.extend(figure),
                    Err(failed) => *errors += failed,
                }
            }
        }
        print(line, &cells, errors);
    }
}

fn print(line: &Line, cells: &[Vec<f64>; 3], errors: [usize; 3]) {
    let unit = match line.work {
        Work::Rate(_) => "tok/s",
        Work::Memory => "MB",
        _ => "ms",
    };
    let cell = |index: usize| match (median(&cells[index]), errors[index]) {
        (Some(figure), 0) => format!("{figure:.0} {unit}"),
        (_, 0) => "–".to_owned(),
        (_, failed) => format!("{failed} errors"),
    };
    let peers = [median(&cells[1]), median(&cells[2])].into_iter().flatten();
    let best = if matches!(line.work, Work::Rate(_)) { peers.reduce(f64::max) } else { peers.reduce(f64::min) };
    let ratio = median(&cells[0]).zip(best).map_or("–".to_owned(), |(ours, best)| format!("{:.2}×", ours / best));
    println!("| {} | {} | {} | {} | {ratio} | {} |", line.title, cell(0), cell(1), cell(2), line.goal);
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A made-up prompt.
fn prompt(seed: u32, length: u32) -> Vec<u32> {
    let token = |at: u32| at.wrapping_add(seed.wrapping_mul(40_503)).wrapping_mul(2_654_435_761) >> 16;
    (0..length).map(|at| 1_000 + token(at) % 60_000).collect()
}

/// One figure of a side, `None` where it has none, or how many requests failed.
async fn measure(side: &Side, work: Work, seed: u32) -> Result<Option<f64>, usize> {
    let server = side.server();
    let once = |read: Result<Read, String>| read.map(|read| Some(read.first)).map_err(failed);
    let long = prompt(seed, LONG);
    let with = |seed, count| long.iter().copied().chain(prompt(seed, count)).collect::<Vec<u32>>();
    match work {
        Work::Rate(streams) => crowd(server, streams, seed).await.map(|(rate, _)| Some(rate)),
        Work::First(streams) => crowd(server, streams, seed).await.map(|(_, first)| first),
        Work::Cold => once(server.ask(&long, 2).await),
        Work::Stall => stall(server, seed).await.map(Some),
        Work::Memory => Ok(Some(side.megabytes().await)),
        Work::Again | Work::More | Work::Restarted | Work::Shared => {
            server.ask(&long, 2).await.map_err(failed)?;
            match work {
                Work::Again => once(server.ask(&long, 2).await),
                Work::More => once(server.ask(&with(seed + 1, 50), 2).await),
                Work::Restarted if !side.restart().await => Ok(None),
                Work::Restarted => once(server.ask(&long, 2).await),
                _ => {
                    let asked: Vec<_> = (0..4)
                        .map(|index| {
                            let mut tokens = long[..1_950].to_vec();
                            tokens.extend(prompt(seed + 2 + index, 20));
                            tokens
                        })
                        .collect();
                    let firsts = all(join_all(asked.iter().map(|tokens| server.ask(tokens, 8))).await)?;
                    Ok(firsts.iter().map(|read| read.first).reduce(f64::max))
                }
            }
        }
    }
}

fn failed(error: String) -> usize {
    eprintln!("a request failed: {error}");
    1
}

/// All answers, or how many failed.
fn all(reads: Vec<Result<Read, String>>) -> Result<Vec<Read>, usize> {
    let (reads, errors): (Vec<_>, Vec<_>) = reads.into_iter().partition(Result::is_ok);
    let failures: usize = errors.into_iter().filter_map(Result::err).map(failed).sum();
    if failures > 0 { Err(failures) } else { Ok(reads.into_iter().flatten().collect()) }
}

/// So many streams at once: tokens a second, and the median time to the first token.
async fn crowd(server: &Server, streams: u32, seed: u32) -> Result<(f64, Option<f64>), usize> {
    let prompts: Vec<_> = (0..streams).map(|index| prompt(seed + index, SHORT)).collect();
    let start = Instant::now();
    let reads = all(join_all(prompts.iter().map(|prompt| server.ask(prompt, ANSWER))).await)?;
    let seconds = start.elapsed().as_secs_f64();
    let tokens: u32 = reads.iter().map(|read| read.tokens).sum();
    let firsts: Vec<f64> = reads.iter().map(|read| read.first).collect();
    Ok((f64::from(tokens) / seconds, median(&firsts)))
}

/// The longest gap of a running stream from before a long prompt is sent until after its first token.
async fn stall(server: &Server, seed: u32) -> Result<f64, usize> {
    let mut stream = server.begin(&prompt(seed, 60), 400).await.map_err(failed)?;
    stream.rest(30).await.map_err(failed)?;
    let long = prompt(seed + 1, LONG);
    let start = Instant::now();
    let mut longest = 0.0_f64;
    let other = server.ask(&long, 2);
    tokio::pin!(other);
    loop {
        tokio::select! {
            read = &mut other => {
                read.map_err(failed)?;
                // What it was being given when the other one came counts too.
                longest = longest.max(stream.rest(1).await.map_or(0.0, |read| read.gap));
                eprintln!("the long prompt was read in {:.0} ms", ms(start.elapsed()));
                return Ok(longest);
            }
            read = stream.rest(1) => match read {
                Ok(read) => longest = longest.max(read.gap),
                // The stream ended first: what follows can stall nobody.
                Err(_) => return other.await.map(|_| longest).map_err(failed),
            },
        }
    }
}
