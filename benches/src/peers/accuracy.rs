//! What each side's fast path costs in accuracy, on one model file: its answers against this engine's in f32.
//!
//! Both read the same file, which becomes a folder without loss, and the same tokens. A peer tells how likely every token
//! is, not its logits, so both sides are compared by the logarithms of that, less their mean. `peers/run.sh accuracy-peers`
//! calls this.

use std::fs;

use engine::random::gguf::{Form, write_folder};
use engine::random::{Recipe, TOKENS};
use engine::{Keep, Precision};

use super::llama::Llama;
use crate::accuracy::{distance, log_softmax, logits, made_up};

/// Positions that are compared.
const POSITIONS: usize = 200;

/// Runs the measures.
pub fn run() {
    let llama = Llama::new();
    println!(
        "\n| random Qwen3, 8 layers of 1,024 | positions | drift here | with int8 keys and values | drift of llama.cpp |"
    );
    println!("|---|---|---|---|---|");
    let sizes =
        [("hidden_size", 1024), ("intermediate_size", 3072), ("num_hidden_layers", 8), ("num_attention_heads", 16)];
    let sizes = sizes.into_iter().chain([("num_key_value_heads", 8), ("head_dim", 128)]);
    let recipe = sizes.fold(Recipe::tiny("qwen3", 3), |recipe, (name, size)| recipe.set(name, size));
    let source = recipe.temporary().unwrap();
    for form in [Form::Q4_0, Form::Q4K, Form::Q8_0] {
        let folder = tempfile::tempdir().unwrap();
        let (file, dir) = (folder.path().join("model.gguf"), folder.path().join("imported"));
        write_folder(source.path(), &file, |_| form).unwrap();
        fs::create_dir(&dir).unwrap();
        engine::gguf::import(&file, &dir, &mut |_, _| {}).unwrap();
        let tokens = made_up(POSITIONS, TOKENS);
        let ours = |precision, keep| {
            logits(&dir, (precision, keep), &tokens).iter().map(|all| centred(&log_softmax(all))).collect::<Vec<_>>()
        };
        let exact = ours(Precision::Exact, Keep::F32);
        let theirs: Vec<_> = llama.likely(&file, &tokens, TOKENS).iter().map(|all| centred(all)).collect();
        let drift = |those: &[Vec<f32>]| {
            those.iter().zip(&exact).map(|(those, exact)| distance(those, exact)).sum::<f64>() / POSITIONS as f64
        };
        println!(
            "| {form:?} | {POSITIONS} | {:.2e} | {:.2e} | {:.2e} |",
            drift(&ours(Precision::Fast, Keep::Bf16)),
            drift(&ours(Precision::Fast, Keep::Int8)),
            drift(&theirs)
        );
    }
}

fn centred(all: &[f64]) -> Vec<f32> {
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    all.iter().map(|one| (one - mean) as f32).collect()
}
