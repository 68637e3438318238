//! `make bench`: measures the house and prints the tables of BENCHMARKS.md.
//!
//! Every figure is a median over runs of this very build, made by the programs that users run. Nothing here asserts.
//! `benches NAME …` runs some of the measures; without names all run. `benches peers …` is `make bench-peers`,
//! `benches serving-peers …` is `make bench-serving`; `benches served …` is that without the peer.

#![allow(clippy::unwrap_used, clippy::panic)]

mod accuracy;
mod attention;
mod daemon;
mod draws;
mod embed;
mod grammars;
mod guesses;
mod hops;
mod load;
mod model;
mod peers;
mod sample;
mod served;
mod serving;
mod shape;
mod streams;
mod text;
mod weights;

use std::future::Future;
use std::pin::Pin;

use peers::llama::Llama;

/// Its name, the head of its table, and what runs it.
type Measure = (&'static str, &'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

const MEASURES: &[Measure] = &[
    ("daemon", sample::HEAD, || Box::pin(daemon::run())),
    ("hops", sample::HEAD, || Box::pin(hops::run())),
    ("weights", sample::HEAD, || Box::pin(weights::run())),
    ("attention", sample::HEAD, || Box::pin(attention::run())),
    ("accuracy", accuracy::HEAD, || Box::pin(accuracy::run())),
    ("model", sample::HEAD, || Box::pin(model::run())),
    ("embed", sample::HEAD, || Box::pin(embed::run())),
    ("serving", sample::HEAD, || Box::pin(serving::run())),
    ("beside", sample::HEAD, || Box::pin(serving::beside())),
    ("guesses", sample::HEAD, || Box::pin(guesses::run())),
    ("text", sample::HEAD, || Box::pin(text::run())),
    ("draws", sample::HEAD, || Box::pin(draws::run())),
    ("grammars", sample::HEAD, || Box::pin(grammars::run())),
    ("streams", sample::HEAD, || Box::pin(streams::run())),
    ("load", sample::HEAD, || Box::pin(load::run())),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(("peers", rows)) = wanted.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return runtime.block_on(peers::run(rows));
    }
    if let Some(("serving-peers", rows)) = wanted.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return runtime.block_on(served::run(rows, Some(Llama::new())));
    }
    if wanted.first().is_some_and(|first| first == "accuracy-peers") {
        return peers::accuracy::run();
    }
    if let Some(("served", rows)) = wanted.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return runtime.block_on(served::run(rows, None));
    }
    for (name, head, measure) in MEASURES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n## {name}\n\n{head}");
            runtime.block_on(measure());
        }
    }
}
