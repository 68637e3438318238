//! What the fast path costs in accuracy: int8 activations, and bf16 or int8 keys and values, against everything in f32.
//!
//! Both paths read the same tokens one by one; at every position their logits are compared. The text's perplexity under
//! either path says whether the difference matters; random weights have none worth naming.

use std::path::Path;

use engine::random::{Recipe, TOKENS};
use engine::text::{Special, Tokenizer};
use engine::{Keep, Model, Options, Precision, Row, Wanted};

use crate::shape::{recipe, threads};

/// The text for the trained model.
const TEXT: &str = include_str!("../../README.md");

/// Positions that are compared.
const POSITIONS: usize = 400;

/// The same with the large model, whose exact path reads 2.4 GB a token.
const POSITIONS_LARGE: usize = 32;

/// The head of the table.
pub const HEAD: &str =
    "| model | positions | mean drift of logits | mean KL divergence | same best token | perplexity, fast / exact |
|---|---|---|---|---|---|";

/// Runs the measures.
pub async fn run() {
    let home = tempfile::tempdir().unwrap();
    engine::bundled::install(home.path()).unwrap();
    let nano = home.path().join("impetus-nano");
    let mut tokens = Tokenizer::open(&nano).unwrap().encode(TEXT, Special::Plain).unwrap();
    tokens.truncate(POSITIONS);
    compare("impetus-nano, 8-bit, on the README", &nano, &tokens, true, Keep::Bf16);
    compare("the same with int8 keys and values", &nano, &tokens, true, Keep::Int8);
    for (name, recipe) in [
        ("random Qwen3, tiny, bf16", Recipe::tiny("qwen3", 3)),
        ("random Qwen3, tiny, 8-bit", Recipe::tiny("qwen3", 3).quantized(8, 64)),
        ("random Qwen3, tiny, 4-bit", Recipe::tiny("qwen3", 3).quantized(4, 64)),
    ] {
        let folder = recipe.temporary().unwrap();
        compare(name, folder.path(), &made_up(POSITIONS, TOKENS), false, Keep::Bf16);
    }
    let folder = Recipe::tiny("deepseek_v3", 3).quantized(8, 32).temporary().unwrap();
    for (name, keep) in
        [("random DeepSeek 3, tiny, 8-bit: one latent", Keep::Bf16), ("the same, int8 latent", Keep::Int8)]
    {
        compare(name, folder.path(), &made_up(POSITIONS, TOKENS), false, keep);
    }
    for bits in [8, 4] {
        let folder = recipe(bits).temporary().unwrap();
        let name = format!("random, Qwen3-0.6B's shape, {bits}-bit");
        compare(&name, folder.path(), &made_up(POSITIONS_LARGE, 151_936), false, Keep::Bf16);
        compare(
            "the same with int8 keys and values",
            folder.path(),
            &made_up(POSITIONS_LARGE, 151_936),
            false,
            Keep::Int8,
        );
    }
}

/// Some tokens of a vocabulary.
pub fn made_up(count: usize, vocabulary: u32) -> Vec<u32> {
    (0..count as u32).map(|index| (index * index * 7 + index * 131 + 11) % vocabulary).collect()
}

/// Sums over positions.
#[derive(Default)]
struct Sums {
    drift: f64,
    divergence: f64,
    same: usize,
    fast_bits: f64,
    exact_bits: f64,
}

fn compare(name: &str, folder: &Path, tokens: &[u32], trained: bool, keep: Keep) {
    let fast = logits(folder, (Precision::Fast, keep), tokens);
    let exact = logits(folder, (Precision::Exact, Keep::F32), tokens);
    let mut sums = Sums::default();
    for (at, (fast, exact)) in fast.iter().zip(&exact).enumerate() {
        let (p, q) = (log_softmax(exact), log_softmax(fast));
        sums.drift += distance(fast, exact);
        sums.divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        sums.same += usize::from(best(fast) == best(exact));
        if let Some(&next) = tokens.get(at + 1) {
            sums.exact_bits -= p[next as usize];
            sums.fast_bits -= q[next as usize];
        }
    }
    let count = fast.len() as f64;
    let perplexity = |sum: f64| (sum / (count - 1.0)).exp();
    println!(
        "| {name} | {count} | {:.1e} | {:.1e} | {} of {count} | {} |",
        sums.drift / count,
        sums.divergence / count,
        sums.same,
        if trained {
            format!("{:.3} / {:.3}", perplexity(sums.fast_bits), perplexity(sums.exact_bits))
        } else {
            String::new()
        },
    );
}

/// The logits after every token.
pub fn logits(folder: &Path, (precision, keep): (Precision, Keep), tokens: &[u32]) -> Vec<Vec<f32>> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(32) as u32).collect();
    let options = Options { threads: threads(), blocks: blocks.len() as u32, precision, keep };
    let mut model = Model::open(folder, &options, &mut |_, _| {}).unwrap();
    let mut all = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let row = Row { tokens: &[*token], start: at as u32, blocks: &blocks, logits: Wanted::Last };
        let mut logits = Vec::new();
        model.forward(&[row], &mut logits).unwrap();
        all.push(logits);
    }
    all
}

/// Relative L2 distance.
pub fn distance(left: &[f32], right: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let apart: f64 = left.iter().zip(right).map(|(l, r)| square(f64::from(l - r))).sum();
    (apart / right.iter().map(|r| square(f64::from(*r))).sum::<f64>()).sqrt()
}

/// The logarithm of how likely each token is.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - max) - sum.ln()).collect()
}

fn best(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&left, &right| logits[left].total_cmp(&logits[right]))
}
