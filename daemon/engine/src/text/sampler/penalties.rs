//! Makes tokens that were already seen less likely, or more.
//!
//! The repetition penalty looks at prompt and answer, as in Hugging Face, or at the last tokens of both; the presence and
//! frequency penalties at the answer only, as in OpenAI's definition, or at what the repetition penalty sees, as in
//! Ollama's. Nothing is counted for a penalty that is off. The sampler owns it.

use std::collections::{HashMap, VecDeque};

use super::Sampling;

/// The penalties of one choice and the tokens they apply to.
pub struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
    /// Whether the others look at what the repetition penalty sees.
    one_window: bool,
    /// How often the repetition penalty sees each token.
    seen: HashMap<u32, u32>,
    /// Where it looks at the last tokens only: at how many, and which they are.
    last: Option<(usize, VecDeque<u32>)>,
    /// How often each token is in the answer.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    /// Takes the settings; nothing is seen yet.
    pub fn new(settings: &Sampling) -> Self {
        Self {
            repetition: settings.repetition_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            one_window: settings.one_window,
            seen: HashMap::new(),
            last: settings.repetition_window.map(|window| (window as usize, VecDeque::new())),
            counts: HashMap::new(),
        }
    }

    /// Notes the prompt's tokens.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        if self.looks_at_both() {
            tokens.iter().for_each(|token| self.see(*token));
        }
    }

    /// Notes a token of the answer.
    pub fn observe(&mut self, token: u32) {
        if self.looks_at_both() {
            self.see(token);
        }
        if self.counts_tokens() && !self.one_window {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Whether a penalty looks at prompt and answer.
    fn looks_at_both(&self) -> bool {
        self.repetition != 1.0 || (self.one_window && self.counts_tokens())
    }

    fn counts_tokens(&self) -> bool {
        self.presence != 0.0 || self.frequency != 0.0
    }

    fn see(&mut self, token: u32) {
        *self.seen.entry(token).or_default() += 1;
        let Some((window, last)) = &mut self.last else { return };
        last.push_back(token);
        if last.len() <= *window {
            return;
        }
        let Some(gone) = last.pop_front() else { return };
        if let Some(times) = self.seen.get_mut(&gone) {
            *times -= 1;
            if *times == 0 {
                self.seen.remove(&gone);
            }
        }
    }

    /// Changes the logits of tokens that were seen.
    pub fn apply(&self, logits: &mut [f32]) {
        for &token in self.seen.keys() {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / self.repetition } else { *logit * self.repetition };
            }
        }
        for (&token, &count) in if self.one_window { &self.seen } else { &self.counts } {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit -= self.frequency * count as f32 + self.presence;
            }
        }
    }
}
