//! Questions about text: which tokens a prompt becomes, and which text tokens spell.
//!
//! A prompt is read exactly as for an answer, so what is counted here is what an answer would count. Replies are
//! bounded, because they travel in one frame. Only the prompt threads call this.

use engine::text::{Detokenizer, Special, Start};
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
            Question::Detokenize(request) => self.detokenize(request).map(Answer::Text),
        }
    }

    fn tokenize(
        &self,
        request: &TokenizeRequest,
        now_unix_ms: i64,
        rendering: &mut Rendering,
    ) -> Result<Tokens, Error> {
        let encode = |text: &str, special| {
            bounded("prompt", "bytes of text", text.len(), TEXT_BYTES_MAX)?;
            self.tokenizer.encode(text, special).map_err(|error| Error::invalid("prompt", error.to_string()))
        };
        let (rendered, tokens) = match &request.prompt {
            Prompt::Chat(chat) => {
                let (text, _) = self.render(chat, now_unix_ms, rendering)?;
                let tokens = encode(&text, Special::Parse)?;
                (Some(text), tokens)
            }
            Prompt::Text(text) => (None, encode(text, special(request.special))?),
            Prompt::Tokens(tokens) => {
                self.known("prompt", tokens)?;
                (None, tokens.clone())
            }
        };
        bounded("prompt", "tokens", tokens.len(), TOKENS_MAX)?;
        bounded("prompt", "bytes of text", rendered.as_ref().map_or(0, String::len), TEXT_BYTES_MAX)?;
        let shown = if request.pieces { tokens.as_slice() } else { &[] };
        let pieces: Vec<Vec<u8>> = shown.iter().map(|token| self.tokenizer.token_bytes(*token).to_vec()).collect();
        bounded("prompt", "bytes of pieces", pieces.iter().map(Vec::len).sum(), TEXT_BYTES_MAX)?;
        Ok(Tokens { model: self.name.clone(), rendered, tokens, pieces })
    }

    fn detokenize(&self, request: &DetokenizeRequest) -> Result<String, Error> {
        self.known("tokens", &request.tokens)?;
        let mut detokenizer = Detokenizer::new(&self.tokenizer, Start::Text).showing_all();
        let mut text = String::new();
        for token in &request.tokens {
            text.push_str(&detokenizer.push(*token));
            bounded("tokens", "bytes of text or more", text.len(), TEXT_BYTES_MAX)?;
        }
        text.push_str(&detokenizer.finish());
        Ok(text)
    }

    fn known(&self, param: &str, tokens: &[u32]) -> Result<(), Error> {
        tokens.iter().try_for_each(|token| ranges::known(param, *token, self.facts.vocabulary))
    }
}

fn special(special: text::Special) -> Special {
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
