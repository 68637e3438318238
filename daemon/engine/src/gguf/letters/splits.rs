//! How text is cut into words before merges, by the name that GGUF gives to each way.
//!
//! GGUF stores a name where `tokenizer.json` stores the expressions themselves; these are those of the models that the
//! names come from. `tools/goldens/gguf_vocabularies.py` compares what they make of texts with those models' tokens.

use serde_json::{Value, json};

use crate::LoadError;

/// A way to cut text.
pub(in crate::gguf) struct Splits {
    /// The expressions that cut, each what those before it left whole.
    cuts: &'static [&'static str],
    /// Whether GPT-2's expression cuts what they leave.
    gpt2: bool,
    /// Whether a word that is a token stays whole, whatever the merges say.
    pub whole_words: bool,
    /// Whether a prompt begins with a token of its own, where the file does not say.
    pub begins: bool,
    /// Whether letters and their accents are composed first.
    pub composed: bool,
}

const GPT_2: Splits = Splits { cuts: &[], gpt2: true, whole_words: false, begins: false, composed: false };

const DIGITS: Splits = Splits { cuts: &[r"\p{N}"], ..GPT_2 };

const fn by(cuts: &'static [&'static str]) -> Splits {
    Splits { cuts, gpt2: false, ..GPT_2 }
}

/// The ways that are known, each with the names that it goes by.
static KNOWN: [(&[&str], Splits); 14] = [
    (
        &["gpt-2", "gpt2", "phi-2", "mellum", "a.x-4.0", "trillion", "granite-docling", "roberta-bpe", "modern-bert"],
        GPT_2,
    ),
    (&["olmo"], Splits { composed: true, ..GPT_2 }),
    (&["smollm", "starcoder", "refact", "minerva-7b"], DIGITS),
    (&["command-r"], Splits { composed: true, ..DIGITS }),
    (
        &["llama-bpe", "llama-v3", "llama3", "falcon3", "pixtral", "midm-2.0"],
        Splits { whole_words: true, begins: true, ..by(&[LLAMA_3]) },
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], by(&[LLAMA_3])),
    (&["glm4", "glm5"], Splits { whole_words: true, ..by(&[LLAMA_3]) }),
    (&["qwen2", "deepseek-r1-qwen", "megrez"], Splits { composed: true, ..by(&[QWEN_2]) }),
    (&["qwen35"], Splits { composed: true, ..by(&[QWEN_3_5]) }),
    (&["tekken"], Splits { whole_words: true, begins: true, ..by(&[TEKKEN]) }),
    (&["gpt-4o", "llama4", "kanana2"], by(&[O200K])),
    (&["deepseek-llm"], by(&[r"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_MARKS, r"\s+$", DEEPSEEK_HAN, r"\p{N}"])),
    (&["deepseek-coder"], by(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_HAN, r"\p{N}"])),
    (&["deepseek-v3", "joyai-llm"], by(&[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK_V3])),
];

/// Llama 3's, which has up to three digits in a word.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's, which has one.
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's of 2024, which tells capitals from other letters.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// That of gpt-oss, which does so too.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 3.5's, which keeps a letter and its marks together.
const QWEN_3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek's first, which lists the letters that come in two cases, marks of punctuation, and the scripts between.
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_MARKS: &str = "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+";
const DEEPSEEK_HAN: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
/// DeepSeek's of V3, which takes a mark along with the letters after it.
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

impl Splits {
    /// The way of a name.
    pub fn named(name: Option<&str>) -> Result<&'static Self, LoadError> {
        let name = name.unwrap_or("default");
        let found = KNOWN.iter().find(|(names, _)| names.contains(&name));
        found.map(|(_, splits)| splits).ok_or_else(|| {
            let known: Vec<&str> = Self::names().collect();
            LoadError::unsupported(
                format!("the way {name} of a GGUF file to split text (tokenizer.ggml.pre)"),
                format!("{} are", known.join(", ")),
            )
        })
    }

    /// The names that are known.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().flat_map(|(names, _)| *names).copied()
    }

    /// The same for `tokenizer.json`.
    pub fn pre_tokenizer(&self) -> Value {
        let cut = |expression: &&str| json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false });
        let level =
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": self.gpt2 });
        let steps: Vec<Value> = self.cuts.iter().map(cut).chain([level]).collect();
        json!({ "type": "Sequence", "pretokenizers": steps })
    }
}
