//! Draws a token from a model's logits, repeatably.
//!
//! The steps and their order are those of Hugging Face: bias and bans, repetition penalty, frequency and presence
//! penalties, temperature, `top_k`, `top_p` over what is left, `min_p`. Log-probabilities are of the untouched logits.
//! The random number depends on the seed, the choice and the position only, so a resumed answer draws as the first did.
//! It keeps no clock and no hidden state. The worker has one for each choice, and tells it every token that was taken.

mod candidates;
mod penalties;
mod random;
mod settings;
#[cfg(test)]
mod tests;

use self::candidates::draw;
use self::penalties::Penalties;
pub use self::settings::{Sampling, SamplingError};

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability before any setting; `None` unless asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens and their log-probabilities, best first; as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// Draws the tokens of one choice.
pub struct Sampler {
    settings: Sampling,
    penalties: Penalties,
    generated: u32,
}

impl Sampler {
    /// Checks the settings and begins a choice.
    pub fn new(settings: Sampling) -> Result<Self, SamplingError> {
        settings.check()?;
        let penalties = Penalties::new(&settings);
        Ok(Self { settings, penalties, generated: 0 })
    }

    /// Tells which tokens the prompt holds, for the repetition penalty.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.penalties.observe_prompt(tokens);
    }

    /// Tells that a token became part of the answer: the one just drawn, or one that is replayed.
    pub fn observe(&mut self, token: u32) {
        self.generated = self.generated.saturating_add(1);
        self.penalties.observe(token);
    }

    /// Draws the token for a position from its logits, which are changed on the way.
    pub fn sample(&self, logits: &mut [f32], position: u32) -> Result<Sampled, SamplingError> {
        check_numbers(logits, position)?;
        let before = self.settings.logprobs.map(|top| Logprobs::new(logits, usize::from(top)));
        self.adjust(logits);
        let token = if self.settings.temperature == 0.0 {
            argmax(logits)
        } else {
            let random = random::uniform(self.settings.seed, self.settings.choice, position);
            draw(logits, &self.settings, random)
        };
        let token = token.ok_or(SamplingError::NothingAllowed { position })?;
        let logprob = before.as_ref().map(|it| it.of(token));
        Ok(Sampled { token, logprob, top: before.map_or_else(Vec::new, |it| it.top) })
    }

    /// Applies bias, bans and penalties.
    fn adjust(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.settings.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        if self.generated < self.settings.min_tokens {
            for &token in &self.settings.eos {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        self.penalties.apply(logits);
    }
}

/// Refuses logits that are no numbers; minus infinity is allowed, as it means "never".
fn check_numbers(logits: &[f32], position: u32) -> Result<(), SamplingError> {
    // A plain fold over comparisons is vectorised; a search that stops early is not.
    let sound = logits.iter().fold(true, |sound, &logit| sound & (logit < f32::INFINITY));
    if sound {
        return Ok(());
    }
    let token = logits.iter().position(|&logit| logit.is_nan() || logit == f32::INFINITY).unwrap_or(0);
    Err(SamplingError::NotANumber { position, token: token as u32 })
}

/// The greatest logit's token, the lowest id among equals; `None` if nothing is allowed.
fn argmax(logits: &[f32]) -> Option<u32> {
    let greatest = candidates::greatest(logits)?;
    logits.iter().position(|&logit| logit == greatest).map(|token| token as u32)
}

/// Log-probabilities of untouched logits, kept because the token is drawn from changed ones.
struct Logprobs {
    logits: Vec<f32>,
    log_total: f64,
    top: Vec<(u32, f32)>,
}

impl Logprobs {
    fn new(logits: &[f32], count: usize) -> Self {
        let greatest = candidates::greatest(logits).unwrap_or(0.0);
        let total: f64 = logits.iter().map(|&logit| f64::from((logit - greatest).exp())).sum();
        let log_total = f64::from(greatest) + total.ln();
        let best = candidates::best(logits, count);
        let top = best.into_iter().map(|it| (it.token, (f64::from(it.logit) - log_total) as f32)).collect();
        Self { logits: logits.to_vec(), log_total, top }
    }

    fn of(&self, token: u32) -> f32 {
        self.logits.get(token as usize).map_or(f32::NEG_INFINITY, |&it| (f64::from(it) - self.log_total) as f32)
    }
}
