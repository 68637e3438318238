//! What each side's fast path costs in accuracy, on some model files: its answers against this engine's in f32.
//!
//! Both read the same file each time, which becomes a folder without loss, and the same tokens. A peer tells how likely every token
//! is, not its logits, so both sides are compared by the logarithms of that, less their mean. `peers/run.sh accuracy-peers`
//! calls this.

use std::fs;

use engine::random::gguf::{Form, write_folder};
use engine::random::{Recipe, TOKENS};
use engine::{Keep, Precision};

use super::llama::Llama;
use crate::accuracy::{distance, log_softmax, logits, made_up};

/// Positions that are compared, in each of so many random models: one alone tells no hundredth parts, as the last bit of any
/// number decides how others are rounded.
const POSITIONS: usize = 200;
const MODELS: u64 = 6;

/// Mean distances from the answers in f32.
struct Drift {
    here: f64,
    with_int8: f64,
    of_peer: f64,
}

/// Runs the measures.
pub fn run() {
    let llama = Llama::new();
    println!(
        "\n| {MODELS} random Qwen3, 8 layers of 1,024 | positions | drift here | with int8 keys and values | drift of llama.cpp | beside it |"
    );
    println!("|---|---|---|---|---|---|");
    for form in [Form::Q4_0, Form::Q4K, Form::Q8_0] {
        let drifts: Vec<Drift> = (1..=MODELS).map(|seed| drift(&llama, form, seed)).collect();
        let mean = |of: fn(&Drift) -> f64| drifts.iter().map(of).sum::<f64>() / MODELS as f64;
        let (here, with_int8, of_peer) = (mean(|all| all.here), mean(|all| all.with_int8), mean(|all| all.of_peer));
        let (least, most) = drifts
            .iter()
            .map(|all| all.here / all.of_peer)
            .fold((f64::MAX, 0.0), |(least, most), one| (f64::min(least, one), f64::max(most, one)));
        println!(
            "| {form:?} | {} | {here:.2e} | {with_int8:.2e} | {of_peer:.2e} | {:.3}× ({least:.2}–{most:.2}) |",
            POSITIONS * MODELS as usize,
            here / of_peer
        );
    }
}

/// The drifts with one model, every matrix in `form`.
fn drift(llama: &Llama, form: Form, seed: u64) -> Drift {
    let sizes =
        [("hidden_size", 1024), ("intermediate_size", 3072), ("num_hidden_layers", 8), ("num_attention_heads", 16)];
    let sizes = sizes.into_iter().chain([("num_key_value_heads", 8), ("head_dim", 128)]);
    let recipe = sizes.fold(Recipe::tiny("qwen3", seed), |recipe, (name, size)| recipe.set(name, size));
    let (source, folder) = (recipe.temporary().unwrap(), tempfile::tempdir().unwrap());
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
    let mean = |those: &[Vec<f32>]| {
        those.iter().zip(&exact).map(|(those, exact)| distance(those, exact)).sum::<f64>() / POSITIONS as f64
    };
    Drift {
        here: mean(&ours(Precision::Fast, Keep::Bf16)),
        with_int8: mean(&ours(Precision::Fast, Keep::Int8)),
        of_peer: mean(&theirs),
    }
}

fn centred(all: &[f64]) -> Vec<f32> {
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    all.iter().map(|one| (one - mean) as f32).collect()
}
