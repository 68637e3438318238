//! Encoders, written as GGUF files and made into folders again, and the vocabularies that only they have.

use super::*;
use crate::encoder::{Encoder, Text};
use crate::text::{Tokenizer, Whole};

/// Every architecture that is read, and what else its files can say.
pub(super) fn recipes() -> Vec<(&'static str, Recipe)> {
    let tiny = |architecture: &str| Recipe::tiny_encoder(architecture, 3);
    let scores = |recipe: Recipe, class: &str| recipe.set("architectures", vec![class]).set("num_labels", 1);
    vec![
        ("bert", tiny("bert").pooled("cls")),
        ("bert", tiny("bert").quantized(8, 32)),
        ("bert", scores(tiny("bert"), "BertForSequenceClassification")),
        ("nomic-bert", tiny("nomic_bert").pooled("mean")),
        ("modern-bert", tiny("modernbert").pooled("cls")),
        ("modern-bert", scores(tiny("modernbert"), "ModernBertForSequenceClassification")),
        ("qwen3", Recipe::tiny("qwen3", 3).pooled("lasttoken")),
        ("gemma-embedding", Recipe::tiny_embedding_gemma(3)),
        ("gemma3", Recipe::tiny_embedding_gemma(3).quantized(8, 32)),
    ]
}

fn tokenizer(folder: &TempFolder) -> Tokenizer {
    Tokenizer::open(folder.path()).unwrap()
}

/// The vector or score of tokens, in full precision.
fn encoded(folder: &TempFolder, Whole { tokens, segments, .. }: &Whole) -> Vec<f32> {
    let mut encoder = Encoder::open(folder.path(), 1, Precision::Exact, &mut |_, _| {}).unwrap();
    let mut out = Vec::new();
    encoder.encode(&[Text { tokens, segments }], &mut || {}, &mut out).unwrap();
    out
}

#[test]
fn plain_numbers_give_the_very_vectors_and_scores_of_the_original() {
    for (architecture, recipe) in recipes() {
        let (folder, path) = file_of(&recipe, Form::F32);
        let made = imported(&path);
        let pair = |folder| tokenizer(folder).pair("the house on the hill", "is it in the rain?").unwrap();
        let whole = pair(&folder);
        // A decoder that was trained to embed puts nothing between two texts.
        let decodes = ["qwen3", "gemma-embedding", "gemma3"].contains(&architecture);
        assert!(decodes || whole == pair(&made), "{architecture}");
        assert_eq!(encoded(&folder, &whole), encoded(&made, &whole), "{architecture}");
        let [before, after] = [&folder, &made].map(|folder| crate::inspect(folder.path()).unwrap());
        assert_eq!((before.parameters, before.dimensions), (after.parameters, after.dimensions), "{architecture}");
        assert_eq!(before.capabilities, after.capabilities, "{architecture}");
    }
}

#[test]
fn what_an_encoder_asks_and_nothing_here_does_is_refused() {
    let bert = Recipe::tiny_encoder("bert", 3);
    let refused = |key: &'static str, value: u32| {
        let (_folder, path) = changed(&bert, |file| file.number(key, value));
        refusal(&path)
    };
    assert!(refused("bert.pooling_type", 7).contains("pooling_type 7"));
    assert!(refused("bert.pooling_type", 4).contains("lacks its pooler"));
    assert!(refused("bert.attention.head_count_kv", 2).contains("fewer heads of keys"));
    assert!(refused("bert.expert_count", 8).contains("bert.expert_count"));
    let labels = bert.clone().set("architectures", vec!["BertForSequenceClassification"]).set("num_labels", 1);
    let (_folder, path) = changed(&labels, |file| file.vector("cls.extra.weight", vec![0.0; 4]));
    assert!(refusal(&path).contains("cls.extra.weight"));
    let (_folder, path) = changed(&Recipe::tiny("qwen3", 3), |file| file.number("qwen3.pooling_type", 4));
    assert!(refusal(&path).contains("qwen3.pooling_type 4"));
    let (_folder, path) = changed(&Recipe::tiny_embedding_gemma(3), |file| {
        ["dense_2.weight", "dense_3.weight"].into_iter().for_each(|name| file.remove(name));
    });
    assert!(refusal(&path).contains("EmbeddingGemma without its matrices after pooling"));
}

/// The tokenizer of a tiny BERT's file with a vocabulary of its own: tokens, scores and kinds.
fn with_pieces(model: &str, pieces: &[(&str, f32, i32)], more: impl Fn(&mut Gguf<'_>)) -> Tokenizer {
    let (_folder, path) = changed(&Recipe::tiny_encoder("bert", 3), |file| {
        file.text("tokenizer.ggml.model", model);
        file.texts("tokenizer.ggml.tokens", pieces.iter().map(|(piece, ..)| (*piece).to_string()));
        file.floats("tokenizer.ggml.scores", &pieces.iter().map(|(_, score, _)| *score).collect::<Vec<_>>());
        let kinds: Vec<i32> = pieces.iter().map(|(.., kind)| *kind).collect();
        file.numbers("tokenizer.ggml.token_type", kinds.into_iter());
        more(file);
    });
    tokenizer(&imported(&path))
}

/// Marks where words begin, as files do.
const WORDS: [(&str, f32, i32); 8] = [
    ("[PAD]", 0.0, 3),
    ("[UNK]", 0.0, 3),
    ("[CLS]", 0.0, 3),
    ("[SEP]", 0.0, 3),
    ("▁house", 0.0, 1),
    ("s", 0.0, 1),
    ("▁cafe", 0.0, 1),
    ("▁!", 0.0, 1),
];

#[test]
fn words_are_cut_into_pieces_that_begin_or_go_on() {
    let tokenizer = with_pieces("bert", &WORDS, |_| {});
    assert_eq!(tokenizer.whole("Houses café!").unwrap().tokens, [2, 4, 5, 6, 7, 3], "case and accents are dropped");
    assert_eq!(tokenizer.whole("s house").unwrap().tokens, [2, 1, 4, 3], "a piece that goes on begins no word");
    let pair = tokenizer.pair("house", "cafe").unwrap();
    assert_eq!((pair.tokens, pair.segments), (vec![2, 4, 3, 6, 3], vec![0, 0, 0, 1, 1]));
}

#[test]
fn letters_keep_their_case_where_the_vocabulary_or_the_file_says_so() {
    let mut cased = WORDS.to_vec();
    cased.push(("▁House", 0.0, 1));
    assert_eq!(with_pieces("bert", &cased, |_| {}).whole("House house").unwrap().tokens, [2, 8, 4, 3]);
    let told = with_pieces("bert", &WORDS, |file| file.flag("tokenizer.ggml.normalizer.lowercase", false));
    assert_eq!(told.whole("House").unwrap().tokens, [2, 1, 3]);
}

#[test]
fn the_likeliest_pieces_are_found_and_two_tokens_part_a_pair() {
    let pieces = [
        ("<s>", 0.0, 3),
        ("<pad>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<unk>", 0.0, 2),
        ("▁the", -2.0, 1),
        ("▁", -3.0, 1),
        ("the", -9.0, 1),
        ("▁th", -4.0, 1),
        ("e", -4.0, 1),
    ];
    let tokenizer = with_pieces("t5", &pieces, |_| {});
    assert_eq!(tokenizer.whole("  the   the e ").unwrap().tokens, [0, 4, 4, 5, 8, 2], "spaces count once");
    assert_eq!(tokenizer.whole("x").unwrap().tokens, [0, 5, 3, 2]);
    let pair = tokenizer.pair("the", "e").unwrap();
    assert_eq!(pair.tokens, [0, 4, 2, 2, 5, 8, 2]);
}

#[test]
fn a_broken_table_of_letters_is_refused_and_not_met_while_reading() {
    let (_folder, path) = changed(&Recipe::tiny_encoder("bert", 3), |file| {
        file.text("tokenizer.ggml.model", "t5");
        file.texts("tokenizer.ggml.tokens", ["<s>", "</s>", "<unk>"].iter().map(|token| (*token).to_string()));
        file.floats("tokenizer.ggml.scores", &[0.0; 3]);
        file.numbers("tokenizer.ggml.token_type", [3, 3, 2].into_iter());
        file.numbers("tokenizer.ggml.precompiled_charsmap", [9, 9].into_iter());
    });
    assert!(refusal(&path).contains("precompiled_charsmap"));
}
