//! Encoders against transformers: every golden of `tests/data/encoders`, at both precisions; and the law that a text's
//! numbers are its own, bit for bit, for every architecture, way of storing weights and precision.
//!
//! `tools/goldens/encoders.py` says what a golden holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use engine::encoder::Text;
use engine::random::{Recipe, TOKENS, TempFolder};
use engine::{Encoder, Precision};
use safetensors::SafeTensors;
use serde_json::json;

/// Relative L2 distance that two orders of the same f32 sums may have.
const EXACT_DRIFT_MAX: f64 = 1e-5;
/// Relative L2 distance that `Fast` may have on random weights, which forgive less than trained ones.
const FAST_DRIFT_MAX: f64 = 0.04;

struct Golden {
    name: String,
    recipe: Recipe,
    weights: String,
    tokens: Vec<Vec<u32>>,
    segments: Vec<Vec<u8>>,
    rows: Vec<f32>,
}

impl Golden {
    fn read(path: &Path, seed_offset: u64) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| {
            let words = tensors.tensor(name).unwrap().data().chunks_exact(4);
            words.map(|word| <[u8; 4]>::try_from(word).unwrap()).collect::<Vec<_>>()
        };
        let counts = |name: &str| words(name).into_iter().map(u32::from_le_bytes).collect::<Vec<u32>>();
        let seed: u64 = metadata["seed"].parse().unwrap();
        let mut recipe = Recipe::from_config(serde_json::from_str(&metadata["config"]).unwrap(), seed + seed_offset);
        for mode in ["mean", "cls", "lasttoken"] {
            if metadata["pooling"] == mode {
                recipe = recipe.pooled(mode);
            }
        }
        if let Some(dense) = metadata.get("dense") {
            recipe = recipe.projected(serde_json::from_str(dense).unwrap());
        }
        let lengths = counts("lengths");
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            recipe,
            weights: metadata["weights"].clone(),
            tokens: split(&counts("tokens"), &lengths),
            segments: split(&counts("segments"), &lengths)
                .into_iter()
                .map(|segments| segments.into_iter().map(|segment| u8::try_from(segment).unwrap()).collect())
                .collect(),
            rows: words("rows").into_iter().map(f32::from_le_bytes).collect(),
        }
    }

    fn all(seed_offset: u64) -> Vec<Self> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/encoders");
        let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(paths.len() >= 9, "{} goldens", paths.len());
        paths.iter().map(|path| Self::read(path, seed_offset)).collect()
    }

    fn computed(&self, precision: Precision) -> Vec<f32> {
        let texts: Vec<Text<'_>> =
            self.tokens.iter().zip(&self.segments).map(|(tokens, segments)| Text { tokens, segments }).collect();
        encode(&mut open(&self.recipe.temporary().unwrap(), precision, 2), &texts)
    }

    fn drift(&self, precision: Precision) -> f64 {
        distance(&self.computed(precision), &self.rows)
    }
}

fn split(all: &[u32], lengths: &[u32]) -> Vec<Vec<u32>> {
    let mut rest = all;
    let part = |length: &u32| {
        let (part, others) = rest.split_at(*length as usize);
        rest = others;
        part.to_vec()
    };
    lengths.iter().map(part).collect()
}

fn distance(computed: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(computed.len(), expected.len());
    let square = |value: f64| value * value;
    let distance: f64 = computed.iter().zip(expected).map(|(a, b)| square(f64::from(a - b))).sum();
    (distance / expected.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

fn open(folder: &TempFolder, precision: Precision, threads: usize) -> Encoder {
    Encoder::open(folder.path(), threads, precision, &mut |_, _| {}).unwrap()
}

fn encode(encoder: &mut Encoder, texts: &[Text<'_>]) -> Vec<f32> {
    let mut out = Vec::new();
    encoder.encode(texts, &mut || {}, &mut out).unwrap();
    assert_eq!(out.len(), texts.len() * encoder.width());
    out
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    format!("{:016x}", bytes.iter().fold(0xCBF2_9CE4_8422_2325, step))
}

#[test]
fn the_encoders_are_the_ones_that_the_goldens_were_made_from() {
    for golden in Golden::all(0) {
        let weights = weights(&golden.recipe.temporary().unwrap());
        let advice = "run tools/goldens/encoders.py again if the random models were changed on purpose";
        assert_eq!(fingerprint(&weights), golden.weights, "{}: {advice}", golden.name);
    }
}

#[test]
fn exact_vectors_and_scores_are_those_of_transformers() {
    for golden in Golden::all(0) {
        let drift = golden.drift(Precision::Exact);
        println!("{}: exact drift {drift:.1e}", golden.name);
        assert!(drift < EXACT_DRIFT_MAX, "{} drifts by {drift:.1e}", golden.name);
    }
}

#[test]
fn fast_vectors_and_scores_stay_near_those_of_transformers() {
    for golden in Golden::all(0) {
        let drift = golden.drift(Precision::Fast);
        println!("{}: fast drift {drift:.1e}", golden.name);
        assert!(drift < FAST_DRIFT_MAX, "{} drifts by {drift:.1e}", golden.name);
    }
}

/// The control: the comparison tells one model from another of the same shape.
#[test]
fn another_models_vectors_are_far_from_the_golden() {
    for golden in Golden::all(100) {
        let drift = golden.drift(Precision::Exact);
        assert!(drift > 0.3, "{} drifts by only {drift:.1e} from another model's golden", golden.name);
    }
}

/// Every architecture, in bf16, 4 bits and 8 bits, and a reranker.
fn recipes() -> Vec<(String, Recipe)> {
    let mut recipes = Vec::new();
    for architecture in ["bert", "xlm-roberta", "nomic_bert", "modernbert"] {
        let tiny = Recipe::tiny_encoder(architecture, 5);
        recipes.push((format!("{architecture} 4-bit"), tiny.clone().quantized(4, 32)));
        recipes.push((format!("{architecture} 8-bit"), tiny.clone().quantized(8, 64)));
        recipes.push((architecture.to_string(), tiny));
    }
    let reranker = Recipe::tiny_encoder("bert", 5).set("architectures", json!(["BertForSequenceClassification"]));
    recipes.push(("reranker".to_string(), reranker));
    recipes.push(("qwen3".to_string(), Recipe::tiny("qwen3", 5).pooled("lasttoken")));
    let gemma = Recipe::tiny_embedding_gemma(5);
    recipes.push(("EmbeddingGemma 4-bit".to_string(), gemma.clone().quantized(4, 32)));
    recipes.push(("EmbeddingGemma 8-bit".to_string(), gemma.clone().quantized(8, 64)));
    recipes.push(("EmbeddingGemma".to_string(), gemma));
    recipes
}

/// Made-up texts: a few tokens, more than a block, and more than the tokens that an MLP computes at once.
fn texts() -> Vec<Vec<u32>> {
    let text = |(seed, length): (u32, u32)| (0..length).map(|i| (i * i * 7 + i * 31 + seed * 101) % TOKENS).collect();
    [(1, 3), (2, 70), (3, 1), (4, 505), (5, 33)].map(text).into()
}

#[test]
fn a_text_is_the_same_alone_and_in_a_batch_and_on_any_number_of_threads() {
    let tokens = texts();
    let texts: Vec<Text<'_>> = tokens.iter().map(|tokens| Text { tokens, segments: &[] }).collect();
    for (name, recipe) in recipes() {
        let folder = recipe.temporary().unwrap();
        for precision in [Precision::Fast, Precision::Exact] {
            let mut two = open(&folder, precision, 2);
            let batch = encode(&mut two, &texts);
            assert!(batch.iter().all(|x| x.is_finite()), "{name}");
            let mut one = open(&folder, precision, 1);
            // Shortest last: what a long text left in memory must not be seen.
            for (index, text) in texts.iter().enumerate().rev() {
                let alone = encode(&mut one, std::slice::from_ref(text));
                let width = one.width();
                let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&alone), bits(&batch[index * width..][..width]), "{name}, {precision:?}, text {index}");
            }
            assert_eq!(encode(&mut two, &texts), batch, "{name}: a second call differs");
        }
    }
}

/// A decoder that judges gives what its own logits say: how much rather it would say yes than no.
#[test]
fn a_judges_score_is_the_difference_of_two_logits() {
    let words = json!(["a", "e"]);
    for untied in [false, true] {
        let recipe = Recipe::tiny("qwen3", 11).set("tie_word_embeddings", !untied);
        let (decoder, judge) =
            (recipe.clone().temporary().unwrap(), recipe.set("classifier_from_token", words.clone()));
        let judge = judge.temporary().unwrap();
        assert_eq!(fingerprint(&weights(&decoder)), fingerprint(&weights(&judge)), "the same weights");
        assert!(engine::inspect(judge.path()).unwrap().capabilities.rerank);
        assert!(engine::inspect(decoder.path()).unwrap().capabilities.chat);
        let tokens: Vec<u32> = (0..40).map(|at| at * 5 % 200).collect();
        let options =
            engine::Options { threads: 1, blocks: 2, precision: Precision::Exact, keep: Precision::Exact.into() };
        let mut model = engine::Model::open(decoder.path(), &options, &mut |_, _| {}).unwrap();
        let row = engine::Row { tokens: &tokens, start: 0, blocks: &[0, 1], logits: engine::Wanted::Last };
        let mut logits = Vec::new();
        model.forward(&[row], &mut logits).unwrap();
        let tokenizer = engine::text::Tokenizer::open(decoder.path()).unwrap();
        let logit = |word: &str| logits[tokenizer.token_id(word).unwrap() as usize];
        let scores = encode(&mut open(&judge, Precision::Exact, 2), &[Text { tokens: &tokens, segments: &[] }]);
        let expected = logit("e") - logit("a");
        assert!((scores[0] - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{scores:?} for {expected}");
    }
}

fn weights(folder: &TempFolder) -> Vec<u8> {
    fs::read(folder.path().join("model.safetensors")).unwrap()
}

#[test]
fn every_token_of_a_text_counts() {
    for (name, recipe) in recipes() {
        let mut encoder = open(&recipe.temporary().unwrap(), Precision::Exact, 1);
        let mut tokens = texts().swap_remove(1);
        let before = encode(&mut encoder, &[Text { tokens: &tokens, segments: &[] }]);
        tokens[60] += 1;
        let after = encode(&mut encoder, &[Text { tokens: &tokens, segments: &[] }]);
        assert!(distance(&after, &before) > 1e-4, "{name}");
    }
}
