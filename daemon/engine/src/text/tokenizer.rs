//! Turns text into a model's tokens, and a token into its exact bytes.
//!
//! `tokenizer.json` decides everything; `tokenizer_config.json` adds whether a raw prompt begins with a special token.
//! It never decodes a sequence: that is the detokenizer's, which asks for single tokens. The worker shares one
//! tokenizer between all requests; a clone is a pointer.

mod enough;
mod growth;
mod pieces;
#[cfg(test)]
pub mod samples;
#[cfg(test)]
mod tests;
mod whole;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tokenizers::{Model as _, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

pub use self::enough::read_enough;
use self::pieces::Pieces;
pub use self::whole::Whole;
use super::TextError;
use super::files;

/// What becomes of text that spells a special token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// It is ordinary text; no special token can come out.
    Plain,
    /// It becomes the special token: for prompts that a template rendered.
    Parse,
    /// As `Parse`, and the tokens that this tokenizer puts before a raw prompt are added.
    Begin,
}

/// A model's tokenizer; cloning it shares it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: tokenizers::Tokenizer,
    pieces: Pieces,
    begin: Begin,
}

/// What `tokenizer_config.json` says about the token before a raw prompt.
enum Begin {
    /// Nothing: `tokenizer.json` decides.
    Unsaid,
    Always(u32),
    Never(u32),
}

impl Tokenizer {
    /// Reads the tokenizer of a model folder.
    pub fn open(dir: &Path) -> Result<Self, TextError> {
        let Some((path, content)) = files::read(dir, "tokenizer.json")? else {
            return Err(TextError::Missing { path: dir.join("tokenizer.json") });
        };
        let mut tokenizer = parse(&content).map_err(|problem| TextError::invalid(&path, problem))?;
        let step = |step: serde_json::Result<serde_json::Value>| step.unwrap_or_default();
        let normalizer = step(serde_json::to_value(tokenizer.get_normalizer()));
        let processor = step(serde_json::to_value(tokenizer.get_post_processor()));
        if let Some(problem) = growth::problem(&normalizer, &processor) {
            return Err(TextError::invalid(&path, problem));
        }
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| TextError::invalid(&path, error.to_string()))?;
        if !can_read(&tokenizer) {
            return Err(TextError::invalid(&path, "its post-processor names what it does not have"));
        }
        let pieces = Pieces::new(&tokenizer, &path)?;
        let begin = Begin::read(dir, &tokenizer)?;
        Ok(Self { inner: Arc::new(Inner { tokenizer, pieces, begin }) })
    }

    /// Turns text into tokens. The time grows with the text's length, and not faster.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TextError> {
        let tokens = match special {
            Special::Plain => self.encode_plain(text),
            Special::Parse => self.inner.tokenizer.encode_fast(text, false).map(|it| it.get_ids().to_vec()),
            Special::Begin => {
                let encoding = self.inner.tokenizer.encode_fast(text, true);
                encoding.map(|it| self.inner.begin.apply(it.get_ids().to_vec()))
            }
        };
        tokens.map_err(|error| TextError::Encode { problem: error.to_string() })
    }

    /// Turns text into tokens where they may be so many at most; of a longer text no more is read than tells that.
    pub fn encode_at_most(&self, text: &str, special: Special, most: usize) -> Result<Vec<u32>, TextError> {
        match read_enough(text, most, |text| self.encode(text, special), Vec::len)? {
            (tokens, None) => Ok(tokens),
            (_, Some(more_than)) => Err(TextError::TooLong { more_than }),
        }
    }

    /// Runs the steps of the tokenizer except the one that looks for added tokens.
    fn encode_plain(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        use tokenizers::Normalizer as _;
        let tokenizer = &self.inner.tokenizer;
        let mut pieces = PreTokenizedString::from(text);
        if let Some(normalizer) = tokenizer.get_normalizer() {
            pieces.normalize(|piece| normalizer.normalize(piece))?;
        }
        if let Some(splitter) = tokenizer.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        Ok(splits.into_iter().flat_map(|(_, _, tokens)| tokens.iter().flatten().map(|it| it.id)).collect())
    }

    /// The bytes that a token adds to a text; empty for an id without a token. One token may be half a character.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.inner.pieces.bytes(token)
    }

    /// Whether a token steers the model and is no part of its text.
    pub fn is_special(&self, token: u32) -> bool {
        self.inner.pieces.is_special(token)
    }

    /// The id of the token that is written exactly so, if there is one.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.tokenizer.token_to_id(text)
    }

    /// One more than the highest token id; a model's logits may reach further.
    pub fn vocabulary(&self) -> u32 {
        self.inner.pieces.count()
    }

    /// Whether both spell the same text with the same tokens, as far as both have them.
    pub fn spells_as(&self, other: &Self) -> bool {
        let (own, others) = (&self.inner.pieces, &other.inner.pieces);
        let same =
            |token: u32| own.bytes(token) == others.bytes(token) && own.is_special(token) == others.is_special(token);
        (0..own.count().min(others.count())).all(same)
    }

    /// How many spaces a whole text loses at its start, because encoding put them there.
    pub(super) fn leading_spaces(&self) -> usize {
        self.inner.pieces.leading_spaces()
    }
}

/// Reads a `tokenizer.json`. The library panics over a decoder that is no JSON, and over a table that is none.
fn parse(content: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    match catch_unwind(|| tokenizers::Tokenizer::from_bytes(content)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("one of its steps cannot be read".to_string()),
    }
}

/// Whether a text and a pair of texts can be read, tokens around them included: the library looks for those tokens only
/// then, and panics where there are none.
fn can_read(tokenizer: &tokenizers::Tokenizer) -> bool {
    let read = || (tokenizer.encode_fast("a", true).is_ok(), tokenizer.encode_fast(("a", "a"), true).is_ok());
    catch_unwind(AssertUnwindSafe(read)).is_ok()
}

impl Begin {
    fn read(dir: &Path, tokenizer: &tokenizers::Tokenizer) -> Result<Self, TextError> {
        let config = files::read_object(dir, "tokenizer_config.json")?;
        let named = config.get("bos_token").and_then(files::token_text);
        let Some(token) = named.and_then(|text| tokenizer.token_to_id(text)) else { return Ok(Self::Unsaid) };
        Ok(match config.get("add_bos_token").and_then(serde_json::Value::as_bool) {
            Some(true) => Self::Always(token),
            Some(false) => Self::Never(token),
            None => Self::Unsaid,
        })
    }

    fn apply(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        match *self {
            Self::Always(token) if tokens.first() != Some(&token) => tokens.insert(0, token),
            Self::Never(token) if tokens.first() == Some(&token) => drop(tokens.remove(0)),
            _ => {}
        }
        tokens
    }
}
