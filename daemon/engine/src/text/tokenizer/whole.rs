//! Texts for models that read them whole: with the tokens that the model wants around a text and between two, and the
//! segment of each token. What is too long is cut only where a caller asks for it, and never inside what surrounds it.

use super::{Special, TextError, Tokenizer};

/// A text, or a pair of texts, as an encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// To which text each token belongs, 0 or 1.
    pub segments: Vec<u8>,
    /// How many tokens at the end are the model's own.
    closing: usize,
    /// How many tokens before those are the last text's.
    last: usize,
}

impl Tokenizer {
    /// Turns a text into tokens, as the model wants it whole.
    pub fn whole(&self, text: &str) -> Result<Whole, TextError> {
        Whole::of(self.inner.tokenizer.encode_fast(text, true))
    }

    /// Turns a pair of texts into tokens.
    pub fn pair(&self, first: &str, second: &str) -> Result<Whole, TextError> {
        let (tokenizer, pair) = (&self.inner.tokenizer, (first, second));
        // The fast way forgets which text a token is of, where no post-processor says it.
        Whole::of(match tokenizer.get_post_processor() {
            Some(_) => tokenizer.encode_fast(pair, true),
            None => tokenizer.encode(pair, true),
        })
    }
}

/// What Qwen3-Reranker was trained to be asked, before and after the pair. It answers in the next token.
const JUDGE: [&str; 2] = [
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. \
     Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
];
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

impl Tokenizer {
    /// Turns a pair of texts into the question whether the second answers the first, for a model that judges. Neither text
    /// can end it: what they spell is ordinary text.
    pub fn question(&self, query: &str, document: &str) -> Result<Whole, TextError> {
        let asked = format!("<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>:");
        let [mut tokens, closing] = [self.encode(JUDGE[0], Special::Parse)?, self.encode(JUDGE[1], Special::Parse)?];
        let pair = self.encode(&format!("{asked} {document}"), Special::Plain)?;
        let last = pair.len().saturating_sub(self.encode(&asked, Special::Plain)?.len());
        tokens.extend(pair);
        tokens.extend(&closing);
        Ok(Whole { segments: vec![0; tokens.len()], closing: closing.len(), last, tokens })
    }
}

impl Whole {
    fn of(encoding: tokenizers::Result<tokenizers::Encoding>) -> Result<Self, TextError> {
        let encoding = encoding.map_err(|error| TextError::Encode { problem: error.to_string() })?;
        let own = encoding.get_special_tokens_mask();
        let closing = own.iter().rev().take_while(|own| **own == 1).count();
        let last = own[..own.len() - closing].iter().rev().take_while(|own| **own == 0).count();
        let segments = encoding.get_type_ids().iter().map(|segment| u8::from(*segment > 0)).collect();
        Ok(Self { tokens: encoding.get_ids().to_vec(), segments, closing, last })
    }

    /// Takes tokens off the end of the last text until `most` are left; false if that text has not enough to give.
    pub fn cut(&mut self, most: usize) -> bool {
        let excess = self.tokens.len().saturating_sub(most);
        if excess > self.last {
            return false;
        }
        let end = self.tokens.len() - self.closing;
        self.tokens.drain(end - excess..end);
        self.segments.drain(end - excess..end);
        self.last -= excess;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Recipe, TOKENS};

    const FIRST: u32 = TOKENS - 3;
    const BETWEEN: u32 = TOKENS - 1;

    fn tokenizer() -> Tokenizer {
        Tokenizer::open(Recipe::tiny_encoder("bert", 1).temporary().unwrap().path()).unwrap()
    }

    #[test]
    fn a_text_and_a_pair_get_what_the_model_puts_around_them() {
        let tokenizer = tokenizer();
        let whole = tokenizer.whole("ab").unwrap();
        assert_eq!((whole.tokens[0], whole.tokens[3], whole.tokens.len()), (FIRST, BETWEEN, 4));
        assert_eq!(whole.segments, [0; 4]);
        let pair = tokenizer.pair("ab", "c").unwrap();
        assert_eq!([pair.tokens[0], pair.tokens[3], pair.tokens[5]], [FIRST, BETWEEN, BETWEEN]);
        assert_eq!(pair.segments, [0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn the_second_text_of_a_pair_has_a_segment_of_its_own_without_a_post_processor_too() {
        let bare = Tokenizer::open(Recipe::tiny("qwen3", 1).temporary().unwrap().path()).unwrap();
        assert_eq!(bare.pair("ab", "c").unwrap().segments, [0, 0, 1]);
    }

    #[test]
    fn only_the_last_text_is_cut_and_its_end_stays() {
        let tokenizer = tokenizer();
        let mut pair = tokenizer.pair("xyz", "qwzk").unwrap();
        let before = pair.tokens.clone();
        assert!(pair.cut(before.len()));
        assert_eq!(pair.tokens, before);
        assert!(pair.cut(7));
        assert_eq!(pair.tokens, [&before[..6], &[BETWEEN]].concat());
        assert_eq!(pair.segments.len(), 7);
        assert!(!pair.cut(5), "the query may not be cut");
        assert!(pair.cut(6));
    }

    #[test]
    fn a_question_is_cut_in_the_document_and_keeps_its_end() {
        let folder = Recipe::tiny("qwen3", 1).temporary().unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let whole = tokenizer.question("ab", "one two three<|im_end|>").unwrap();
        let end = tokenizer.token_id("<|im_end|>").unwrap();
        assert_eq!(whole.tokens.iter().filter(|token| **token == end).count(), 2, "the document ends nothing");
        let mut cut = whole.clone();
        assert!(cut.cut(whole.tokens.len() - 3));
        let closing = whole.closing;
        assert_eq!(cut.tokens[cut.tokens.len() - closing..], whole.tokens[whole.tokens.len() - closing..]);
        assert_eq!(cut.tokens[..20], whole.tokens[..20]);
        let empty = tokenizer.question("ab", "").unwrap();
        assert!(!cut.cut(empty.tokens.len() - 2), "the query may not be cut");
    }

    #[test]
    fn an_empty_text_is_what_surrounds_it() {
        let mut whole = tokenizer().whole("").unwrap();
        assert_eq!(whole.tokens, [FIRST, BETWEEN]);
        assert!(!whole.cut(1));
    }
}
