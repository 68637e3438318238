//! An encoder refuses what it cannot compute, reports what it loaded, and makes unit vectors and probabilities.

use super::*;
use crate::random::{Recipe, TOKENS};

fn open(recipe: &Recipe) -> Encoder {
    Encoder::open(recipe.temporary().unwrap().path(), 1, Precision::Fast, &mut |_, _| {}).unwrap()
}

fn text(tokens: &[u32]) -> Text<'_> {
    Text { tokens, segments: &[] }
}

#[track_caller]
fn check(bad: Text<'_>, expected: ForwardError) {
    let mut encoder = open(&Recipe::tiny_encoder("bert", 1).set("max_position_embeddings", 40));
    let mut out = vec![0.5];
    assert_eq!(encoder.encode(&[text(&[1]), bad], &mut || {}, &mut out), Err(expected));
    assert_eq!(out, [0.5], "a refused call writes nothing");
}

#[test]
fn texts_that_break_a_rule_are_refused_before_anything_is_computed() {
    check(text(&[]), ForwardError::EmptyRow { row: 1 });
    check(text(&[0, TOKENS]), ForwardError::UnknownToken { row: 1, token: TOKENS, vocabulary: TOKENS });
    check(text(&[1; 41]), ForwardError::PastContext { row: 1, positions: 41, context: 40 });
    let segments = ForwardError::Segments { row: 1, segments: 1, tokens: 2 };
    check(Text { tokens: &[1, 2], segments: &[0] }, segments);
}

#[test]
fn whoever_waits_hears_of_every_layer_twice() {
    let mut encoder = open(&Recipe::tiny_encoder("bert", 1).set("num_hidden_layers", 3));
    let mut heard = 0;
    encoder.encode(&[text(&[1, 2])], &mut || heard += 1, &mut Vec::new()).unwrap();
    assert_eq!(heard, 6);
}

#[test]
fn facts_say_what_an_encoder_is_for() {
    let facts = crate::inspect(Recipe::tiny_encoder("nomic_bert", 1).temporary().unwrap().path()).unwrap();
    assert_eq!((facts.dimensions, facts.context_length), (Some(64), 512));
    assert!(facts.capabilities.embed && !facts.capabilities.rerank && !facts.capabilities.chat);
    let reranker = Recipe::tiny_encoder("modernbert", 1)
        .set("architectures", vec!["ModernBertForSequenceClassification"])
        .set("num_labels", 1);
    let encoder = open(&reranker);
    assert_eq!((encoder.width(), encoder.facts().dimensions), (1, None));
    assert!(encoder.facts().capabilities.rerank && !encoder.facts().capabilities.embed);
    assert_eq!(*encoder.facts(), crate::inspect(reranker.temporary().unwrap().path()).unwrap());
    let decoder = crate::inspect(Recipe::tiny("qwen3", 1).temporary().unwrap().path()).unwrap();
    assert!(!decoder.capabilities.embed && decoder.dimensions.is_none());
    let adopted = crate::inspect(Recipe::tiny("qwen3", 1).pooled("lasttoken").temporary().unwrap().path()).unwrap();
    assert!(adopted.capabilities.embed && !adopted.capabilities.chat);
}

#[test]
fn neither_kind_of_model_is_opened_as_the_other() {
    let decoder = Recipe::tiny("llama", 1).temporary().unwrap();
    let error = Encoder::open(decoder.path(), 1, Precision::Fast, &mut |_, _| {}).err().unwrap();
    assert!(error.to_string().contains("generates text"), "{error}");
    let encoder = Recipe::tiny_encoder("bert", 1).temporary().unwrap();
    let options = crate::Options { threads: 1, blocks: 1, precision: Precision::Fast, keep: Keep::Bf16 };
    assert!(crate::Model::open(encoder.path(), &options, &mut |_, _| {}).is_err());
}

#[test]
fn progress_rises_to_the_bytes_of_all_weights() {
    let folder = Recipe::tiny_encoder("bert", 1).quantized(8, 32).temporary().unwrap();
    let mut heard = Vec::new();
    Encoder::open(folder.path(), 2, Precision::Exact, &mut |done, total| heard.push((done, total))).unwrap();
    assert!(heard.is_sorted() && heard.len() > 2);
    let (done, total) = heard[heard.len() - 1];
    assert!(heard[0] == (0, total) && done == total && total > 0);
}

#[test]
fn a_shortened_vector_is_the_beginning_of_the_whole_at_length_one() {
    let whole = [3.0, -4.0, 12.0, 0.0];
    assert_eq!(shorten(&whole, 2), [0.6, -0.8]);
    assert_eq!(shorten(&whole, 9), [3.0 / 13.0, -4.0 / 13.0, 12.0 / 13.0, 0.0]);
    assert_eq!(shorten(&[0.0; 3], 2), [0.0; 2]);
}

#[test]
fn a_score_becomes_a_probability() {
    assert_eq!([probability(0.0), probability(200.0), probability(-200.0)], [0.5, 1.0, 0.0]);
    assert!(probability(1.0) > 0.73 && probability(1.0) < 0.74);
}
