//! Makes a token less likely that would go on with a repetition, the more so the longer that is already ("DRY").
//!
//! A repetition is the longest end of the text that stands somewhere before as well; the token that followed there is the
//! one that would go on with it. Breakers end a repetition: what stands before one is not compared. The work per token
//! grows with the text's length, and not faster. The sampler owns it.

use crate::text::Tokenizer;

/// No penalty exceeds this: logits stay numbers.
const PENALTY_MAX: f32 = 1e6;

/// What counts as a repetition and what it costs.
#[derive(Clone, Debug, PartialEq)]
pub struct DrySettings {
    /// What the shortest penalised repetition costs.
    pub multiplier: f32,
    /// By what each further token multiplies that; at least 1.
    pub base: f32,
    /// The shortest repetition that is penalised, in tokens.
    pub allowed_length: u32,
    /// Texts that no repetition goes past.
    pub breakers: Vec<String>,
}

/// The text so far, and what goes on with a repetition in it.
pub struct Dry {
    settings: DrySettings,
    /// Without one no token is a breaker.
    tokenizer: Option<Tokenizer>,
    tokens: Vec<u32>,
    /// The last bytes of the text, in which a breaker may have begun.
    tail: Vec<u8>,
    /// Where the last breaker stands, counted from 1.
    broken: usize,
}

impl Dry {
    /// Begins a text.
    pub fn new(settings: DrySettings) -> Self {
        Self { settings, tokenizer: None, tokens: Vec::new(), tail: Vec::new(), broken: 0 }
    }

    /// Knows breakers by their spelling.
    pub fn reading(self, tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: Some(tokenizer.clone()), ..self }
    }

    /// Adds a token.
    pub fn observe(&mut self, token: u32) {
        self.tokens.push(token);
        let Some(tokenizer) = &self.tokenizer else { return };
        if tokenizer.is_special(token) {
            self.broken = self.tokens.len();
            return self.tail.clear();
        }
        let before = self.tail.len();
        self.tail.extend_from_slice(tokenizer.token_bytes(token));
        let breakers = self.settings.breakers.iter().filter(|breaker| !breaker.is_empty());
        let ends = |breaker: &String| {
            let from = before.saturating_sub(breaker.len() - 1);
            self.tail[from..].windows(breaker.len()).any(|part| part == breaker.as_bytes())
        };
        if breakers.clone().any(ends) {
            self.broken = self.tokens.len();
        }
        let kept = breakers.map(|breaker| breaker.len() - 1).max().unwrap_or(0);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
    }

    /// Subtracts from the logits of tokens that would go on with a repetition.
    pub fn apply(&self, logits: &mut [f32]) {
        for (token, length) in self.repetitions() {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit -= self.penalty(length);
            }
        }
    }

    fn penalty(&self, length: u32) -> f32 {
        let further = (length - self.settings.allowed_length).min(1_000) as i32;
        (self.settings.multiplier * self.settings.base.powi(further)).min(PENALTY_MAX)
    }

    /// The tokens that would go on with a repetition long enough to count, and how long it is; each token once.
    pub(super) fn repetitions(&self) -> Vec<(u32, u32)> {
        let mut found: Vec<(u32, u32)> = Vec::new();
        let most = (self.tokens.len() - self.broken) as u32;
        if most < self.settings.allowed_length {
            return found;
        }
        // Read backwards, the end of the text is its beginning, and what stands before is compared with that.
        for (ago, length) in common_starts(&self.tokens).into_iter().enumerate().skip(1) {
            let length = length.min(most);
            if length >= self.settings.allowed_length.max(1) {
                found.push((self.tokens[self.tokens.len() - ago], length));
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        found.dedup_by_key(|(token, _)| *token);
        found
    }
}

/// For each distance from the end: how many tokens, read backwards, agree with the end of the text (the Z-function).
fn common_starts(tokens: &[u32]) -> Vec<u32> {
    let count = tokens.len();
    let at = |index: usize| tokens[count - 1 - index];
    let mut lengths = vec![0_u32; count];
    let (mut left, mut right) = (0, 0);
    for index in 1..count {
        let mut length = if index < right { (lengths[index - left] as usize).min(right - index) } else { 0 };
        while index + length < count && at(length) == at(index + length) {
            length += 1;
        }
        if index + length > right {
            (left, right) = (index, index + length);
        }
        lengths[index] = length as u32;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Recipe;
    use crate::text::Special;

    /// Checks that the end of a text which is compared with what stands before is this one.
    #[track_caller]
    fn check(breaker: &str, text: &str, compared: &str) {
        let folder = Recipe::tiny("qwen3", 7).temporary().unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let encode = |text: &str| tokenizer.encode(text, Special::Parse).unwrap();
        let breakers = vec![breaker.to_string()];
        let settings = DrySettings { multiplier: 1.0, base: 1.5, allowed_length: 1, breakers };
        let mut dry = Dry::new(settings).reading(&tokenizer);
        encode(text).into_iter().for_each(|token| dry.observe(token));
        let longest = dry.repetitions().into_iter().map(|(_, length)| length).max().unwrap_or(0);
        assert_eq!(longest as usize, encode(compared).len(), "{breaker} in {text}");
    }

    #[test]
    fn a_breaker_may_take_several_tokens() {
        check("###", "ab ### cd ab ### cd", " cd");
        check("##", "ab ### cd ab ### cd", " cd");
        check("#!", " ab ### cd ab ### cd", " ab ### cd");
        check("###", "##<|im_end|># cd##<|im_end|># cd", "# cd");
    }
}
