//! Guesses what a sequence says next from what it has said: after the same few tokens, often the same follows.
//!
//! Code that is edited, passages that are quoted and records of one form repeat long runs of what came before. A guess is
//! checked by the model and changes no answer; a wrong one costs a part of a step, so a lookup learns how often it is right
//! and guesses as far as that pays. It sees tokens only. Each choice owns one; the runner asks it before each step.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

/// How many tokens must be the same.
const GRAM: usize = 3;
/// The share of right guesses that a lookup begins with, and after how many guesses half of what it knows is forgotten.
const TRUST: f64 = 0.7;
const MEMORY: f64 = 12.0;
/// The least that guessing must promise to gain.
const GAIN_MIN: f64 = 1.03;
/// After the first wrong guess in a row it waits this many steps, after each further one twice as many.
const REST_MIN: u32 = 2;
const REST_MAX: u32 = 128;

type Gram = [u32; GRAM];

/// Guesses for one sequence.
#[derive(Clone)]
pub struct Lookup {
    tokens: Vec<u32>,
    /// What follows a gram, at its last occurrence but the present one.
    follows: HashMap<Gram, u32>,
    /// The share of guesses that are right, as far as is known.
    trust: f64,
    wrong: u32,
    /// Steps without guesses.
    rest: u32,
}

impl Lookup {
    /// Knows a prompt.
    pub fn new(prompt: &[u32]) -> Self {
        let mut lookup = Self {
            tokens: Vec::with_capacity(prompt.len() + 64),
            follows: HashMap::with_capacity(prompt.len()),
            trust: TRUST,
            wrong: 0,
            rest: 0,
        };
        prompt.iter().for_each(|token| lookup.push(*token));
        lookup
    }

    /// Adds a token of the sequence.
    pub fn push(&mut self, token: u32) {
        if let Some(gram) = self.gram() {
            self.follows.insert(gram, self.tokens.len() as u32);
        }
        self.tokens.push(token);
    }

    fn gram(&self) -> Option<Gram> {
        self.tokens.last_chunk::<GRAM>().copied()
    }

    /// The next tokens, as far as it pays to guess; `cost` says what a step with so many more tokens costs, in parts of
    /// one without.
    pub fn guess(&mut self, most: usize, cost: impl Fn(u32) -> f64) -> &[u32] {
        let found = self.gram().and_then(|gram| self.follows.get(&gram)).map(|at| *at as usize);
        let Some(start) = found else { return &[] };
        if self.rest > 0 {
            self.rest -= 1;
            return &[];
        }
        let most = most.min(self.tokens.len() - start);
        // A lookup that was often wrong tries a short guess again after its rest.
        let least = if self.wrong > 0 { most.min(1) } else { 0 };
        let length = self.worthwhile(most, cost).max(least);
        &self.tokens[start..start + length]
    }

    /// How many guesses promise the most tokens for the time.
    fn worthwhile(&self, most: usize, cost: impl Fn(u32) -> f64) -> usize {
        let (mut best, mut length) = (GAIN_MIN, 0);
        let (mut right, mut tokens) = (1.0, 1.0);
        for guesses in 1..=most {
            right *= self.trust;
            tokens += right;
            let gain = tokens / cost(guesses as u32);
            if gain > best {
                (best, length) = (gain, guesses);
            }
        }
        length
    }

    /// Learns how many of its guesses were right.
    pub fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        let tried = right + usize::from(right < guessed);
        let known = MEMORY / (MEMORY + tried as f64);
        self.trust = self.trust * known + (right as f64 / tried as f64) * (1.0 - known);
        if right > 0 {
            (self.wrong, self.rest) = (0, 0);
            return;
        }
        self.rest = (REST_MIN << self.wrong.min(16)).min(REST_MAX);
        self.wrong += 1;
    }
}
