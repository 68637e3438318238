//! Fills the middle: a prompt of what stands before a gap and what stands after it, for models that were taught to.
//!
//! Such a model's vocabulary has tokens that mark the gap; which ones is all that tells families apart. What the client
//! sent is read as plain text, so that it cannot mark gaps of its own. Both dialects that know a suffix ask here.

use protocol::client::Client;
use protocol::generation::Prompt;
use protocol::text::{Special, TokenizeRequest};
use protocol::{Error, Result};

/// How one family marks a gap, and in which order it was taught to read.
#[derive(Clone, Copy, Debug)]
struct Marks {
    before: &'static str,
    after: &'static str,
    /// Where what is to be written begins; empty if that follows on what stands before the gap.
    middle: &'static str,
    /// Whether what stands after the gap comes first.
    after_first: bool,
}

const fn marks(before: &'static str, after: &'static str, middle: &'static str) -> Marks {
    Marks { before, after, middle, after_first: false }
}

/// The families, those with the most models first.
const FAMILIES: [Marks; 6] = [
    marks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    marks("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    marks(
        "<\u{ff5c}fim\u{2581}begin\u{ff5c}>",
        "<\u{ff5c}fim\u{2581}hole\u{ff5c}>",
        "<\u{ff5c}fim\u{2581}end\u{ff5c}>",
    ),
    marks("\u{2581}<PRE>", "\u{2581}<SUF>", "\u{2581}<MID>"),
    Marks { before: "[PREFIX]", after: "[SUFFIX]", middle: "", after_first: true },
    marks("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
];

/// A model and the tokens by which it knows a gap.
pub struct Infill<'a> {
    client: &'a Client,
    model: Option<String>,
    marks: Marks,
    /// What the tokenizer puts before every prompt.
    begin: Vec<u32>,
    before: u32,
    after: u32,
    middle: Option<u32>,
}

impl<'a> Infill<'a> {
    /// Finds out how a model knows a gap; one that does not is refused.
    pub async fn of(client: &'a Client, model: Option<String>) -> Result<Self> {
        let mut name = None;
        for marks in FAMILIES {
            let Marks { before, after, middle, .. } = marks;
            let text = format!("{before}{after}{middle}");
            let found = tokens(client, model.clone(), text, Special::Begin).await?;
            let wanted = if middle.is_empty() { 2 } else { 3 };
            // What the tokenizer begins with is a token or two; marks that it does not know are many.
            let beginning = found.tokens.len().saturating_sub(wanted);
            if let (true, [before, after, rest @ ..]) = (beginning <= 1, &found.tokens[beginning..]) {
                let (before, after, middle) = (*before, *after, rest.first().copied());
                if before != after {
                    let begin = found.tokens[..beginning].to_vec();
                    return Ok(Self { client, model, marks, begin, before, after, middle });
                }
            }
            name = Some(found.model);
        }
        let name = name.unwrap_or_default();
        let message = format!("'{name}' has no tokens that mark a gap, so it cannot fill one.");
        Err(Error::unsupported("suffix", message).hint("Leave 'suffix' out, or use a model for code."))
    }

    /// Returns the prompt whose answer belongs between `before` and `after`.
    pub async fn prompt(&self, before: String, after: String) -> Result<Prompt> {
        let plain = |text: String| async move {
            match text.is_empty() {
                true => Ok(Vec::new()),
                false => tokens(self.client, self.model.clone(), text, Special::Plain).await.map(|found| found.tokens),
            }
        };
        let (before, after) = (plain(before).await?, plain(after).await?);
        let mut prompt = self.begin.clone();
        let mut add = |mark: u32, text: Vec<u32>| {
            prompt.push(mark);
            prompt.extend(text);
        };
        if self.marks.after_first {
            add(self.after, after);
            add(self.before, before);
        } else {
            add(self.before, before);
            add(self.after, after);
        }
        prompt.extend(self.middle);
        Ok(Prompt::Tokens(prompt))
    }
}

async fn tokens(
    client: &Client,
    model: Option<String>,
    text: String,
    special: Special,
) -> Result<protocol::text::Tokens> {
    client.tokenize(TokenizeRequest { model, prompt: Prompt::Text(text), special, pieces: false }).await
}
