//! The bytes of every token, laid out once when a tokenizer is opened.
//!
//! A vocabulary spells its tokens in one of three ways: byte-level (each byte a printable character), sentencepiece (`▁`
//! for a space, `<0xNN>` for a byte) or WordPiece (`##` where a word goes on); `tokenizer.json` names it in its decoder.
//! Added tokens are spelled as they are. Other decoders are refused by name. Only the tokenizer uses it.

use std::path::Path;

use serde_json::Value;

use crate::text::TextError;

/// The most bytes of a token. The longest known are some hundred spaces.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// The most bytes of all tokens: a decoder may write a vocabulary longer, but not without end.
const BYTES_MAX: usize = 64 << 20;

/// All tokens' bytes end to end, and where each begins.
pub struct Pieces {
    bytes: Vec<u8>,
    /// One entry per id, and one for the end.
    starts: Vec<u32>,
    special: Vec<bool>,
    leading_spaces: usize,
}

/// How a vocabulary spells bytes.
#[derive(Default)]
struct Spelling {
    byte_level: bool,
    byte_fallback: bool,
    /// What stands for what, as `▁` for a space.
    replacements: Vec<(String, String)>,
    words: Option<Words>,
    leading_spaces: usize,
}

/// A vocabulary of words and what they go on with.
struct Words {
    /// What a piece begins with that goes on with a word.
    goes_on: String,
    /// Whether there is no space before some marks and short forms.
    tidy: bool,
}

/// What no space is put before where a text is tidied.
const TIDIED: [&str; 9] = [".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"];

impl Pieces {
    /// Spells out the vocabulary; `path` is named in errors.
    pub fn new(tokenizer: &tokenizers::Tokenizer, path: &Path) -> Result<Self, TextError> {
        let decoder = serde_json::to_value(tokenizer.get_decoder())
            .map_err(|error| TextError::invalid(path, error.to_string()))?;
        let mut spelling = Spelling::default();
        spelling.read(&decoder).map_err(|feature| TextError::Unsupported { path: path.to_path_buf(), feature })?;

        let added = tokenizer.get_added_tokens_decoder();
        let vocabulary = tokenizer.get_vocab(false);
        let ids = vocabulary.values().chain(added.keys());
        let count = ids.max().map_or(0, |id| *id as usize + 1);
        // Ids come from the file: a single huge one must not take memory for the gap before it.
        if count > 4 * (vocabulary.len() + added.len()) + 65_536 {
            return Err(TextError::invalid(path, format!("token id {} is far beyond the vocabulary", count - 1)));
        }
        let mut spelled: Vec<Vec<u8>> = vec![Vec::new(); count];
        let mut special = vec![false; count];
        let mut total = 0;
        let mut put = |id: u32, piece: Option<Vec<u8>>| {
            let piece = piece.filter(|piece| piece.len() <= PIECE_BYTES_MAX && total + piece.len() <= BYTES_MAX);
            let Some(piece) = piece else {
                return Err(TextError::invalid(path, format!("token {id} is too long as the decoder writes it")));
            };
            total += piece.len();
            spelled[id as usize] = piece;
            Ok(())
        };
        for (text, id) in &vocabulary {
            put(*id, spelling.spell(text))?;
        }
        for (id, token) in &added {
            put(*id, spelling.spell_added(&token.content))?;
            special[*id as usize] = token.special;
        }
        let mut pieces = Self { bytes: Vec::new(), starts: vec![0], special, leading_spaces: spelling.leading_spaces };
        for piece in spelled {
            pieces.bytes.extend(piece);
            pieces.starts.push(pieces.bytes.len() as u32);
        }
        Ok(pieces)
    }

    /// A token's bytes; none for an id without a token.
    pub fn bytes(&self, token: u32) -> &[u8] {
        match self.starts.get(token as usize..).and_then(|rest| rest.get(..2)) {
            Some(&[start, end]) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Whether a token is no part of the text.
    pub fn is_special(&self, token: u32) -> bool {
        self.special.get(token as usize).copied().unwrap_or(false)
    }

    /// One more than the highest id.
    pub fn count(&self) -> u32 {
        self.special.len() as u32
    }

    /// How many spaces a whole text loses at its start.
    pub fn leading_spaces(&self) -> usize {
        self.leading_spaces
    }
}

impl Spelling {
    /// Follows the decoder of `tokenizer.json`; the error is the name of one that is not supported.
    fn read(&mut self, decoder: &Value) -> Result<(), String> {
        let text = |key: &str| decoder.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        match decoder.get("type").and_then(Value::as_str) {
            None | Some("Fuse") => {}
            Some("ByteLevel") => self.byte_level = true,
            Some("ByteFallback") => self.byte_fallback = true,
            Some("Sequence") => {
                for part in decoder.get("decoders").and_then(Value::as_array).into_iter().flatten() {
                    self.read(part)?;
                }
            }
            Some("Replace") => {
                if let Some(pattern) = decoder.pointer("/pattern/String").and_then(Value::as_str) {
                    self.replacements.push((pattern.to_string(), text("content")));
                }
            }
            Some("Strip") if text("content") == " " => {
                self.leading_spaces = decoder.get("start").and_then(Value::as_u64).unwrap_or(0) as usize;
            }
            Some("Metaspace") => {
                self.replacements.push((text("replacement"), " ".to_string()));
                self.leading_spaces = usize::from(text("prepend_scheme") != "never");
            }
            Some("WordPiece") => {
                let tidy = decoder.get("cleanup").and_then(Value::as_bool).unwrap_or(true);
                self.words = Some(Words { goes_on: text("prefix"), tidy });
                self.leading_spaces = 1;
            }
            Some(other) => return Err(format!("the decoder {other}")),
        }
        Ok(())
    }

    /// The bytes of a token of the model's own vocabulary; `None` where they are too many.
    fn spell(&self, text: &str) -> Option<Vec<u8>> {
        if self.byte_level {
            let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
            return Some(bytes.unwrap_or_else(|| text.as_bytes().to_vec()));
        }
        if self.byte_fallback
            && let Some(byte) = fallback_byte(text)
        {
            return Some(vec![byte]);
        }
        self.replace(text)
    }

    /// The bytes of an added token, which is written as it is, except for sentencepiece's spaces.
    fn spell_added(&self, text: &str) -> Option<Vec<u8>> {
        if self.byte_level { Some(text.as_bytes().to_vec()) } else { self.replace(text) }
    }

    /// Each replacement may write more of what the next one replaces.
    fn replace(&self, text: &str) -> Option<Vec<u8>> {
        if let Some(words) = &self.words {
            return Some(words.spell(text));
        }
        let mut text = text.to_string();
        for (from, to) in self.replacements.iter().filter(|(from, _)| !from.is_empty()) {
            if text.matches(from).count().saturating_mul(to.len()) > PIECE_BYTES_MAX {
                return None;
            }
            text = text.replace(from, to);
        }
        Some(text.into_bytes())
    }
}

impl Words {
    /// A piece as it follows others.
    fn spell(&self, text: &str) -> Vec<u8> {
        match text.strip_prefix(&self.goes_on) {
            Some(rest) => rest.as_bytes().to_vec(),
            None if self.tidy && TIDIED.iter().any(|mark| text.starts_with(mark)) => text.as_bytes().to_vec(),
            None => format!(" {text}").into_bytes(),
        }
    }
}

/// The byte that a character stands for in a byte-level vocabulary: printable Latin-1 characters stand for
/// themselves, and the other 68 bytes follow in order from U+0100.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The byte of a token written as `<0xNN>`.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
