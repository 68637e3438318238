//! A model forgets nothing between steps, refuses what it cannot compute, and reports what it loaded.

use super::*;
use crate::random::{Recipe, TOKENS};

fn open() -> Model {
    let folder = Recipe::tiny("qwen3", 1).set("max_position_embeddings", 100).temporary().unwrap();
    let options = Options { threads: 1, blocks: 8, precision: Precision::Fast, keep: Keep::Bf16 };
    Model::open(folder.path(), &options, &mut |_, _| {}).unwrap()
}

#[track_caller]
fn check(row: Row<'_>, expected: ForwardError) {
    let good = Row { tokens: &[1], start: 0, blocks: &[7], logits: Wanted::Last };
    let mut logits = vec![0.5];
    assert_eq!(open().forward(&[good, row], &mut logits), Err(expected));
    assert_eq!(logits, [0.5], "a refused step writes nothing");
}

#[test]
fn rows_that_break_a_rule_are_refused_before_anything_is_computed() {
    let row = Row { tokens: &[1, 2], start: 0, blocks: &[0], logits: Wanted::Last };
    check(Row { tokens: &[], ..row }, ForwardError::EmptyRow { row: 1 });
    let unknown = ForwardError::UnknownToken { row: 1, token: TOKENS, vocabulary: TOKENS };
    check(Row { tokens: &[0, TOKENS], ..row }, unknown);
    check(Row { start: 31, ..row }, ForwardError::TooFewBlocks { row: 1, positions: 33, room: 32 });
    check(Row { blocks: &[8], ..row }, ForwardError::UnknownBlock { row: 1, block: 8, blocks: 8 });
    check(
        Row { start: 99, blocks: &[0, 1, 2, 3], ..row },
        ForwardError::PastContext { row: 1, positions: 101, context: 100 },
    );
    check(Row { start: u32::MAX, ..row }, ForwardError::PastContext { row: 1, positions: 1 << 32 | 1, context: 100 });
}

#[test]
fn only_rows_that_want_logits_get_them_in_order() {
    let mut model = open();
    let row = |tokens, blocks, logits| Row { tokens, start: 0, blocks, logits };
    let (mut all, mut some) = (Vec::new(), Vec::new());
    model.forward(&[row(&[1], &[0], Wanted::Last), row(&[2, 3], &[1], Wanted::Last)], &mut all).unwrap();
    model.forward(&[row(&[1], &[2], Wanted::None), row(&[2, 3], &[3], Wanted::Last)], &mut some).unwrap();
    assert_eq!((all.len(), some.len()), (2 * TOKENS as usize, TOKENS as usize));
    assert_eq!(all[TOKENS as usize..], some);
    model.forward(&[row(&[1], &[0], Wanted::None)], &mut some).unwrap();
    assert!(some.is_empty());
    model.forward(&[], &mut all).unwrap();
    assert!(all.is_empty());
}

#[test]
fn progress_rises_to_the_bytes_of_all_weights() {
    let folder = Recipe::tiny("qwen2", 1).quantized(4, 32).temporary().unwrap();
    let options = Options { threads: 2, blocks: 1, precision: Precision::Exact, keep: Keep::F32 };
    let mut heard = Vec::new();
    let model = Model::open(folder.path(), &options, &mut |done, total| heard.push((done, total))).unwrap();
    assert!(heard.is_sorted() && heard.len() > 2);
    let (done, total) = heard[heard.len() - 1];
    assert!(heard[0] == (0, total) && done == total && total > 0);
    assert_eq!(*model.facts(), crate::inspect(folder.path()).unwrap());
    assert!(model.device().starts_with("CPU, 2 threads"), "{}", model.device());
}

#[test]
fn a_model_without_room_for_a_token_is_refused() {
    let folder = Recipe::tiny("llama", 1).temporary().unwrap();
    let options = Options { threads: 1, blocks: 0, precision: Precision::Fast, keep: Keep::Bf16 };
    assert!(matches!(Model::open(folder.path(), &options, &mut |_, _| {}), Err(LoadError::Kernel(_))));
}

/// Puts what is no number in the place of the first of a norm's factors.
fn damage(dir: &Path, norm: &str) {
    let path = dir.join("model.safetensors");
    let mut file = std::fs::read(&path).unwrap();
    let data = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..data]).unwrap();
    let at = data + header[norm]["data_offsets"][0].as_u64().unwrap() as usize;
    file[at..at + 2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    std::fs::write(path, file).unwrap();
}

#[test]
fn damaged_weights_show_in_the_logits_however_numbers_are_kept() {
    for norm in ["model.norm.weight", "model.layers.0.input_layernorm.weight"] {
        let folder = Recipe::tiny("qwen3", 1).quantized(4, 32).temporary().unwrap();
        damage(folder.path(), norm);
        for (precision, keep) in
            [(Precision::Exact, Keep::F32), (Precision::Fast, Keep::Bf16), (Precision::Fast, Keep::Int8)]
        {
            let options = Options { threads: 1, blocks: 1, precision, keep };
            let mut model = Model::open(folder.path(), &options, &mut |_, _| {}).unwrap();
            let mut logits = Vec::new();
            let row = Row { tokens: &[1, 2, 3], start: 0, blocks: &[0], logits: Wanted::Last };
            model.forward(&[row], &mut logits).unwrap();
            assert!(logits.iter().all(|logit| logit.is_nan()), "{norm}, {precision:?}, {keep:?}");
        }
    }
}
