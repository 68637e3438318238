//! What becomes of text, of special tokens, and of broken files.

use serde_json::json;

use super::samples::{Folder, byte_level, open, sentencepiece, word_pieces};
use super::*;

fn text_of(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| tokenizer.token_bytes(*token)).copied().collect();
    String::from_utf8(bytes).expect("the tokens are whole characters")
}

#[test]
fn tokens_spell_the_text_they_came_from() {
    let text = "hello wörld 😀 日本語\r\n\tx = \"</s>\"; \u{301}\u{0}\u{7f}\u{ad}";
    let tokenizer = open(&byte_level());
    for special in [Special::Plain, Special::Parse, Special::Begin] {
        assert_eq!(text_of(&tokenizer, &tokenizer.encode(text, special).unwrap()), text);
    }
    let tokenizer = open(&sentencepiece());
    assert_eq!(text_of(&tokenizer, &tokenizer.encode(text, Special::Plain).unwrap()), format!(" {text}"));
}

#[test]
fn every_byte_is_spelled_exactly() {
    let tokenizer = open(&byte_level());
    for byte in 0..=255u8 {
        assert_eq!(tokenizer.token_bytes(u32::from(byte)), [byte]);
    }
    assert_eq!(tokenizer.token_bytes(260), b" hello");
    assert_eq!(tokenizer.token_bytes(263), b"\xF0\x9F\x98");
    let tokenizer = open(&sentencepiece());
    for byte in 0..=255u8 {
        assert_eq!(tokenizer.token_bytes(u32::from(byte) + 3), [byte]);
    }
    assert_eq!(tokenizer.token_bytes(tokenizer.token_id("▁hello").unwrap()), b" hello");
}

#[test]
fn words_and_what_they_go_on_with_are_joined_as_the_library_joins_them() {
    let tokenizer = open(&word_pieces());
    assert_eq!(tokenizer.encode("It's houses.", Special::Plain).unwrap(), [7, 8, 9, 5, 6, 11]);
    for tokens in [&[7, 8, 9, 5, 6, 11][..], &[5, 10, 12, 13, 11, 5], &[2, 5, 3]] {
        let joined = tokenizer.inner.tokenizer.decode(tokens, false).unwrap();
        assert_eq!(text_of(&tokenizer, tokens)[tokenizer.leading_spaces()..], joined);
    }
}

#[test]
fn added_tokens_are_spelled_as_they_are() {
    let tokenizer = open(&byte_level());
    assert_eq!(tokenizer.token_bytes(265), b"<|im_start|>");
    assert_eq!(tokenizer.token_bytes(268), "<｜end▁of▁sentence｜>".as_bytes());
    assert!(tokenizer.is_special(265) && !tokenizer.is_special(267) && !tokenizer.is_special(0));
}

#[test]
fn ids_without_a_token_have_no_bytes() {
    let tokenizer = open(&byte_level());
    assert_eq!(tokenizer.vocabulary(), 269);
    for id in [269, 270, 100_000, u32::MAX] {
        assert_eq!(tokenizer.token_bytes(id), b"");
        assert!(!tokenizer.is_special(id));
    }
}

#[test]
fn special_tokens_are_parsed_only_on_request() {
    let tokenizer = open(&byte_level());
    let text = "<|im_start|>hello<think>";
    assert_eq!(tokenizer.encode(text, Special::Parse).unwrap(), [265, 259, 267]);
    let plain = tokenizer.encode(text, Special::Plain).unwrap();
    assert!(plain.iter().all(|token| *token < 264), "{plain:?}");
    assert_eq!(text_of(&tokenizer, &plain), text);
}

#[test]
fn truncation_settings_in_the_file_are_ignored() {
    let tokenizer = open(&byte_level());
    assert_eq!(tokenizer.encode("abcdefgh", Special::Parse).unwrap().len(), 8);
}

#[test]
fn a_raw_prompt_begins_as_the_model_expects() {
    let begin = |tokenizer: serde_json::Value, config: serde_json::Value| {
        let folder =
            Folder::new(&[("tokenizer.json", &tokenizer.to_string()), ("tokenizer_config.json", &config.to_string())]);
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        (tokenizer.encode("x", Special::Begin).unwrap()[0], tokenizer.encode("x", Special::Parse).unwrap()[0])
    };
    let mark = json!("<s>");
    let x_after_mark = begin(sentencepiece(), json!({})).1;
    assert_eq!(begin(sentencepiece(), json!({})), (1, x_after_mark));
    assert_eq!(begin(sentencepiece(), json!({"bos_token": mark, "add_bos_token": true})), (1, x_after_mark));
    assert_eq!(
        begin(sentencepiece(), json!({"bos_token": mark, "add_bos_token": false})),
        (x_after_mark, x_after_mark)
    );
    let bos = json!({"content": "<|endoftext|>"});
    assert_eq!(begin(byte_level(), json!({"bos_token": bos})), (120, 120));
    assert_eq!(begin(byte_level(), json!({"bos_token": bos, "add_bos_token": true})), (264, 120));
}

#[test]
fn long_prompts_of_every_shape_are_encoded() {
    // Quadratic work on any of these would take minutes.
    let shapes = ["hello ", "x", " ", "\n", "日", "<|im_start|>", "hello, 😀!\n\n"];
    for tokenizer in [open(&byte_level()), open(&sentencepiece())] {
        for shape in shapes {
            let text = shape.repeat(200_000 / shape.len());
            for special in [Special::Plain, Special::Parse] {
                let tokens = tokenizer.encode(&text, special).unwrap();
                assert_eq!(text_of(&tokenizer, &tokens).trim_start(), text.trim_start());
            }
        }
    }
}

#[test]
fn a_text_of_too_many_tokens_is_refused_before_all_of_it_is_read() {
    let tokenizer = open(&byte_level());
    let at_most = |text: &str, most| tokenizer.encode_at_most(text, Special::Parse, most);
    for text in ["hello wörld 😀", "", &" hello".repeat(300)] {
        assert_eq!(at_most(text, 4).ok(), tokenizer.encode(text, Special::Parse).ok(), "a short text is read whole");
    }
    let long = "日x".repeat(1 << 20);
    match at_most(&long, 1_000) {
        Err(TextError::TooLong { more_than }) => assert!((1_000..20_000).contains(&more_than), "{more_than}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(at_most(&long, 1 << 22).unwrap().len(), 4 << 20);
}

#[test]
fn broken_files_are_named() {
    let message = |files: &[(&str, &str)]| {
        let folder = Folder::new(files);
        Tokenizer::open(folder.path()).err().expect("the folder is refused").to_string()
    };
    let sound = byte_level().to_string();
    assert!(message(&[]).contains("tokenizer.json is missing"));
    for end in [0, 1, sound.len() / 2, sound.len() - 1] {
        assert!(message(&[("tokenizer.json", &sound[..end])]).contains("tokenizer.json is invalid"));
    }
    for content in ["null", "[]", "{}", "{\"model\": 5}", "{\"model\": {\"type\": \"BPE\"}, \"decoder\": [1]}"] {
        assert!(message(&[("tokenizer.json", content)]).contains("tokenizer.json is invalid"), "{content}");
    }
    let half = sound.replace("\"decoder\":{", "\"decoder\":{\"half\":\"\\ud800\",");
    assert!(half != sound && message(&[("tokenizer.json", &half)]).contains("tokenizer.json is invalid"));
    let files = [("tokenizer.json", sound.as_str()), ("tokenizer_config.json", "{\"bos")];
    assert!(message(&files).contains("tokenizer_config.json is invalid"));
    let mut table = byte_level();
    table["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "CQk="});
    assert!(message(&[("tokenizer.json", &table.to_string())]).contains("tokenizer.json is invalid"));
    let mut nameless = word_pieces();
    let first = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
    nameless["post_processor"] =
        json!({"type": "TemplateProcessing", "single": [first], "pair": [first], "special_tokens": {}});
    assert!(message(&[("tokenizer.json", &nameless.to_string())]).contains("names what it does not have"));
    let mut other = byte_level();
    other["decoder"] = json!({"type": "BPEDecoder", "suffix": "</w>"});
    assert!(message(&[("tokenizer.json", &other.to_string())]).contains("the decoder BPEDecoder"));
    let mut far = byte_level();
    far["model"]["vocab"]["far"] = json!(4_000_000_000u32);
    assert!(message(&[("tokenizer.json", &far.to_string())]).contains("far beyond"));
}

#[test]
fn steps_that_multiply_a_text_without_end_are_refused() {
    let refused = |tokenizer: &serde_json::Value| {
        let folder = Folder::new(&[("tokenizer.json", &tokenizer.to_string())]);
        Tokenizer::open(folder.path()).err().expect("the folder is refused").to_string()
    };
    let replace = |from: &str, to: String| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let ten = |one: serde_json::Value| vec![one; 10];

    let mut tokenizer = sentencepiece();
    tokenizer["normalizer"]["normalizers"] = json!(ten(replace("a", "a".repeat(40))));
    let message = refused(&tokenizer);
    assert!(message.contains("tokenizer.json is invalid: its normalizer may make a text"), "{message}");

    let mut tokenizer = sentencepiece();
    let twice = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
    let twice = json!({"type": "TemplateProcessing", "single": twice, "pair": twice, "special_tokens": {}});
    tokenizer["post_processor"] = json!({"type": "Sequence", "processors": ten(twice)});
    let message = refused(&tokenizer);
    assert!(message.contains("post-processor writes a text 1024 times"), "{message}");

    let mut tokenizer = sentencepiece();
    tokenizer["decoder"]["decoders"] = json!(ten(replace("h", "h".repeat(40))));
    let message = refused(&tokenizer);
    assert!(message.contains("is too long as the decoder writes it"), "{message}");
}
