//! Attention against a direct f64 computation, and the same tokens cut in different ways.

use super::{Shape, Span, attend};
use crate::native::tests::{Random, bits, relative_error};
use crate::native::{BLOCK_TOKENS, Isa, Keep, KvCache, Pool, Scratch};

/// A sequence with its queries, keys and values, `[tokens, heads, dim]`.
struct Sequence {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    tokens: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    blocks: Vec<u32>,
}

impl Sequence {
    /// `first_block` keeps the blocks of sequences in one cache apart; they are handed out in descending order.
    fn new(seed: u64, (heads, kv_heads, dim): (usize, usize, usize), tokens: usize, first_block: u32) -> Sequence {
        let mut random = Random::new(seed);
        let blocks = tokens.div_ceil(BLOCK_TOKENS) as u32;
        Sequence {
            heads,
            kv_heads,
            dim,
            tokens,
            q: random.floats(tokens * heads * dim).iter().map(|x| 3.0 * x).collect(),
            k: random.floats(tokens * kv_heads * dim),
            v: random.floats(tokens * kv_heads * dim),
            blocks: (first_block..first_block + blocks).rev().collect(),
        }
    }

    fn cache(&self, blocks: usize, keep: Keep) -> KvCache {
        KvCache::new(2, blocks, self.kv_heads, self.dim, keep).unwrap()
    }

    fn shape(&self) -> Shape<'static> {
        let scale = 1.0 / (self.dim as f32).sqrt();
        Shape {
            heads: self.heads,
            stride: self.heads * self.dim,
            scale,
            window: None,
            ahead: 0,
            softcap: None,
            sinks: None,
        }
    }

    fn span(&self, start: usize, len: usize) -> Span<'_> {
        Span { start: start as u32, len: len as u32, blocks: &self.blocks }
    }

    fn queries(&self, start: usize, len: usize) -> &[f32] {
        &self.q[start * self.heads * self.dim..(start + len) * self.heads * self.dim]
    }

    fn append(&self, pool: &Pool, cache: &mut KvCache, start: usize, len: usize) {
        let width = self.kv_heads * self.dim;
        let part = |x: &[f32]| x[start * width..(start + len) * width].to_vec();
        cache.append(pool, 1, &[self.span(start, len)], &part(&self.k), &part(&self.v), width);
    }

    /// Appends and attends the tokens in pieces of the given sizes.
    fn run(&self, pool: &Pool, cache: &mut KvCache, shape: &Shape<'_>, pieces: &[usize]) -> Vec<f32> {
        let (mut out, mut start, mut scratch) = (Vec::new(), 0, Scratch::new());
        for &len in pieces {
            self.append(pool, cache, start, len);
            let mut part = vec![f32::NAN; len * self.heads * self.dim];
            let spans = [self.span(start, len)];
            attend(pool, &mut scratch, cache.layer(1), self.queries(start, len), &spans, shape, &mut part);
            out.extend(part);
            start += len;
        }
        assert_eq!(start, self.tokens);
        out
    }

    fn reference(&self, shape: &Shape<'_>) -> Vec<f64> {
        let token_heads = (0..self.tokens).flat_map(|token| (0..self.heads).map(move |head| (token, head)));
        token_heads.flat_map(|(token, head)| self.reference_head(shape, token, head)).collect()
    }

    fn reference_head(&self, shape: &Shape<'_>, token: usize, head: usize) -> Vec<f64> {
        let kv_head = head / (self.heads / self.kv_heads);
        let row = |x: &[f32], token: usize, heads: usize, head: usize| -> Vec<f64> {
            x[(token * heads + head) * self.dim..][..self.dim].iter().map(|x| f64::from(*x)).collect()
        };
        let q = row(&self.q, token, self.heads, head);
        let first = shape.window.map_or(0, |window| (token + 1).saturating_sub(window as usize));
        let mut out = vec![0.0; self.dim];
        let mut sum = shape.sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
        let last = token.saturating_add(shape.ahead as usize).min(self.tokens - 1);
        for other in first..=last {
            let k = row(&self.k, other, self.kv_heads, kv_head);
            let mut score = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * f64::from(shape.scale);
            if let Some(cap) = shape.softcap {
                score = f64::from(cap) * (score / f64::from(cap)).tanh();
            }
            let weight = score.exp();
            sum += weight;
            let v = row(&self.v, other, self.kv_heads, kv_head);
            out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * v);
        }
        out.into_iter().map(|out| out / sum).collect()
    }
}

const HEADS: [(usize, usize, usize); 5] = [(2, 2, 64), (4, 2, 128), (16, 2, 32), (3, 1, 80), (5, 1, 7)];

#[test]
fn attention_matches_f64_on_every_instruction_set_and_exact_bits_agree() {
    for (seed, heads) in HEADS.into_iter().enumerate() {
        let sequence = Sequence::new(seed as u64 + 1, heads, 150, 1);
        let forms = [
            (None, 0, None),
            (Some(40), 0, None),
            (Some(1), 0, None),
            (None, 0, Some(2.0)),
            (None, u32::MAX, None),
            (Some(9), 8, None),
            (Some(65), 64, None),
        ];
        for (window, ahead, softcap) in forms {
            let shape = Shape { window, ahead, softcap, ..sequence.shape() };
            let want = sequence.reference(&shape);
            let mut exact: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let pool = Pool::with_isa(2, isa);
                let fast = sequence.run(&pool, &mut sequence.cache(6, Keep::Bf16), &shape, &[150]);
                let error = relative_error(&fast, &want);
                assert!(error < 0.012, "{isa:?} {heads:?} {shape:?}: {error}");
                let got = sequence.run(&pool, &mut sequence.cache(6, Keep::F32), &shape, &[150]);
                let error = relative_error(&got, &want);
                assert!(error < 2e-6, "{isa:?} {heads:?} {shape:?}: {error}");
                let first = exact.get_or_insert_with(|| got.clone());
                assert_eq!(bits(&got), bits(first), "{isa:?}");
            }
        }
    }
}

#[test]
fn a_long_context_matches_f64() {
    let sequence = Sequence::new(9, (4, 2, 64), 1_200, 0);
    for window in [None, Some(700)] {
        let shape = Shape { window, ..sequence.shape() };
        let want = sequence.reference(&shape);
        let pool = Pool::new(2);
        let exact = sequence.run(&pool, &mut sequence.cache(38, Keep::F32), &shape, &[1_000, 200]);
        assert!(relative_error(&exact, &want) < 2e-6);
        let fast = sequence.run(&pool, &mut sequence.cache(38, Keep::Bf16), &shape, &[1_000, 200]);
        assert!(relative_error(&fast, &want) < 0.012);
    }
}

#[test]
fn chunks_of_a_prompt_and_threads_do_not_change_a_bit() {
    let sequence = Sequence::new(10, (6, 2, 64), 700, 0);
    for (window, keep) in
        [None, Some(50), Some(600)].into_iter().flat_map(|w| [Keep::Bf16, Keep::F32, Keep::Int8].map(|p| (w, p)))
    {
        let shape = Shape { window, ..sequence.shape() };
        for isa in Isa::available() {
            let whole = sequence.run(&Pool::with_isa(1, isa), &mut sequence.cache(22, keep), &shape, &[700]);
            let mut singles = vec![660];
            singles.extend([1; 40]);
            // Eight threads have more threads than work for a single token, so its keys are split among them.
            for (threads, pieces) in [(2, vec![33, 1, 1, 64, 401, 200]), (3, vec![511, 2, 187]), (8, singles)] {
                let pool = Pool::with_isa(threads, isa);
                let cut = sequence.run(&pool, &mut sequence.cache(22, keep), &shape, &pieces);
                assert_eq!(bits(&cut), bits(&whole), "{isa:?} {keep:?} {window:?} {pieces:?}");
            }
        }
    }
}

#[test]
fn whole_spans_that_look_both_ways_are_the_same_in_a_batch_and_on_any_threads() {
    let sequences: Vec<_> =
        [(70, 0), (1, 3), (600, 4)].iter().map(|&(t, b)| Sequence::new(t as u64, (4, 2, 32), t, b)).collect();
    for (window, ahead) in [(None, u32::MAX), (Some(41), 40)] {
        let shape = Shape { window, ahead, ..sequences[0].shape() };
        for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [1, 2, 8].map(|threads| (isa, threads))) {
            let mut cache = sequences[0].cache(24, Keep::Bf16);
            let one = Pool::with_isa(1, isa);
            let alone = sequences.iter().flat_map(|s| s.run(&one, &mut cache, &shape, &[s.tokens]));
            let want: Vec<f32> = alone.collect();
            let q: Vec<f32> = sequences.iter().flat_map(|s| s.q.clone()).collect();
            let spans: Vec<_> = sequences.iter().map(|s| s.span(0, s.tokens)).collect();
            let mut out = vec![f32::NAN; want.len()];
            let pool = Pool::with_isa(threads, isa);
            attend(&pool, &mut Scratch::new(), cache.layer(1), &q, &spans, &shape, &mut out);
            assert_eq!(bits(&out), bits(&want), "{isa:?} {threads} {window:?}");
        }
    }
}

#[test]
fn a_batch_of_spans_equals_each_alone() {
    let sequences: Vec<_> =
        [(70, 0), (1, 3), (600, 4)].iter().map(|&(t, b)| Sequence::new(t as u64, (4, 2, 32), t, b)).collect();
    let shape = sequences[0].shape();
    for isa in Isa::available() {
        let pool = Pool::with_isa(2, isa);
        let mut cache = sequences[0].cache(24, Keep::Bf16);
        let alone: Vec<_> = sequences.iter().map(|s| s.run(&pool, &mut cache, &shape, &[s.tokens])).collect();
        let starts = [50, 0, 599];
        let spans: Vec<_> = sequences.iter().zip(starts).map(|(s, start)| s.span(start, s.tokens - start)).collect();
        let of = |x: &dyn Fn(&Sequence, usize) -> Vec<f32>| -> Vec<f32> {
            sequences.iter().zip(starts).flat_map(|(s, start)| x(s, start)).collect()
        };
        let q = of(&|s, start| s.queries(start, s.tokens - start).to_vec());
        let want: Vec<f32> = alone.iter().zip(starts).flat_map(|(out, start)| out[start * 4 * 32..].to_vec()).collect();
        let mut out = vec![f32::NAN; want.len()];
        attend(&pool, &mut Scratch::new(), cache.layer(1), &q, &spans, &shape, &mut out);
        assert_eq!(bits(&out), bits(&want), "{isa:?}");
    }
}

#[test]
fn what_a_block_held_before_does_not_reach_its_next_sequence() {
    let sequence = Sequence::new(11, (2, 1, 32), 45, 0);
    for (isa, keep) in
        Isa::available().into_iter().flat_map(|isa| [Keep::Bf16, Keep::F32, Keep::Int8].map(|p| (isa, p)))
    {
        let pool = Pool::with_isa(2, isa);
        for (ahead, pieces) in [(0, &[20, 25][..]), (u32::MAX, &[45])] {
            let shape = Shape { ahead, ..sequence.shape() };
            let clean = sequence.run(&pool, &mut sequence.cache(2, keep), &shape, pieces);
            let mut cache = sequence.cache(2, keep);
            for token in 0..64 {
                cache.write(1, token / 32, token as usize % 32, &[f32::NAN; 32], &[f32::NAN; 32]);
            }
            let reused = sequence.run(&pool, &mut cache, &shape, pieces);
            assert_eq!(bits(&reused), bits(&clean), "{isa:?} {keep:?} {ahead}");
        }
    }
}

#[test]
fn what_is_no_number_reaches_those_that_see_it() {
    let sound = Sequence::new(14, (4, 2, 48), 70, 0);
    let (mut keys, mut queries) = (Sequence::new(14, (4, 2, 48), 70, 0), Sequence::new(14, (4, 2, 48), 70, 0));
    // The key of token 20 in the first head of two, which the first two query heads see, and a query of token 40.
    keys.k[20 * 2 * 48 + 5] = f32::NAN;
    queries.q[(40 * 4 + 3) * 48 + 47] = f32::NAN;
    let of_keys = |token: usize, head: usize| token >= 20 && head < 2;
    let of_queries = |token: usize, head: usize| (token, head) == (40, 3);
    for (isa, keep) in
        Isa::available().into_iter().flat_map(|isa| [Keep::Bf16, Keep::F32, Keep::Int8].map(|keep| (isa, keep)))
    {
        let pool = Pool::with_isa(2, isa);
        let run = |of: &Sequence| of.run(&pool, &mut of.cache(3, keep), &of.shape(), &[33, 37]);
        let want = run(&sound);
        for (of, reaches) in [(&keys, of_keys as fn(usize, usize) -> bool), (&queries, of_queries)] {
            let got = run(of);
            for (at, (got, want)) in got.chunks(48).zip(want.chunks(48)).enumerate() {
                let nothing = got.iter().all(|x| x.is_nan());
                let as_it_should = if reaches(at / 4, at % 4) { nothing } else { bits(got) == bits(want) };
                assert!(as_it_should, "{isa:?} {keep:?}, token {}, head {}", at / 4, at % 4);
            }
        }
    }
}

#[test]
fn tokens_written_one_by_one_equal_tokens_appended() {
    let sequence = Sequence::new(12, (4, 4, 48), 70, 2);
    for keep in [Keep::Bf16, Keep::F32, Keep::Int8] {
        let pool = Pool::new(2);
        let run = |pieces: &[usize]| sequence.run(&pool, &mut sequence.cache(5, keep), &sequence.shape(), pieces);
        let appended = run(&[70]);
        // Runs that begin and end at odd tokens, and some of more than sixteen.
        assert_eq!(bits(&run(&[5, 18, 1, 33, 13])), bits(&appended), "{keep:?}");
        let mut cache = sequence.cache(5, keep);
        for token in 0..70 {
            let part = token * 4 * 48..(token + 1) * 4 * 48;
            let block = sequence.blocks[token / BLOCK_TOKENS];
            cache.write(1, block, token % BLOCK_TOKENS, &sequence.k[part.clone()], &sequence.v[part]);
        }
        let mut out = vec![f32::NAN; appended.len()];
        let spans = [sequence.span(0, 70)];
        attend(&pool, &mut Scratch::new(), cache.layer(1), &sequence.q, &spans, &sequence.shape(), &mut out);
        assert_eq!(bits(&out), bits(&appended));
    }
}

#[test]
fn a_sink_takes_its_share_of_attention() {
    for (seed, heads) in HEADS.into_iter().enumerate() {
        let sequence = Sequence::new(seed as u64 + 70, heads, 100, 0);
        let sinks: Vec<f32> = (0..heads.0).map(|head| head as f32 * 0.7 - 0.5).collect();
        let shape = Shape { sinks: Some(&sinks), ..sequence.shape() };
        let want = sequence.reference(&shape);
        assert!(
            relative_error(&sequence.reference(&sequence.shape()).iter().map(|x| *x as f32).collect::<Vec<_>>(), &want)
                > 0.01
        );
        for isa in Isa::available() {
            let pool = Pool::with_isa(2, isa);
            let got = sequence.run(&pool, &mut sequence.cache(4, Keep::F32), &shape, &[60, 40]);
            let error = relative_error(&got, &want);
            assert!(error < 2e-6, "{isa:?} {heads:?}: {error}");
        }
    }
}

#[test]
fn heads_that_are_read_together_equal_heads_alone() {
    // In a prompt each head is an item of its own; a single token takes several, and with two threads their chunks too.
    let sequence = Sequence::new(13, (16, 8, 16), 1_600, 0);
    let mut pieces = vec![1_596];
    pieces.extend([1; 4]);
    for isa in Isa::available() {
        for (window, keep) in [(None, Keep::Bf16), (Some(700), Keep::Bf16), (None, Keep::F32), (None, Keep::Int8)] {
            let shape = Shape { window, ..sequence.shape() };
            let whole = sequence.run(&Pool::with_isa(2, isa), &mut sequence.cache(50, keep), &shape, &[1_600]);
            for threads in [1, 2] {
                let pool = Pool::with_isa(threads, isa);
                let cut = sequence.run(&pool, &mut sequence.cache(50, keep), &shape, &pieces);
                assert_eq!(bits(&cut), bits(&whole), "{isa:?} {keep:?} {window:?} {threads} threads");
            }
        }
    }
}

#[test]
fn int8_keys_and_values_stay_near_f64_on_every_instruction_set() {
    for (seed, heads) in HEADS.into_iter().enumerate() {
        let sequence = Sequence::new(seed as u64 + 90, heads, 150, 1);
        for (window, softcap) in [(None, None), (Some(40), None), (None, Some(2.0))] {
            let shape = Shape { window, softcap, ..sequence.shape() };
            let want = sequence.reference(&shape);
            for isa in Isa::available() {
                let pool = Pool::with_isa(2, isa);
                let got = sequence.run(&pool, &mut sequence.cache(6, Keep::Int8), &shape, &[150]);
                let error = relative_error(&got, &want);
                assert!(error < 0.015, "{isa:?} {heads:?} {shape:?}: {error}");
            }
        }
    }
}
