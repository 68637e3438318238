//! A model's tokens as the grammar engine wants them.
//!
//! Special tokens are marked, so that no text of a grammar ever spells one by accident. Behind the last token stands one
//! that no model has: it is the end where a model names no end token. `Grammars` makes this once.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::{GrammarError, matcher};
use crate::text::{Special, Tokenizer};

/// A tokenizer's vocabulary and its way to cut a text into tokens.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

/// What compiles grammars for a vocabulary; it takes a moment with a large one.
pub fn factory(tokenizer: &Tokenizer, eos: &[u32], vocabulary: u32) -> Result<ParserFactory, GrammarError> {
    let words: Vec<Vec<u8>> = (0..=vocabulary).map(|token| word(tokenizer, token, vocabulary)).collect();
    let info = TokRxInfo::new(words.len() as u32, vocabulary);
    let mut trie = TokTrie::from(&info, &words);
    if !eos.is_empty() {
        trie = trie.with_eos_tokens(eos);
    }
    let environment: TokEnv = Arc::new(Vocabulary { trie, tokenizer: tokenizer.clone() });
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| GrammarError::Invalid(matcher::words(&error)))?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// What the grammar engine may do to compile a grammar and to follow it.
pub fn limits() -> ParserLimits {
    // A state takes one or two kilobytes.
    ParserLimits { verbose_errors: false, max_lexer_states: 50_000, ..ParserLimits::default() }
}

fn word(tokenizer: &Tokenizer, token: u32, vocabulary: u32) -> Vec<u8> {
    let bytes = tokenizer.token_bytes(token);
    if token >= vocabulary || bytes.is_empty() {
        return Vec::new();
    }
    if tokenizer.is_special(token) { [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat() } else { bytes.to_vec() }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the tokenizer itself cuts a text, where that gives exactly its bytes; otherwise the longest tokens first.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let own = std::str::from_utf8(bytes).ok().and_then(|text| self.tokenizer.encode(text, Special::Parse).ok());
        let same = |tokens: &Vec<TokenId>| {
            let spelled = tokens.iter().map(|token| self.tokenizer.token_bytes(*token));
            tokens.iter().all(|token| (*token as usize) < self.trie.vocab_size() && !self.tokenizer.is_special(*token))
                && spelled.collect::<Vec<_>>().concat() == bytes
        };
        own.filter(same).unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }

    /// A vocabulary that puts a space before every text cuts the middle of an answer otherwise than a model would.
    fn tokenize_is_canonical(&self) -> bool {
        self.tokenizer.leading_spaces() == 0
    }
}
