//! The rule against plain sums in f64, whatever the chunks and the slots.

use super::*;

const GROUPED: DeltaShape =
    DeltaShape { key_heads: 2, value_heads: 4, key_dim: 8, value_dim: 19, kernel: 4, grouped: true };

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 37 + seed * 101) % 113) as f32 / 64.0 - 0.8).collect()
}

fn weights(shape: &DeltaShape) -> DeltaWeights {
    let channels = shape.key_heads * shape.channels();
    let norm = (numbers(shape.value_dim, 4), 1e-6);
    let (conv, decay) = (numbers(channels * shape.kernel, 1), numbers(shape.value_heads, 2));
    DeltaWeights::pack(shape, &conv, &decay, numbers(shape.value_heads, 3), norm)
}

/// What the tokens of one sequence give, in spans of so many tokens.
fn computed(pool: &Pool, shape: DeltaShape, x: &[f32], spans: &[DeltaSpan]) -> Vec<f32> {
    let mut states = DeltaStates::new(shape, 2, 4).unwrap();
    let (mut out, mut first) = (Vec::new(), 0);
    for span in spans {
        let mut part = vec![0.0; span.len * shape.value_heads * shape.value_dim];
        let tokens = &x[first * shape.width()..(first + span.len) * shape.width()];
        states.forward(pool, &mut Scratch::new(), (1, &weights(&shape)), tokens, &[*span], &mut part);
        out.extend(part);
        first += span.len;
    }
    out
}

fn whole(len: usize) -> [DeltaSpan; 1] {
    [DeltaSpan { len, from: None, to: 0 }]
}

/// The same in f64, a value head at a time, by the rule's definition.
fn expected(shape: DeltaShape, x: &[f32]) -> Vec<f64> {
    let (tokens, width) = (x.len() / shape.width(), shape.value_heads * shape.value_dim);
    let mut out = vec![0.0; tokens * width];
    let conv = numbers(shape.key_heads * shape.channels() * shape.kernel, 1);
    let number = |seed, at: usize| f64::from(numbers(at + 1, seed)[at]);
    for head in 0..shape.value_heads {
        let key_head = head / shape.group();
        let places = shape.places(key_head);
        let nth = head % shape.group();
        let mixed = |token: usize, place: usize, channel: usize| {
            let taps = (0..shape.kernel).filter(|tap| token + tap + 1 >= shape.kernel);
            let sum: f64 = taps
                .map(|tap| {
                    let token = token + tap + 1 - shape.kernel;
                    f64::from(x[token * shape.width() + place]) * f64::from(conv[channel * shape.kernel + tap])
                })
                .sum();
            sum / (1.0 + (-sum).exp())
        };
        let mut memory = vec![vec![0.0; shape.value_dim]; shape.key_dim];
        for token in 0..tokens {
            let part = |place: usize, channel: usize, width: usize| -> Vec<f64> {
                (0..width).map(|at| mixed(token, place + at, channel + at)).collect()
            };
            let keys = shape.key_heads * shape.key_dim;
            let unit = |x: Vec<f64>| -> Vec<f64> {
                let length = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
                x.into_iter().map(|x| x / length).collect()
            };
            let query = unit(part(places.query, key_head * shape.key_dim, shape.key_dim));
            let key = unit(part(places.key, keys + key_head * shape.key_dim, shape.key_dim));
            let at = nth * shape.value_dim;
            let value = part(places.value + at, 2 * keys + head * shape.value_dim, shape.value_dim);
            let of = |place: usize| f64::from(x[token * shape.width() + place]);
            let said = of(places.decay + nth) + number(3, head);
            let kept = (-number(2, head).exp() * said.exp().ln_1p()).exp();
            let write = 1.0 / (1.0 + (-of(places.write + nth)).exp());
            memory.iter_mut().flatten().for_each(|memory| *memory *= kept);
            let read = |memory: &[Vec<f64>], by: &[f64], column: usize| -> f64 {
                memory.iter().zip(by).map(|(row, by)| row[column] * by).sum()
            };
            for column in 0..shape.value_dim {
                let change = (value[column] - read(&memory, &key, column)) * write;
                memory.iter_mut().zip(&key).for_each(|(row, key)| row[column] += key * change);
            }
            let scale = (shape.key_dim as f64).powf(-0.5);
            let given: Vec<f64> = (0..shape.value_dim).map(|column| read(&memory, &query, column) * scale).collect();
            let mean = given.iter().map(|x| x * x).sum::<f64>() / shape.value_dim as f64;
            for (column, given) in given.iter().enumerate() {
                let gate = of(places.gate + at + column);
                let normed = given / (mean + 1e-6).sqrt() * number(4, column);
                out[token * width + head * shape.value_dim + column] = normed * gate / (1.0 + (-gate).exp());
            }
        }
    }
    out
}

#[test]
fn tokens_give_what_the_rule_says_in_both_orders_of_the_projection() {
    for shape in [GROUPED, DeltaShape { grouped: false, ..GROUPED }] {
        let x = numbers(6 * shape.width(), 5);
        let expected = expected(shape, &x);
        for isa in Isa::available() {
            let computed = computed(&Pool::with_isa(2, isa), shape, &x, &whole(6));
            for (at, (computed, expected)) in computed.iter().zip(&expected).enumerate() {
                let error = (f64::from(*computed) - expected).abs();
                assert!(error < 1e-4 * (1.0 + expected.abs()), "{isa:?}, number {at}: {computed} for {expected}");
            }
        }
    }
}

#[test]
fn a_sequence_in_pieces_and_in_other_slots_gives_what_it_gives_whole() {
    let (pool, x) = (Pool::new(2), numbers(9 * GROUPED.width(), 6));
    let span = |len, from, to| DeltaSpan { len, from, to };
    let expected = computed(&pool, GROUPED, &x, &whole(9));
    let pieces = [span(1, None, 3), span(5, Some(3), 3), span(1, Some(3), 1), span(2, Some(1), 0)];
    assert_eq!(computed(&pool, GROUPED, &x, &pieces), expected);
}

#[test]
fn a_state_that_others_need_stays_and_sequences_do_not_touch() {
    let (pool, shape) = (Pool::new(2), GROUPED);
    let x = numbers(6 * shape.width(), 7);
    let (weights, mut scratch) = (weights(&shape), Scratch::new());
    let mut states = DeltaStates::new(shape, 1, 4).unwrap();
    let width = shape.value_heads * shape.value_dim;
    let mut first = vec![0.0; 2 * width];
    let span = |len, from, to| DeltaSpan { len, from, to };
    states.forward(&pool, &mut scratch, (0, &weights), &x[..2 * shape.width()], &[span(2, None, 2)], &mut first);
    let kept = states.slot(2).to_vec();
    let mut both = vec![0.0; 4 * width];
    let rest = &x[2 * shape.width()..];
    states.forward(&pool, &mut scratch, (0, &weights), rest, &[span(3, Some(2), 0), span(1, Some(2), 1)], &mut both);
    assert_eq!(states.slot(2), kept);
    let last = &rest[3 * shape.width()..];
    let mut alone = vec![0.0; width];
    states.slot_mut(3).copy_from_slice(&kept);
    states.forward(&pool, &mut scratch, (0, &weights), last, &[span(1, Some(3), 3)], &mut alone);
    assert_eq!(both[3 * width..], alone);
    assert_eq!(states.slot(3), states.slot(1));
}
