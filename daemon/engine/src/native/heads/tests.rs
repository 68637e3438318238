//! Norms and rotations of heads against their closed forms.

use super::{HeadNorm, Heads, prepare};
use crate::native::rope::{Angles, Rope, Scaling};
use crate::native::tests::{Random, relative_error};
use crate::native::{Isa, Pool};

const STRIDE: usize = 50;
const QUERIES: Heads = Heads { stride: STRIDE, offset: 0, count: 2, dim: 16 };
const KEYS: Heads = Heads { stride: STRIDE, offset: 32, count: 1, dim: 16 };

#[test]
fn a_group_without_norm_and_turn_stays() {
    let before = Random::new(1).floats(3 * STRIDE);
    let mut after = before.clone();
    prepare(&Pool::new(2), &mut after, &[(QUERIES, None), (KEYS, None)], None);
    assert_eq!(after, before);
}

#[test]
fn norms_touch_their_heads_only() {
    let mut random = Random::new(2);
    let (before, weight) = (random.floats(4 * STRIDE), random.floats(16));
    let mut after = before.clone();
    let norm = HeadNorm { run: weight.len(), centred: false, weight: &weight, epsilon: 1e-5 };
    prepare(&Pool::new(2), &mut after, &[(KEYS, Some(norm))], None);
    for (after, before) in after.chunks_exact(STRIDE).zip(before.chunks_exact(STRIDE)) {
        assert_eq!((&after[..32], &after[48..]), (&before[..32], &before[48..]));
        assert!(relative_error(&after[32..48], &normed(&before[32..48], &weight)) < 1e-6);
    }
}

#[test]
fn a_norm_as_long_as_all_heads_takes_them_together() {
    let mut random = Random::new(3);
    let (before, weight) = (random.floats(STRIDE), random.floats(32));
    let mut after = before.clone();
    let norm = HeadNorm { run: weight.len(), centred: false, weight: &weight, epsilon: 1e-5 };
    prepare(&Pool::new(1), &mut after, &[(QUERIES, Some(norm))], None);
    assert!(relative_error(&after[..32], &normed(&before[..32], &weight)) < 1e-6);
}

#[test]
fn heads_with_weights_of_their_own_are_normed_one_by_one() {
    let mut random = Random::new(5);
    let (before, weight) = (random.floats(4 * STRIDE), random.floats(32));
    for (isa, centred) in Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
        let mut after = before.clone();
        let norm = HeadNorm { run: 16, centred, weight: &weight, epsilon: 1e-5 };
        prepare(&Pool::with_isa(2, isa), &mut after, &[(QUERIES, Some(norm))], None);
        for (after, before) in after.chunks_exact(STRIDE).zip(before.chunks_exact(STRIDE)) {
            for head in [0..16, 16..32] {
                let mean = if centred { before[head.clone()].iter().sum::<f32>() / 16.0 } else { 0.0 };
                let moved: Vec<f32> = before[head.clone()].iter().map(|x| x - mean).collect();
                let wanted = normed(&moved, &weight[head.clone()]);
                assert!(relative_error(&after[head], &wanted) < 1e-6, "{isa:?} {centred}");
            }
            assert_eq!(after[32..], before[32..]);
        }
    }
}

#[test]
fn heads_are_normed_before_they_are_turned_by_their_position() {
    let mut random = Random::new(4);
    let rows = 700;
    let (before, weight) = (random.floats(rows * STRIDE), random.floats(16));
    let rope = Rope::new(8, 10_000.0, &Scaling::None);
    let mut angles = Angles::default();
    rope.angles(0..rows as u32, &mut angles);
    for isa in Isa::available() {
        let mut after = before.clone();
        let norm = Some(HeadNorm { run: weight.len(), centred: false, weight: &weight, epsilon: 1e-5 });
        let pool = Pool::with_isa(2, isa);
        prepare(&pool, &mut after, &[(QUERIES, norm), (KEYS, None)], Some((&rope, &angles)));
        for (position, (row, old)) in after.chunks_exact(STRIDE).zip(before.chunks_exact(STRIDE)).enumerate() {
            let plain: Vec<f64> = old[32..48].iter().map(|x| f64::from(*x)).collect();
            assert!(relative_error(&row[32..48], &turned(plain, position)) < 1e-4, "{isa:?} {position}");
            for (head, old) in row[..32].chunks_exact(16).zip(old[..32].chunks_exact(16)) {
                let want = turned(normed(old, &weight), position);
                assert!(relative_error(head, &want) < 1e-4, "{isa:?} {position}");
            }
            assert_eq!(row[48..], old[48..]);
        }
    }
}

fn normed(x: &[f32], weight: &[f32]) -> Vec<f64> {
    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
    x.iter().zip(weight).map(|(x, w)| f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*w)).collect()
}

/// The first 8 numbers turned in pairs (i, i + 4).
fn turned(mut head: Vec<f64>, position: usize) -> Vec<f64> {
    for i in 0..4 {
        let angle = position as f64 * 10_000f64.powf(-2.0 * i as f64 / 8.0);
        let (a, b) = (head[i], head[i + 4]);
        head[i] = a * angle.cos() - b * angle.sin();
        head[i + 4] = b * angle.cos() + a * angle.sin();
    }
    head
}
