//! Draws the tokens of an answer that is free until it begins something that it is held to.
//!
//! Most of its tokens fit as they are drawn, so nobody looks for all that would, and no logits are copied. The worker's
//! choices call it where tools may be called and need not.

use super::{Allowed, Sampled, Sampler, SamplingError, check_numbers, sampled};

impl Sampler {
    /// Draws as if nothing held the answer, and asks whether the token fits. Where it does not, what may come is drawn from
    /// with other random numbers: so tokens come as often as if nothing else had been there to draw.
    pub fn sample_lazily<'a, E: From<SamplingError>>(
        &mut self,
        logits: &mut [f32],
        position: u32,
        allowed_instead_of: impl FnOnce(u32) -> Result<Option<&'a Allowed>, E>,
    ) -> Result<Sampled, E> {
        check_numbers(logits, position)?;
        let (before, state) = (self.logprobs(logits), self.state());
        self.penalize(logits);
        let banned = self.ban(logits);
        let free = self.pick(logits, position, false)?;
        let Some(allowed) = allowed_instead_of(free)? else { return Ok(sampled(free, before)) };
        if let Some(state) = state {
            self.restore(state);
        }
        // Where only an end may come it is not banned. What was banned twice was itself before the first time.
        for (token, logit) in banned.into_iter().rev().filter(|_| allowed.ends_only()) {
            logits[token as usize] = logit;
        }
        allowed.apply(logits);
        Ok(sampled(self.pick(logits, position, true)?, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Recipe, TOKENS};
    use crate::text::{DrySettings, Grammar, Grammars, Mirostat, Sampling, Shape, Tokenizer};

    const TURN_END: u32 = TOKENS - 1;

    /// What may come in an answer that matches a regular expression, after so much of it.
    fn allowed(regex: &str, after: &str) -> Allowed {
        let folder = Recipe::tiny("qwen3", 7).temporary().unwrap();
        let grammars = Grammars::new(&Tokenizer::open(folder.path()).unwrap(), &[TURN_END], TOKENS);
        let mut matcher = grammars.compile(&Grammar::Shape(Shape::Regex(regex.to_string()))).unwrap();
        after.bytes().for_each(|byte| matcher.take(u32::from(byte)).unwrap());
        matcher.allowed().unwrap()
    }

    fn logits() -> Vec<f32> {
        (0..TOKENS).map(|token| (token * 7 % 31) as f32 / 4.0).collect()
    }

    /// A sampler that has seen something.
    fn sampler(settings: &Sampling) -> Sampler {
        let mut sampler = Sampler::new(settings.clone()).unwrap();
        sampler.observe_prompt(&[97, 98, 99, 97, 98]);
        sampler.observe(99);
        sampler
    }

    fn settings(temperature: f32) -> Vec<Sampling> {
        let plain = || Sampling { temperature, seed: 3, logprobs: Some(2), ..Sampling::default() };
        let dry = DrySettings { multiplier: 2.0, base: 1.5, allowed_length: 1, breakers: Vec::new() };
        let eos = vec![TURN_END];
        vec![
            plain(),
            Sampling { logit_bias: vec![(98, 30.0), (101, 29.0)], ..plain() },
            Sampling { repetition_penalty: 3.0, presence_penalty: 1.0, ..plain() },
            Sampling { dry: Some(dry), ..plain() },
            Sampling { unwanted: eos.clone(), min_tokens: 9, eos, ..plain() },
            Sampling { min_p: 0.01, ..plain() },
            Sampling { top_k: 200, top_p: 0.99, typical_p: 0.9, ..plain() },
        ]
    }

    #[test]
    fn a_draw_that_fits_is_the_draw_of_a_free_answer() {
        let mirostat = Mirostat { tau: 3.0, eta: 0.3 };
        let surprised = Sampling { mirostat: Some(mirostat), temperature: 1.0, seed: 3, ..Sampling::default() };
        for settings in settings(1.0).into_iter().chain([surprised]) {
            let (mut free, mut held) = (sampler(&settings), sampler(&settings));
            for position in 0..50 {
                let expected = free.sample(&mut logits(), position, None).unwrap();
                let fits = |_| Ok::<_, SamplingError>(None);
                assert_eq!(held.sample_lazily(&mut logits(), position, fits).unwrap(), expected, "{settings:?}");
                assert_eq!(held.state(), free.state());
            }
        }
    }

    #[test]
    fn a_draw_that_does_not_fit_is_made_again_as_if_nothing_else_had_been_there() {
        let some = allowed("[a-f]*x", "");
        let end = allowed("ab", "ab");
        assert!(end.ends_only());
        for allowed in [&some, &end] {
            for settings in settings(0.0) {
                let expected = sampler(&settings).sample(&mut logits(), 5, Some(allowed)).unwrap();
                let instead = |_| Ok::<_, SamplingError>(Some(allowed));
                let drawn = sampler(&settings).sample_lazily(&mut logits(), 5, instead).unwrap();
                assert_eq!(drawn, expected, "{settings:?}");
            }
            for settings in settings(1.5) {
                let instead = |_| Ok::<_, SamplingError>(Some(allowed));
                let drawn = sampler(&settings).sample_lazily(&mut logits(), 5, instead).unwrap();
                assert!(allowed.allows(drawn.token), "{settings:?}");
            }
        }
    }

    #[test]
    fn a_draw_that_does_not_fit_surprises_nobody() {
        let some = allowed("[a-f]*x", "");
        let mirostat = Some(Mirostat { tau: 3.0, eta: 0.3 });
        let settings = Sampling { mirostat, temperature: 1.0, seed: 3, ..Sampling::default() };
        let mut held = sampler(&settings);
        let before = held.state();
        let mut drawn_first = None;
        let instead = |token| {
            drawn_first = Some(token);
            Ok::<_, SamplingError>(Some(&some))
        };
        let drawn = held.sample_lazily(&mut logits(), 5, instead).unwrap().token;
        assert!(some.allows(drawn) && drawn_first.is_some_and(|first| first != drawn));
        // Twice the surprise would leave another state than one draw from the same.
        let mut masked = logits();
        some.apply(&mut masked);
        let mut once = sampler(&settings);
        assert_eq!(once.state(), before);
        assert_eq!(once.pick(&masked, 5, true).unwrap(), drawn);
        assert_eq!(once.state(), held.state());
    }
}
