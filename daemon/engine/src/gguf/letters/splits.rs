//! How text is cut into words before merges, by the name that GGUF gives to each way.
//!
//! GGUF stores a name where `tokenizer.json` stores the expressions themselves; these are those of the models that the
//! names come from.

use serde_json::{Value, json};

use crate::LoadError;

/// A way to cut text.
pub(super) struct Splits {
    cut: Cut,
    /// Whether a word that is a token stays whole, whatever the merges say.
    pub whole_words: bool,
    /// Whether a prompt begins with a token of its own, where the file does not say.
    pub begins: bool,
    /// Whether letters and their accents are composed first.
    pub composed: bool,
}

/// What cuts.
enum Cut {
    /// GPT-2's expression.
    Gpt2,
    /// The same, with each digit alone.
    Digits,
    /// Another one.
    By(&'static str),
}

const PLAIN: Splits = Splits { cut: Cut::Gpt2, whole_words: false, begins: false, composed: false };

/// Llama 3's, which has up to three digits in a word.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's, which has one.
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's of 2024, which tells capitals from other letters.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// That of gpt-oss, which does so too.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Splits {
    /// The way of a name.
    pub fn named(name: Option<&str>) -> Result<Self, LoadError> {
        let name = name.unwrap_or("default");
        Ok(match name {
            "llama-bpe" | "llama-v3" | "llama3" | "falcon3" => {
                Self { cut: Cut::By(LLAMA_3), whole_words: true, begins: true, ..PLAIN }
            }
            "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => Self { cut: Cut::By(LLAMA_3), ..PLAIN },
            "qwen2" | "deepseek-r1-qwen" => Self { cut: Cut::By(QWEN_2), composed: true, ..PLAIN },
            "gpt-2" | "gpt2" | "olmo" | "phi-2" => PLAIN,
            "smollm" | "starcoder" | "refact" | "command-r" => Self { cut: Cut::Digits, ..PLAIN },
            "tekken" => Self { cut: Cut::By(TEKKEN), whole_words: true, begins: true, ..PLAIN },
            "gpt-4o" => Self { cut: Cut::By(O200K), ..PLAIN },
            other => {
                return Err(LoadError::unsupported(
                    format!("the way {other} of a GGUF file to split text (tokenizer.ggml.pre)"),
                    "llama-bpe, qwen2, gpt-2, dbrx, smaug-bpe, glm4, smollm, starcoder, refact, command-r, tekken and \
                     gpt-4o are",
                ));
            }
        })
    }

    /// The same for `tokenizer.json`.
    pub fn pre_tokenizer(&self) -> Value {
        let level = |cuts: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": cuts });
        let first = match self.cut {
            Cut::Gpt2 => return level(true),
            Cut::Digits => json!({ "type": "Digits", "individual_digits": true }),
            Cut::By(expression) => json!({
                "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated", "invert": false,
            }),
        };
        let cuts = matches!(self.cut, Cut::Digits);
        json!({ "type": "Sequence", "pretokenizers": [first, level(cuts)] })
    }
}
