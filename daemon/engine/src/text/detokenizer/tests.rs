//! Streams against whole texts.

use super::*;
use crate::text::Special;
use crate::text::tokenizer::samples::{byte_level, open, sentencepiece};

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }
}

/// The text of tokens, streamed; and every piece of it.
fn stream(detokenizer: &mut Detokenizer, tokens: &[u32]) -> (String, Vec<String>) {
    let mut pieces: Vec<String> = tokens.iter().map(|token| detokenizer.push(*token)).collect();
    pieces.push(detokenizer.finish());
    (pieces.concat(), pieces)
}

/// What the tokens' bytes are as a whole.
fn whole(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let shown = tokens.iter().filter(|token| !tokenizer.is_special(**token));
    let bytes: Vec<u8> = shown.flat_map(|token| tokenizer.token_bytes(*token)).copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn streams_of_random_tokens_equal_the_whole_text() {
    let mut random = Random(1);
    for tokenizer in [open(&byte_level()), open(&sentencepiece())] {
        for _ in 0..2000 {
            let tokens: Vec<u32> = (0..random.below(40))
                .map(|_| match random.below(3) {
                    // Bytes of long characters are common, so that many are complete.
                    0 => 0x80 + random.below(0x80),
                    1 => 0xF0 + random.below(5),
                    _ => random.below(tokenizer.vocabulary() + 5),
                })
                .collect();
            let (text, _) = stream(&mut Detokenizer::new(&tokenizer, Start::Middle), &tokens);
            assert_eq!(text, whole(&tokenizer, &tokens), "{tokens:?}");
        }
    }
}

#[test]
fn streams_of_random_texts_equal_the_text() {
    let letters: Vec<char> = "hello wx\n日本語😀👨‍👩‍👧é\u{301}ä\u{feff}ß\u{10ffff}".chars().collect();
    let mut random = Random(2);
    for tokenizer in [open(&byte_level()), open(&sentencepiece())] {
        for _ in 0..500 {
            let text: String =
                (0..random.below(30)).map(|_| letters[random.below(letters.len() as u32) as usize]).collect();
            let tokens = tokenizer.encode(&text, Special::Parse).unwrap();
            let (streamed, pieces) = stream(&mut Detokenizer::new(&tokenizer, Start::Text), &tokens);
            assert_eq!(streamed, text);
            assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        }
    }
}

#[test]
fn an_emoji_comes_out_with_its_last_byte() {
    let tokenizer = open(&byte_level());
    let mut detokenizer = Detokenizer::new(&tokenizer, Start::Text);
    let pieces: Vec<String> = [0xF0, 0x9F, 0x98, 0x80].map(|token| detokenizer.push(token)).into();
    assert_eq!(pieces, ["", "", "", "😀"]);
}

#[test]
fn a_broken_character_does_not_swallow_what_follows() {
    let tokenizer = open(&byte_level());
    let (text, pieces) = stream(&mut Detokenizer::new(&tokenizer, Start::Text), &[0xE2, 0x82, 0x61, 0xFF, 0xE2]);
    assert_eq!(text, "\u{fffd}a\u{fffd}\u{fffd}");
    assert_eq!(pieces, ["", "", "\u{fffd}a", "\u{fffd}", "", "\u{fffd}"]);
}

#[test]
fn an_answer_loses_the_space_that_its_vocabulary_adds() {
    let tokenizer = open(&sentencepiece());
    let tokens = tokenizer.encode(" hello", Special::Plain).unwrap();
    assert_eq!(stream(&mut Detokenizer::new(&tokenizer, Start::Text), &tokens).0, " hello");
    assert_eq!(stream(&mut Detokenizer::new(&tokenizer, Start::Middle), &tokens).0, "  hello");
    let hello = [2, tokenizer.token_id("▁hello").unwrap(), tokenizer.token_id("▁hello").unwrap()];
    assert_eq!(stream(&mut Detokenizer::new(&tokenizer, Start::Text), &hello).0, "hello hello");
    let tokenizer = open(&byte_level());
    assert_eq!(stream(&mut Detokenizer::new(&tokenizer, Start::Text), &[260]).0, " hello");
}

#[test]
fn special_tokens_are_left_out_unless_shown() {
    let tokenizer = open(&byte_level());
    let tokens = [265, 259, 267, 266];
    assert_eq!(stream(&mut Detokenizer::new(&tokenizer, Start::Text), &tokens).0, "hello<think>");
    let mut showing = Detokenizer::new(&tokenizer, Start::Text).showing(["<|im_end|>", "<unknown>"]);
    assert_eq!(stream(&mut showing, &tokens).0, "hello<think><|im_end|>");
}
