//! How tokens are drawn, and what is refused.
//!
//! Values are final here: the worker has already filled a request's gaps from the model's defaults. The sampler checks
//! them once, when a choice begins.

use super::dry::DrySettings;

/// The target of mirostat 2 and how fast it is approached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// The surprise of a token to aim at, in bits.
    pub tau: f32,
    /// How much of a miss is made up for.
    pub eta: f32,
}

/// The settings of one choice. The default draws greedily.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// How many of the likeliest tokens stay; 0 is all.
    pub top_k: u32,
    /// The share of probability that the likeliest tokens must reach together; 1 is all, and 0 the likeliest alone.
    pub top_p: f32,
    /// The least probability relative to the likeliest token; 0 is none.
    pub min_p: f32,
    /// Divides positive logits and multiplies negative ones of tokens in prompt or answer; 1 is off.
    pub repetition_penalty: f32,
    /// At how many of the last tokens that penalty looks; `None` is all of them.
    pub repetition_window: Option<u32>,
    /// Whether the other two penalties look at those same tokens, in the prompt too.
    pub one_window: bool,
    /// Subtracted once from the logits of tokens in the answer.
    pub presence_penalty: f32,
    /// Subtracted per occurrence from the logits of tokens in the answer.
    pub frequency_penalty: f32,
    /// The share of probability that the most typical tokens must reach together; 1 is all.
    pub typical_p: f32,
    /// How often XTC leaves out likely tokens; 0 is never.
    pub xtc_probability: f32,
    /// From which probability a token is likely to XTC.
    pub xtc_threshold: f32,
    /// Tokens that it never leaves out: an answer without its end rambles on.
    pub xtc_keep: Vec<u32>,
    /// What a repetition costs; `None` is nothing.
    pub dry: Option<DrySettings>,
    /// Holds the text's surprise near a target, in place of every filter; `None` is off.
    pub mirostat: Option<Mirostat>,
    /// Added to the logits of single tokens; minus infinity bans one. Ids past the logits are ignored.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes the draws repeatable.
    pub seed: u64,
    /// Which of a request's choices this is; each draws differently.
    pub choice: u16,
    /// The tokens that end an answer.
    pub eos: Vec<u32>,
    /// Tokens that are drawn only where nothing but an end may come.
    pub unwanted: Vec<u32>,
    /// How many tokens an answer must have before one of `eos` may be drawn.
    pub min_tokens: u32,
    /// How many alternatives to report; `None` reports no log-probabilities at all.
    pub logprobs: Option<u8>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: None,
            one_window: false,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            xtc_keep: Vec::new(),
            dry: None,
            mirostat: None,
            logit_bias: Vec::new(),
            seed: 0,
            choice: 0,
            eos: Vec::new(),
            unwanted: Vec::new(),
            min_tokens: 0,
            logprobs: None,
        }
    }
}

/// Why no token can be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A setting is outside its range.
    #[error("{name} is {value}; it must be {range}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f32,
        /// What is allowed.
        range: &'static str,
    },
    /// A logit is NaN or infinite.
    #[error("the model's output at position {position} is not a number (token {token}); its weights may be damaged")]
    NotANumber {
        /// The position.
        position: u32,
        /// The first such token.
        token: u32,
    },
    /// Bans leave no token to draw.
    #[error("every token is banned at position {position}; relax logit_bias or min_tokens")]
    NothingAllowed {
        /// The position.
        position: u32,
    },
}

impl Sampling {
    /// Refuses values that have no meaning.
    pub(super) fn check(&self) -> Result<(), SamplingError> {
        let within = |name, value: f32, sound: bool, range| {
            if sound { Ok(()) } else { Err(SamplingError::OutOfRange { name, value, range }) }
        };
        within("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "from 0 to 100")?;
        within("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "from 0 to 1")?;
        within("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1")?;
        // Wider than any sensible value, and narrow enough that no logit overflows.
        let repetition = self.repetition_penalty;
        within("repetition_penalty", repetition, (0.01..=100.0).contains(&repetition), "from 0.01 to 100")?;
        for (name, penalty) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            within(name, penalty, (-100.0..=100.0).contains(&penalty), "from -100 to 100")?;
        }
        within("typical_p", self.typical_p, self.typical_p > 0.0 && self.typical_p <= 1.0, "above 0 and at most 1")?;
        for (name, share) in [("xtc_probability", self.xtc_probability), ("xtc_threshold", self.xtc_threshold)] {
            within(name, share, (0.0..=1.0).contains(&share), "from 0 to 1")?;
        }
        if let Some(dry) = &self.dry {
            within("dry_multiplier", dry.multiplier, (0.0..=100.0).contains(&dry.multiplier), "from 0 to 100")?;
            within("dry_base", dry.base, (1.0..=100.0).contains(&dry.base), "from 1 to 100")?;
        }
        if let Some(Mirostat { tau, eta }) = self.mirostat {
            within("mirostat_tau", tau, (0.0..=100.0).contains(&tau), "from 0 to 100")?;
            within("mirostat_eta", eta, (0.0..=1.0).contains(&eta), "from 0 to 1")?;
        }
        for &(_, bias) in &self.logit_bias {
            within("logit_bias", bias, bias <= 1e6, "at most 1000000")?;
        }
        Ok(())
    }
}
