//! Batches, chunks and block tables over MLX: the same sequence by other ways.

use crate::random::{Recipe, TempFolder};
use crate::{Keep, Model, Options, Precision, Row, Wanted};

fn open(folder: &TempFolder) -> Model {
    let options = Options { threads: 1, blocks: 8, precision: Precision::Exact, keep: Keep::F32 };
    Model::open_mlx(folder.path(), &options, &mut |_, _| {}).unwrap()
}

#[track_caller]
fn assert_near(left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len());
    assert!(left.iter().any(|value| *value != left[0]));
    let apart = left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "logits are {apart} apart");
}

#[test]
fn rows_in_a_batch_and_prompts_in_chunks_compute_what_they_compute_alone_and_whole() {
    for recipe in [Recipe::tiny("qwen3", 5).quantized(4, 32), Recipe::tiny("mistral", 5).set("sliding_window", 9)] {
        let folder = recipe.temporary().unwrap();
        let (long, short): (Vec<u32>, Vec<u32>) = ((0..40).collect(), (100..105).collect());
        let row = |tokens, start, blocks, logits| Row { tokens, start, blocks, logits };
        let (mut alone, mut batched) = (Vec::new(), Vec::new());
        let mut expected = Vec::new();
        for (tokens, blocks) in [(&long, &[0, 1][..]), (&short, &[2])] {
            open(&folder).forward(&[row(tokens, 0, blocks, Wanted::Last)], &mut alone).unwrap();
            expected.extend_from_slice(&alone);
        }
        let mut model = open(&folder);
        // The first step wants nothing, and what it stores must be computed all the same.
        model.forward(&[row(&long[..33], 0, &[7, 3], Wanted::None)], &mut batched).unwrap();
        assert!(batched.is_empty());
        // The last block moves, as when two choices part.
        model.copy_block(3, 6);
        let rows = [row(&long[33..], 33, &[7, 6], Wanted::Last), row(&short, 0, &[5], Wanted::Last)];
        model.forward(&rows, &mut batched).unwrap();
        assert_near(&expected, &batched);
    }
}
