//! Tokenizers, templates and generation settings as the files say them.

use super::*;
use crate::text::{GenerationDefaults, Special, Tokenizer};

/// A file of a tiny Llama with a vocabulary of its own: tokens with scores and kinds.
fn with_pieces(pieces: &[(&str, f32, i32)], more: impl Fn(&mut Gguf<'_>)) -> (TempFolder, PathBuf) {
    changed(&Recipe::tiny("llama", 3), |file| {
        file.text("tokenizer.ggml.model", "llama");
        file.texts("tokenizer.ggml.tokens", pieces.iter().map(|(piece, ..)| (*piece).to_string()));
        file.floats("tokenizer.ggml.scores", &pieces.iter().map(|(_, score, _)| *score).collect::<Vec<_>>());
        file.numbers(
            "tokenizer.ggml.token_type",
            pieces.iter().map(|(.., kind)| *kind).collect::<Vec<_>>().into_iter(),
        );
        more(file);
    })
}

const PIECES: &[(&str, f32, i32)] = &[
    ("<unk>", 0.0, 2),
    ("<s>", 0.0, 3),
    ("</s>", 0.0, 3),
    ("<0x0A>", 0.0, 6),
    ("<0xC3>", 0.0, 6),
    ("<0xA9>", 0.0, 6),
    ("▁t", -1.0, 1),
    ("he", -2.0, 1),
    ("▁the", -3.0, 1),
    ("th", -4.0, 1),
    ("▁", -5.0, 1),
    ("t", -6.0, 1),
    ("h", -7.0, 1),
    ("e", -8.0, 1),
    ("<", -9.0, 1),
    ("/", -10.0, 1),
    ("s", -11.0, 1),
    (">", -12.0, 1),
    ("</", -13.0, 1),
];

fn texts(tokenizer: &Tokenizer, text: &str, special: Special) -> Vec<String> {
    let bytes = |token: &u32| String::from_utf8_lossy(tokenizer.token_bytes(*token)).into_owned();
    tokenizer.encode(text, special).unwrap().iter().map(bytes).collect()
}

#[test]
fn byte_level_text_becomes_the_tokens_that_the_original_has_for_it() {
    let recipe = Recipe::tiny("qwen3", 3);
    let (folder, path) = file_of(&recipe, Form::F32);
    let made = imported(&path);
    let (original, copy) = (Tokenizer::open(folder.path()).unwrap(), Tokenizer::open(made.path()).unwrap());
    for text in ["the house on the hill", "it's 1234 €, isn't it?\n\n  and <|im_end|> é", "", " "] {
        for special in [Special::Plain, Special::Parse, Special::Begin] {
            assert_eq!(original.encode(text, special).unwrap(), copy.encode(text, special).unwrap(), "{text:?}");
        }
    }
    let defaults = GenerationDefaults::open(made.path(), &copy, None).unwrap();
    assert_eq!(defaults.eos, GenerationDefaults::open(folder.path(), &original, None).unwrap().eos);
}

#[test]
fn scores_join_pieces_best_first_and_bytes_spell_the_rest() {
    let (_folder, path) = with_pieces(PIECES, |file| {
        file.number("tokenizer.ggml.bos_token_id", 1);
        file.number("tokenizer.ggml.eos_token_id", 2);
    });
    let made = imported(&path);
    let tokenizer = Tokenizer::open(made.path()).unwrap();
    // `▁t` and `he` are better than `th`, and together they are `▁the`.
    assert_eq!(texts(&tokenizer, "the the", Special::Plain), [" the", " the"]);
    assert_eq!(texts(&tokenizer, "the", Special::Begin), ["<s>", " the"]);
    assert_eq!(texts(&tokenizer, "\n", Special::Plain), [" ", "\n"]);
    assert_eq!(tokenizer.encode("é", Special::Plain).unwrap(), [10, 4, 5]);
    // Text that spells a special token joins to no such token unless it is asked to.
    assert_eq!(texts(&tokenizer, "</s>", Special::Plain), [" ", "</", "s", ">"]);
    assert_eq!(tokenizer.encode("</s>", Special::Parse).unwrap(), [2]);
    let defaults = GenerationDefaults::open(made.path(), &tokenizer, None).unwrap();
    assert_eq!(defaults.eos, [2]);
}

#[test]
fn symbols_of_a_user_that_a_file_calls_ordinary_are_found_before_merges() {
    let pieces: Vec<_> = PIECES.iter().copied().chain([("\n\n", 0.0, 1), ("<s/", 0.0, 1)]).collect();
    let (_folder, path) = with_pieces(&pieces, |file| file.flag("tokenizer.ggml.add_space_prefix", false));
    let tokenizer = Tokenizer::open(imported(&path).path()).unwrap();
    assert_eq!(tokenizer.encode("t\n\n\n<s/>", Special::Parse).unwrap(), [11, 19, 3, 20, 17]);
}

#[test]
fn a_file_says_whether_a_space_and_a_token_come_first() {
    let (_folder, path) = with_pieces(PIECES, |file| {
        file.number("tokenizer.ggml.bos_token_id", 1);
        file.flag("tokenizer.ggml.add_bos_token", false);
        file.flag("tokenizer.ggml.add_space_prefix", false);
    });
    let tokenizer = Tokenizer::open(imported(&path).path()).unwrap();
    assert_eq!(texts(&tokenizer, "the", Special::Begin), ["t", "he"]);
}

#[test]
fn templates_and_sampling_come_along() {
    let (_folder, path) = with_pieces(PIECES, |file| {
        file.text("tokenizer.chat_template", "{{ messages[0].content }}");
        file.texts("tokenizer.chat_templates", ["tool_use".to_string()].into_iter());
        file.text("tokenizer.chat_template.tool_use", "{{ tools }}");
        file.float("general.sampling.temp", 0.5);
        file.number("general.sampling.top_k", 20);
        file.number("tokenizer.ggml.eos_token_id", 2);
        file.number("tokenizer.ggml.eot_token_id", 5);
    });
    let made = imported(&path);
    let facts = crate::inspect(made.path()).unwrap();
    assert!(facts.capabilities.chat && facts.capabilities.tools);
    let tokenizer = Tokenizer::open(made.path()).unwrap();
    let defaults = GenerationDefaults::open(made.path(), &tokenizer, None).unwrap();
    assert_eq!((defaults.temperature, defaults.top_k), (Some(0.5), Some(20)));
    assert_eq!(defaults.eos, [2, 5]);
}

#[test]
fn letters_that_are_not_known_or_do_not_fit_are_refused_by_name() {
    let says = |change: &dyn Fn(&mut Gguf<'_>), words: &str| {
        let (_folder, path) = changed(&Recipe::tiny("llama", 3), |file| change(file));
        let refusal = refusal(&path);
        assert!(refusal.contains(words), "{refusal:?} does not say {words}");
    };
    let tokens = |file: &mut Gguf<'_>, count: usize| {
        file.texts("tokenizer.ggml.tokens", (0..count).map(|id| format!("t{id}")));
    };
    let model = |file: &mut Gguf<'_>, model: &str| file.text("tokenizer.ggml.model", model);
    says(&|file| model(file, "gpt2"), "0 tokens");
    says(&|file| tokens(file, 10_000), "10000 tokens");
    says(&|file| (tokens(file, 9), model(file, "t5")).0, "tokenizer t5");
    says(&|file| (tokens(file, 9), model(file, "gpt2"), file.text("tokenizer.ggml.pre", "viking")).0, "viking");
    says(&|file| (tokens(file, 9), model(file, "llama")).0, "scores");
    says(
        &|file| {
            tokens(file, 9);
            model(file, "gpt2");
            file.text("tokenizer.ggml.pre", "qwen2");
            file.number("tokenizer.ggml.eos_token_id", 9);
        },
        "eos_token_id is 9",
    );
}

/// Words of a text, by the way of a name.
fn words(pre: &str, text: &str) -> Vec<String> {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper};
    let steps = crate::gguf::letters::Splits::named(Some(pre)).unwrap().pre_tokenizer();
    let steps: PreTokenizerWrapper = serde_json::from_value(steps).unwrap();
    let mut pieces = PreTokenizedString::from(text);
    steps.pre_tokenize(&mut pieces).unwrap();
    let words = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    words.into_iter().map(|(_, (start, end), _)| text[start..end].to_string()).collect()
}

#[test]
fn each_way_cuts_words_where_its_model_does() {
    let text = "It'S camelCase 1234 a\u{301}b 中文 +-\n\n  x";
    for (pre, expected) in [
        ("gpt-2", "It|'|S| camelCase| 1234| a|\u{301}|b| 中文| +-|\n\n | x"),
        ("smollm", "It|'|S| camelCase| |1|2|3|4| a|\u{301}|b| 中文| +-|\n\n | x"),
        ("llama-bpe", "It|'S| camelCase| |123|4| a|\u{301}b| 中文| +-\n\n| | x"),
        ("qwen2", "It|'S| camelCase| |1|2|3|4| a|\u{301}b| 中文| +-\n\n| | x"),
        ("qwen35", "It|'S| camelCase| |1|2|3|4| a\u{301}b| 中文| +-\n\n| | x"),
        ("tekken", "It|'S| camel|Case| |1|2|3|4| a\u{301}b| 中文| +-\n\n| | x"),
        ("gpt-4o", "It'S| camel|Case| |123|4| a\u{301}b| 中文| +-\n\n| | x"),
        ("deepseek-llm", "It|'|S| camelCase| |1|2|3|4| a|\u{301}|b| |中文| +-|\n|\n| | x"),
        ("deepseek-coder", "It|'|S| camelCase| |1|2|3|4| a|\u{301}|b| |中文| +|-|\n|\n| | x"),
        ("deepseek-v3", "It|'S| camelCase| |123|4| a\u{301}b| |中文| +-\n\n| | x"),
    ] {
        assert_eq!(words(pre, text).join("|"), expected, "{pre}");
    }
}

#[test]
fn each_known_way_to_split_text_is_one_that_the_tokenizer_reads() {
    let recipe = Recipe::tiny("qwen3", 3);
    let folder = recipe.temporary().unwrap();
    for pre in crate::gguf::letters::Splits::names() {
        let (_folder, path) = changed(&recipe, |file| {
            letters(folder.path(), file, pre).unwrap();
            file.number("tokenizer.ggml.bos_token_id", 285);
        });
        let tokenizer = Tokenizer::open(imported(&path).path()).unwrap();
        let text = "Hello 12345 World's  ends é\n\n";
        let tokens = tokenizer.encode(text, Special::Begin).unwrap();
        let begins = matches!(pre, "llama-bpe" | "llama-v3" | "llama3" | "falcon3" | "pixtral" | "midm-2.0" | "tekken");
        assert_eq!(tokens[0] == 285, begins, "{pre}");
        let bytes: Vec<u8> =
            tokens.iter().skip(usize::from(begins)).flat_map(|id| tokenizer.token_bytes(*id)).copied().collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), text, "{pre}");
    }
}

#[test]
fn accents_are_composed_for_the_models_that_were_trained_so() {
    for (pre, composed) in
        [("qwen2", true), ("qwen35", true), ("command-r", true), ("llama-bpe", false), ("refact", false)]
    {
        let recipe = Recipe::tiny("qwen3", 3);
        let folder = recipe.temporary().unwrap();
        let (_folder, path) = changed(&recipe, |file| letters(folder.path(), file, pre).unwrap());
        let tokenizer = Tokenizer::open(imported(&path).path()).unwrap();
        let tokens = tokenizer.encode("e\u{301}", Special::Plain).unwrap();
        let bytes = tokens.iter().flat_map(|token| tokenizer.token_bytes(*token)).copied().collect();
        let expected = if composed { "\u{e9}" } else { "e\u{301}" };
        assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{pre}");
    }
}

#[test]
fn what_ends_answers_is_known_by_its_spelling_where_a_file_names_one_end_of_several() {
    let ends = |pieces: &[&str]| {
        let pieces: Vec<(&str, f32, i32)> = pieces.iter().map(|piece| (*piece, 0.0, 3)).collect();
        let (_folder, path) = with_pieces(&pieces, |file| file.number("tokenizer.ggml.eos_token_id", 1));
        let made = imported(&path);
        let tokenizer = Tokenizer::open(made.path()).unwrap();
        GenerationDefaults::open(made.path(), &tokenizer, None).unwrap().eos
    };
    assert_eq!(ends(&["<unk>", "<eos>", "<start_of_turn>", "<end_of_turn>"]), [1, 3]);
    assert_eq!(ends(&["<unk>", "<|endoftext|>", "<|user|>", "<|end|>"]), [1, 3]);
    assert_eq!(ends(&["<|end|>", "<|return|>", "<|channel|>", "<|call|>"]), [1, 3], "a message's end is no answer's");
}
