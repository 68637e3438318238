//! What OpenAI clients receive: completions, chunks and their parts, as typed shapes.

use protocol::client::Client;
use protocol::generation::{FinishReason, Missed, PromptToken, TokenLogprob, Usage};
use serde::Serialize;
use utoipa::ToSchema;

use crate::missed::{self, MissedBody};
use crate::timings::Timings;

/// A whole answer or one chunk of it; `C` is the endpoint's choice.
#[derive(Debug, Serialize, ToSchema)]
pub struct Completion<C> {
    /// `chatcmpl-…` or `cmpl-…`.
    pub id: String,
    /// What kind of object this is.
    pub object: &'static str,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// The choices.
    pub choices: Vec<C>,
    /// Token counts: in whole answers, and in streams that asked for them (null until the last chunk, or so far).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UsageBody>)]
    pub usage: Option<Option<UsageBody>>,
    /// The daemon's build: one machine gives a request with a seed the same answer where it is the same.
    pub system_fingerprint: String,
    /// How long the answer took: with whole answers, and with the token counts of streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// Names the build of the daemon that a client talks to.
pub fn fingerprint(client: &Client) -> String {
    let welcome = client.welcome();
    format!("build-{}-{}", welcome.version, welcome.commit)
}

/// Token counts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageBody {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    /// Known of whole answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    /// Known of whole answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PromptDetails {
    cached_tokens: u32,
    /// Why not more of them were; null where all were that can be.
    cache_missed: Option<MissedBody>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl UsageBody {
    /// Says what an answer came to, and why no more of its prompt was cached.
    pub fn of(usage: Usage, missed: Option<Missed>) -> Self {
        let cache_missed = missed::told(missed);
        Self {
            prompt_tokens_details: Some(PromptDetails { cached_tokens: usage.cached_tokens, cache_missed }),
            completion_tokens_details: Some(CompletionDetails { reasoning_tokens: usage.reasoning_tokens }),
            ..Self::so_far(usage.prompt_tokens, usage.completion_tokens)
        }
    }

    /// Returns the counts of an answer that is being made.
    pub fn so_far(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: None,
            completion_tokens_details: None,
        }
    }
}

/// Returns OpenAI's word for why a choice ended.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

/// A tool call, whole or in part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolCall)]
pub struct ToolCallBody {
    /// Which call of the message; in chunks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u16>,
    /// The call's id, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<&'static str>,
    /// The function and its arguments.
    pub function: FunctionBody,
}

/// A called function.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CalledFunction)]
pub struct FunctionBody {
    /// Its name, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its arguments as JSON text, whole or in part.
    pub arguments: String,
}

/// Log-probabilities of chat tokens.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// One entry per token.
    pub content: Vec<ChatLogprob>,
    #[schema(value_type = Option<String>)]
    refusal: Option<()>,
}

/// One chat token and its alternatives.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatLogprob {
    #[serde(flatten)]
    token: TokenBody,
    top_logprobs: Vec<TokenBody>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TokenLogprob)]
struct TokenBody {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

fn token_body(bytes: &[u8], logprob: f32) -> TokenBody {
    TokenBody { token: String::from_utf8_lossy(bytes).into_owned(), logprob: floor(logprob), bytes: bytes.to_vec() }
}

/// JSON has no infinity; OpenAI writes -9999 for a token that could not come.
fn floor(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

impl From<Vec<TokenLogprob>> for ChatLogprobs {
    fn from(tokens: Vec<TokenLogprob>) -> Self {
        let entry = |entry: TokenLogprob| ChatLogprob {
            token: token_body(&entry.bytes, entry.logprob),
            top_logprobs: entry.top.iter().map(|(_, bytes, logprob)| token_body(bytes, *logprob)).collect(),
        };
        Self { content: tokens.into_iter().map(entry).collect(), refusal: None }
    }
}

/// Log-probabilities of plain completions. Those of an echoed prompt's first token are null: nothing comes before it.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    #[schema(value_type = Vec<Option<std::collections::BTreeMap<String, f32>>>)]
    top_logprobs: Vec<Option<Alternatives>>,
    /// Where each token begins, in characters of the text.
    text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// Shapes `entries`, the first of which begins `offset` characters into the text.
    pub fn new(entries: &[TokenLogprob], offset: usize) -> Self {
        let mut shaped = Self::default();
        shaped.extend(entries, offset);
        shaped
    }

    /// Shapes the tokens of an echoed prompt that `text` shows. What the tokenizer has put before the text has no place
    /// in it, and begins where the text does.
    pub fn of_prompt(entries: &[PromptToken], text: &str) -> Self {
        let mut shaped = Self::default();
        let spelled: usize = entries.iter().map(|entry| characters(&entry.bytes)).sum();
        let (mut offset, before) = (0_usize, spelled.saturating_sub(text.chars().count()));
        for entry in entries {
            shaped.push(&entry.bytes, entry.logprob, &entry.top, offset.saturating_sub(before));
            offset += characters(&entry.bytes);
        }
        shaped
    }

    /// Adds `entries`, the first of which begins `offset` characters into the text.
    pub fn extend(&mut self, entries: &[TokenLogprob], mut offset: usize) {
        for entry in entries {
            self.push(&entry.bytes, Some(entry.logprob), &entry.top, offset);
            offset += characters(&entry.bytes);
        }
    }

    fn push(&mut self, bytes: &[u8], logprob: Option<f32>, top: &[(u32, Vec<u8>, f32)], offset: usize) {
        self.tokens.push(String::from_utf8_lossy(bytes).into_owned());
        self.token_logprobs.push(logprob.map(floor));
        self.top_logprobs.push(logprob.map(|logprob| Alternatives::of(top, bytes, logprob)));
        self.text_offset.push(offset);
    }
}

/// The likeliest tokens by their text, best first, and the one that stands there, which may be less likely. Numbers are
/// written as those of the tokens are: clients compare them.
#[derive(Debug, PartialEq)]
struct Alternatives(Vec<(String, f32)>);

impl Alternatives {
    /// Of tokens that are spelled alike, as parts of characters are, only the likeliest has a place.
    fn of(top: &[(u32, Vec<u8>, f32)], own: &[u8], logprob: f32) -> Self {
        let mut all: Vec<(String, f32)> = Vec::with_capacity(top.len() + 1);
        let top = top.iter().map(|(_, bytes, logprob)| (bytes.as_slice(), *logprob));
        for (bytes, logprob) in top.chain([(own, logprob)]) {
            let text = String::from_utf8_lossy(bytes);
            if all.iter().all(|(known, _)| *known != text) {
                all.push((text.into_owned(), floor(logprob)));
            }
        }
        Self(all)
    }
}

impl Serialize for Alternatives {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(text, logprob)| (text, logprob)))
    }
}

/// How many characters begin in `bytes`; what another token has begun is counted there.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt_token(bytes: &[u8], logprob: Option<f32>) -> PromptToken {
        PromptToken { token: 0, bytes: bytes.to_vec(), logprob, top: vec![(1, b"x".to_vec(), -0.5)] }
    }

    #[test]
    fn tokens_begin_where_their_characters_do() {
        let entry = |bytes: &[u8]| TokenLogprob { token: 0, bytes: bytes.to_vec(), logprob: -1.0, top: Vec::new() };
        let bytes = "a\u{1F30D}b".as_bytes();
        let shaped = TextLogprobs::new(&[entry(&bytes[..2]), entry(&bytes[2..5]), entry(&bytes[5..])], 10);
        assert_eq!(shaped.text_offset, [10, 12, 12], "half a character counts once");
    }

    #[test]
    fn alternatives_are_written_as_their_tokens_are_and_the_likeliest_of_a_spelling_counts() {
        let top = vec![(1, b"a".to_vec(), -0.1), (2, vec![0xC3], -2.3), (3, vec![0xC4], -4.7)];
        let entry = TokenLogprob { token: 1, bytes: b"a".to_vec(), logprob: -0.1, top };
        let text = serde_json::to_string(&TextLogprobs::new(&[entry], 0)).unwrap();
        assert!(text.contains("\"token_logprobs\":[-0.1],\"top_logprobs\":[{\"a\":-0.1,\"\u{FFFD}\":-2.3}]"), "{text}");
    }

    #[test]
    fn the_token_that_was_drawn_is_among_the_alternatives_however_unlikely() {
        let entry = |top| TokenLogprob { token: 2, bytes: b"b".to_vec(), logprob: -3.0, top };
        let shaped = TextLogprobs::new(&[entry(vec![(1, b"a".to_vec(), -0.1)]), entry(Vec::new())], 0);
        let written = serde_json::to_value(&shaped.top_logprobs).unwrap();
        let all: Vec<Vec<String>> = serde_json::from_value::<Vec<std::collections::BTreeMap<String, f32>>>(written)
            .unwrap()
            .into_iter()
            .map(|place| place.into_keys().collect())
            .collect();
        assert_eq!(all, [vec!["a", "b"], vec!["b"]]);
    }

    #[test]
    fn what_a_tokenizer_puts_before_a_prompt_has_no_place_in_its_text() {
        let entries = [prompt_token(b"<s>", None), prompt_token(b" Hello", Some(-2.0)), prompt_token(b"!", Some(-1.0))];
        let shaped = TextLogprobs::of_prompt(&entries, "Hello!");
        assert_eq!(shaped.text_offset, [0, 0, 5]);
        assert_eq!(shaped.token_logprobs, [None, Some(-2.0), Some(-1.0)]);
        assert_eq!(shaped.top_logprobs.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
        let shaped = TextLogprobs::of_prompt(&entries, "<s> Hello!");
        assert_eq!(shaped.text_offset, [0, 3, 9]);
    }
}
