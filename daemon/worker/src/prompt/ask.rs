//! Questions about text: which tokens a prompt becomes, and which text tokens spell.
//!
//! A prompt is read exactly as for an answer, so what is counted here is what an answer would count. Replies are
//! bounded, because they travel in one frame. The prompt threads call this, and for models that read whole texts their reader.

use engine::text::{Detokenizer, Special, Start, TextError, Tokenizer};
use pipe::{Answer, Question};
use protocol::Error;
use protocol::generation::Prompt;
use protocol::text::{self, DetokenizeRequest, TokenizeRequest, Tokens};

use super::renderer::Rendering;
use super::{Prompter, ranges};

/// The most tokens of one reply.
const TOKENS_MAX: usize = 1 << 20;

/// The most bytes of text in one reply.
const TEXT_BYTES_MAX: usize = 4 << 20;

impl Prompter {
    /// Answers a question.
    pub fn answer(&self, question: &Question, now_unix_ms: i64, rendering: &mut Rendering) -> Result<Answer, Error> {
        match question {
            Question::Tokenize(request) => self.tokenize(request, now_unix_ms, rendering).map(Answer::Tokens),
            Question::Detokenize(request) => self.words().detokenize(request).map(Answer::Text),
        }
    }

    fn tokenize(
        &self,
        request: &TokenizeRequest,
        now_unix_ms: i64,
        rendering: &mut Rendering,
    ) -> Result<Tokens, Error> {
        let words = self.words();
        let encode = |text: &str, special| words.encode(text, |text| self.tokenizer.encode(text, special));
        let (rendered, tokens) = match &request.prompt {
            Prompt::Chat(chat) => {
                let (text, _) = self.render(chat, now_unix_ms, rendering)?;
                let tokens = encode(&text, Special::Parse)?;
                (Some(text), tokens)
            }
            Prompt::Text(text) => (None, encode(text, special(request.special))?),
            Prompt::Tokens(tokens) => {
                words.known("prompt", tokens)?;
                (None, tokens.clone())
            }
        };
        words.reply(rendered, tokens, request.pieces)
    }

    fn words(&self) -> Words<'_> {
        Words { model: &self.name, tokenizer: &self.tokenizer, vocabulary: self.facts.vocabulary }
    }
}

/// A model's tokenizer, as questions are put to it.
pub struct Words<'a> {
    /// The model's name.
    pub model: &'a str,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// How many tokens it knows.
    pub vocabulary: u32,
}

impl Words<'_> {
    /// Has a text read, unless it is too long for one reply.
    pub fn encode(
        &self,
        text: &str,
        read: impl FnOnce(&str) -> Result<Vec<u32>, TextError>,
    ) -> Result<Vec<u32>, Error> {
        bounded("prompt", "bytes of text", text.len(), TEXT_BYTES_MAX)?;
        read(text).map_err(|error| Error::invalid("prompt", error.to_string()))
    }

    /// The reply that tells tokens, and what they spell where that is asked.
    pub fn reply(&self, rendered: Option<String>, tokens: Vec<u32>, spelt: bool) -> Result<Tokens, Error> {
        bounded("prompt", "tokens", tokens.len(), TOKENS_MAX)?;
        bounded("prompt", "bytes of text", rendered.as_ref().map_or(0, String::len), TEXT_BYTES_MAX)?;
        let shown = if spelt { tokens.as_slice() } else { &[] };
        let pieces: Vec<Vec<u8>> = shown.iter().map(|token| self.tokenizer.token_bytes(*token).to_vec()).collect();
        bounded("prompt", "bytes of pieces", pieces.iter().map(Vec::len).sum(), TEXT_BYTES_MAX)?;
        Ok(Tokens { model: self.model.to_owned(), rendered, tokens, pieces })
    }

    /// What tokens spell.
    pub fn detokenize(&self, request: &DetokenizeRequest) -> Result<String, Error> {
        self.known("tokens", &request.tokens)?;
        let mut detokenizer = Detokenizer::new(self.tokenizer, Start::Text).showing_all();
        let mut text = String::new();
        for token in &request.tokens {
            text.push_str(&detokenizer.push(*token));
            bounded("tokens", "bytes of text or more", text.len(), TEXT_BYTES_MAX)?;
        }
        text.push_str(&detokenizer.finish());
        Ok(text)
    }

    /// Refuses tokens that there are not.
    pub fn known(&self, param: &str, tokens: &[u32]) -> Result<(), Error> {
        tokens.iter().try_for_each(|token| ranges::known(param, *token, self.vocabulary))
    }
}

/// What becomes of special tokens, in the tokenizer's words.
pub fn special(special: text::Special) -> Special {
    match special {
        text::Special::Plain => Special::Plain,
        text::Special::Parse => Special::Parse,
        text::Special::Begin => Special::Begin,
    }
}

fn bounded(param: &str, what: &str, count: usize, most: usize) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(Error::invalid(param, format!("this comes to {count} {what}; one reply holds at most {most}"))
        .hint("ask in parts"))
}
