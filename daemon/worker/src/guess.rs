//! Who guesses for one choice: its own text where that repeats itself, else a smaller model, if there is one.
//!
//! A guess is checked by the model and changes no answer; a wrong one costs a part of a step. So whoever guesses learns how
//! often it is right, and guesses as far as that promises more tokens for the time. The runner asks before each step.

pub mod lookup;

use lookup::Lookup;

/// The least that guessing must promise to gain for the sequence that it is for.
const GAIN_MIN: f64 = 0.03;
/// After how many guesses half of what is known of them is forgotten.
const MEMORY: f64 = 24.0;
/// How many guesses the first trust weighs.
const FIRST: f64 = 4.0;
/// The share of right guesses that is expected of a smaller model at first.
const MODEL: f64 = 0.7;
/// Where guessing does not pay it is tried again after so many chances, and after each vain try after twice as many.
const REST_MIN: u32 = 2;
const REST_MAX: u32 = 128;

/// The step that guesses would be checked in.
pub struct Step<'a> {
    /// Sequences that it draws for.
    pub rows: u32,
    /// What so many tokens more cost, in parts of the step without them.
    pub cost: &'a dyn Fn(u32) -> f64,
}

/// Guesses for one choice.
#[derive(Clone)]
pub struct Guesser {
    lookup: Lookup,
    model: Trust,
    rest: Rest,
    /// Whether the model made the last guess.
    by_model: bool,
}

/// How many guesses were right; both fade.
#[derive(Clone, Copy, Debug)]
struct Trust {
    right: f64,
    tried: f64,
}

/// When to try again what did not pay.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    chances: u32,
    /// Vain tries in a row.
    vain: u32,
}

impl Guesser {
    /// Knows a prompt.
    pub fn new(prompt: &[u32]) -> Self {
        Self { lookup: Lookup::new(prompt), model: Trust::new(MODEL), rest: Rest::default(), by_model: false }
    }

    /// Adds a token of the sequence.
    pub fn push(&mut self, token: u32) {
        self.lookup.push(token);
    }

    /// What comes next if the text repeats itself, as far as it pays to guess.
    pub fn from_text(&mut self, most: usize, step: &Step<'_>) -> &[u32] {
        self.by_model = false;
        self.lookup.guess(most, step)
    }

    /// How many tokens it pays to let a smaller model guess.
    pub fn for_model(&mut self, most: usize, step: &Step<'_>) -> usize {
        let length = worthwhile(most, |_| self.model.share(), step);
        if length > 0 || most == 0 { length } else { usize::from(self.rest.is_over()) }
    }

    /// Notes that the smaller model made the guess for the next step.
    pub fn model_guessed(&mut self) {
        self.by_model = true;
    }

    /// Learns how many of the last guesses were right.
    pub fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        if !self.by_model {
            return self.lookup.learn(guessed, right);
        }
        (0..guessed.min(right + 1)).for_each(|nth| self.model.learn(nth < right));
        self.rest.learn(right);
    }
}

impl Trust {
    fn new(share: f64) -> Self {
        Self { right: share * FIRST, tried: FIRST }
    }

    fn share(&self) -> f64 {
        self.right / self.tried
    }

    fn learn(&mut self, right: bool) {
        self.right += f64::from(u8::from(right));
        self.tried += 1.0;
        if self.tried > MEMORY {
            (self.right, self.tried) = (self.right / 2.0, self.tried / 2.0);
        }
    }
}

impl Rest {
    /// Whether it is time for a try; counts the chance if not.
    fn is_over(&mut self) -> bool {
        let over = self.chances == 0;
        self.chances -= u32::from(!over);
        over
    }

    fn learn(&mut self, right: usize) {
        if right > 0 {
            *self = Self::default();
            return;
        }
        self.chances = (REST_MIN << self.vain.min(16)).min(REST_MAX);
        self.vain += 1;
    }
}

/// How many guesses promise the most tokens for the time; `share` says how often the nth is right where those before are.
fn worthwhile(most: usize, share: impl Fn(u32) -> f64, step: &Step<'_>) -> usize {
    let rows = f64::from(step.rows.max(1));
    let (mut best, mut length) = (1.0 + GAIN_MIN / rows, 0);
    let (mut right, mut tokens) = (1.0, rows);
    for guesses in 1..=most as u32 {
        right *= share(guesses - 1);
        tokens += right;
        let gain = tokens / rows / (step.cost)(guesses);
        if gain > best {
            (best, length) = (gain, guesses as usize);
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far the model may guess for one of so many sequences, when each guess costs so much.
    fn length(guesser: &mut Guesser, rows: u32, dear: f64) -> usize {
        guesser.for_model(8, &Step { rows, cost: &|more| 1.0 + dear * f64::from(more) })
    }

    #[test]
    fn a_model_guesses_as_far_as_it_pays_and_less_where_many_share_the_step() {
        let mut guesser = Guesser::new(&[1, 2, 3]);
        assert!(length(&mut guesser, 1, 0.2) > length(&mut guesser, 1, 0.4));
        assert_eq!(length(&mut guesser, 16, 0.2), 1, "only a try");
        guesser.model_guessed();
        (0..20).for_each(|_| guesser.learn(4, 4));
        assert_eq!(length(&mut guesser, 1, 0.2), 8, "trust grows with every right guess");
        assert!(length(&mut guesser, 16, 0.01) > 4, "what costs next to nothing pays among many too");
    }

    #[test]
    fn a_model_that_is_always_wrong_is_hardly_asked_any_more() {
        let mut guesser = Guesser::new(&[1, 2, 3]);
        let mut asked = 0;
        for _ in 0..1_000 {
            let guesses = length(&mut guesser, 1, 0.3);
            asked += usize::from(guesses > 0);
            guesser.model_guessed();
            guesser.learn(guesses, 0);
        }
        assert!((5..25).contains(&asked), "{asked}");
    }
}
