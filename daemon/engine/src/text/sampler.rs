//! Draws a token from a model's logits, repeatably.
//!
//! The steps and their order are those of Hugging Face: bias, repetition penalty, frequency and presence penalties, DRY,
//! bans, temperature, `top_k`, `top_p` over what is left, `min_p`, typical, XTC; mirostat takes the place of all
//! that follow the temperature. Log-probabilities are of the untouched logits.
//! The random number depends on the seed, the choice and the position only, so a resumed answer draws as the first did.
//! It keeps no clock and no hidden state. The worker has one for each choice, and tells it every token that was taken.

mod candidates;
mod dry;
mod filters;
mod lazily;
mod penalties;
mod random;
mod settings;
#[cfg(test)]
mod tests;

use self::candidates::{draw, draw_unsurprising};
use self::dry::Dry;
pub use self::dry::DrySettings;
use self::penalties::Penalties;
pub use self::settings::{Mirostat, Sampling, SamplingError};
use super::{Allowed, Tokenizer};
use crate::native::exponential::exp;

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
    dry: Option<Dry>,
    /// The most surprise that mirostat allows the next token, in bits.
    surprise_max: f64,
    generated: u32,
}

impl Sampler {
    /// Checks the settings and begins a choice.
    pub fn new(settings: Sampling) -> Result<Self, SamplingError> {
        settings.check()?;
        let penalties = Penalties::new(&settings);
        let dry = settings.dry.clone().filter(|dry| dry.multiplier > 0.0).map(Dry::new);
        let surprise_max = settings.mirostat.map_or(0.0, |mirostat| 2.0 * f64::from(mirostat.tau));
        Ok(Self { settings, penalties, dry, surprise_max, generated: 0 })
    }

    /// Reads the spelling of tokens, by which DRY knows its breakers.
    pub fn reading(mut self, tokenizer: &Tokenizer) -> Self {
        self.dry = self.dry.map(|dry| dry.reading(tokenizer));
        self
    }

    /// What draws leave behind and tokens do not tell; `None` where tokens tell everything.
    pub fn state(&self) -> Option<f64> {
        self.settings.mirostat.map(|_| self.surprise_max)
    }

    /// Goes on from a `state`.
    pub fn restore(&mut self, state: f64) {
        self.surprise_max = state;
    }

    /// Tells which tokens the prompt holds, for the repetition penalty.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.penalties.observe_prompt(tokens);
        if let Some(dry) = &mut self.dry {
            tokens.iter().for_each(|token| dry.observe(*token));
        }
    }

    /// Tells that a token became part of the answer: the one just drawn, or one that is replayed.
    pub fn observe(&mut self, token: u32) {
        self.generated = self.generated.saturating_add(1);
        self.penalties.observe(token);
        if let Some(dry) = &mut self.dry {
            dry.observe(token);
        }
    }

    /// Draws the token for a position from its logits, which are changed on the way; `None` allows every token.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        position: u32,
        allowed: Option<&Allowed>,
    ) -> Result<Sampled, SamplingError> {
        check_numbers(logits, position)?;
        let before = self.logprobs(logits);
        if let Some(allowed) = allowed {
            allowed.apply(logits);
        }
        self.penalize(logits);
        // Where only an end may come it is not banned.
        if !allowed.is_some_and(Allowed::ends_only) {
            self.ban(logits);
        }
        let token = self.pick(logits, position, false)?;
        Ok(sampled(token, before))
    }

    /// Tells how likely a token was that is taken without a draw.
    pub fn judge(&self, logits: &[f32], position: u32, token: u32) -> Result<Sampled, SamplingError> {
        check_numbers(logits, position)?;
        Ok(sampled(token, self.logprobs(logits)))
    }

    fn logprobs(&self, untouched: &[f32]) -> Option<Logprobs> {
        self.settings.logprobs.map(|top| Logprobs::new(untouched, usize::from(top)))
    }

    /// The token of what is left; `again` takes other random numbers. The logits stay as they are.
    fn pick(&mut self, logits: &[f32], position: u32, again: bool) -> Result<u32, SamplingError> {
        let token = if self.settings.temperature == 0.0 { argmax(logits) } else { self.draw(logits, position, again) };
        token.ok_or(SamplingError::NothingAllowed { position })
    }

    fn draw(&mut self, logits: &[f32], position: u32, again: bool) -> Option<u32> {
        let random = random::uniform(self.settings.seed, self.settings.choice, position, again);
        let Some(Mirostat { tau, eta }) = self.settings.mirostat else { return draw(logits, &self.settings, random) };
        let (token, surprise) = draw_unsurprising(logits, self.settings.temperature, self.surprise_max, random[0])?;
        self.surprise_max -= f64::from(eta) * (surprise - f64::from(tau));
        Some(token)
    }

    /// Applies bias and penalties.
    fn penalize(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.settings.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        self.penalties.apply(logits);
        if let Some(dry) = &self.dry {
            dry.apply(logits);
        }
    }

    /// Takes away what may not come yet or is unwanted; returns what that was.
    fn ban(&self, logits: &mut [f32]) -> Vec<(u32, f32)> {
        let early = self.settings.eos.iter().filter(|_| self.generated < self.settings.min_tokens);
        let banned = early.chain(&self.settings.unwanted);
        let take = |token: &u32| {
            let logit = logits.get_mut(*token as usize)?;
            Some((*token, std::mem::replace(logit, f32::NEG_INFINITY)))
        };
        banned.filter_map(take).collect()
    }
}

fn sampled(token: u32, before: Option<Logprobs>) -> Sampled {
    let logprob = before.as_ref().map(|it| it.of(token));
    Sampled { token, logprob, top: before.map_or_else(Vec::new, |it| it.top) }
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
    candidates::first(logits, greatest).map(|token| token as u32)
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
        let total = candidates::total(logits, |logit| exp(logit - greatest));
        let log_total = f64::from(greatest) + total.ln();
        let best = candidates::best(logits, count);
        let top = best.into_iter().map(|it| (it.token, (f64::from(it.logit) - log_total) as f32)).collect();
        Self { logits: logits.to_vec(), log_total, top }
    }

    fn of(&self, token: u32) -> f32 {
        self.logits.get(token as usize).map_or(f32::NEG_INFINITY, |&it| (f64::from(it) - self.log_total) as f32)
    }
}
