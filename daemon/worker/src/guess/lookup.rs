//! Guesses what a sequence says next from what it has said: after the same few tokens, often the same follows.
//!
//! Code that is edited, passages that are quoted and records of one form repeat long runs of what came before, now and then
//! with another word; so a run that is being copied is followed past such a word. A lookup learns how often guesses are
//! right after matches of which length. It sees tokens only. Each choice's guesser owns one.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::{Rest, Step, Trust, worthwhile};

/// Lengths of a match from which guesses are trusted more, and the share of right ones that is expected at first. What
/// matches least is a run that has just gone on differently.
const KINDS: [(u32, f64); 4] = [(0, 0.5), (2, 0.4), (3, 0.6), (6, 0.85)];
/// How many earlier places are looked at, and how far back each is compared.
const PLACES_MAX: usize = 8;
const MATCH_MAX: u32 = 8;
/// How far around its place a run is looked for that went on differently, and how often in a row it may do so.
const AROUND: usize = 4;
const ASTRAY_MAX: u32 = 3;
/// No place.
const NONE: u32 = u32::MAX;

type Pair = [u32; 2];

/// Guesses for one sequence.
#[derive(Clone)]
pub struct Lookup {
    tokens: Vec<u32>,
    /// What follows a pair, at its last occurrence but the present one.
    follows: HashMap<Pair, u32>,
    /// For each token, the one that followed the same pair before.
    before: Vec<u32>,
    run: Option<Run>,
    /// By kind of match, what became of its guesses.
    trust: [Trust; KINDS.len()],
    /// How long the match was that the last guess began from.
    matched: u32,
    rest: Rest,
}

/// A stretch of the text that the sequence is saying again.
#[derive(Clone, Copy)]
struct Run {
    /// The token that would come next.
    next: usize,
    /// How many matched in a row.
    matched: u32,
    /// How many in a row did not.
    astray: u32,
}

fn kind(matched: u32) -> usize {
    KINDS.partition_point(|(least, _)| *least <= matched) - 1
}

impl Lookup {
    /// Knows a prompt.
    pub fn new(prompt: &[u32]) -> Self {
        let mut lookup = Self {
            tokens: Vec::with_capacity(prompt.len() + 64),
            follows: HashMap::with_capacity(prompt.len()),
            before: Vec::with_capacity(prompt.len() + 64),
            run: None,
            trust: KINDS.map(|(_, share)| Trust::new(share)),
            matched: 0,
            rest: Rest::default(),
        };
        prompt.iter().for_each(|token| lookup.push(*token));
        lookup
    }

    /// Adds a token of the sequence.
    pub fn push(&mut self, token: u32) {
        let pair = self.tokens.last_chunk().copied();
        let before = pair.and_then(|pair: Pair| self.follows.insert(pair, self.tokens.len() as u32));
        self.before.push(before.unwrap_or(NONE));
        self.run = self.run.and_then(|run| self.follow(run, token));
        self.tokens.push(token);
    }

    /// Where a run goes on after a token.
    fn follow(&self, run: Run, token: u32) -> Option<Run> {
        if self.tokens.get(run.next) == Some(&token) {
            return Some(Run { next: run.next + 1, matched: run.matched + 1, astray: 0 });
        }
        if run.astray == ASTRAY_MAX {
            return None;
        }
        // Left out, put in or put in its place: what comes next may stand a little on, here, or after this one.
        let from = run.next.saturating_sub(1 + run.astray as usize);
        let to = (run.next + AROUND).min(self.tokens.len());
        let found = self.tokens.get(from..to)?.iter().position(|known| *known == token);
        match found {
            Some(at) => Some(Run { next: from + at + 1, matched: 1, astray: 0 }),
            None => Some(Run { next: run.next + 1, matched: 0, astray: run.astray + 1 }),
        }
    }

    /// The best place to go on from, and how much before it matches.
    fn place(&self) -> Option<(usize, u32)> {
        let run = self.run.filter(|run| run.next < self.tokens.len());
        if let Some(run) = run.filter(|run| run.matched >= MATCH_MAX) {
            return Some((run.next, run.matched));
        }
        let newest = self.tokens.last_chunk().and_then(|pair: &Pair| self.follows.get(pair)).copied();
        let places = std::iter::successors(newest, |place| Some(self.before[*place as usize]).filter(|it| *it != NONE));
        let mut best = run.map(|run| (run.next, run.matched));
        for place in places.take(PLACES_MAX) {
            let matched = self.matched_before(place as usize);
            if best.is_none_or(|(_, most)| matched > most) {
                best = Some((place as usize, matched));
            }
        }
        best
    }

    fn matched_before(&self, place: usize) -> u32 {
        let pairs = self.tokens[..place].iter().rev().zip(self.tokens.iter().rev());
        pairs.take(MATCH_MAX as usize).take_while(|(known, own)| known == own).count() as u32
    }

    /// The next tokens, as far as it pays to guess.
    pub fn guess(&mut self, most: usize, step: &Step<'_>) -> &[u32] {
        let Some((start, matched)) = self.place().filter(|_| most > 0) else { return &[] };
        let mut length = self.worthwhile(matched, most.min(self.tokens.len() - start), step);
        if length == 0 {
            if !self.rest.is_over() {
                return &[];
            }
            length = 1;
        }
        self.matched = matched;
        if self.run.is_none_or(|run| run.next != start) {
            self.run = Some(Run { next: start, matched, astray: 0 });
        }
        &self.tokens[start..start + length]
    }

    fn worthwhile(&self, matched: u32, most: usize, step: &Step<'_>) -> usize {
        worthwhile(most, |nth| self.trust[kind(matched + nth)].share(), step)
    }

    /// Learns how many of its guesses were right.
    pub fn learn(&mut self, guessed: usize, right: usize) {
        for nth in 0..guessed.min(right + 1) {
            self.trust[kind(self.matched + nth as u32)].learn(nth < right);
        }
        self.rest.learn(right);
    }
}
