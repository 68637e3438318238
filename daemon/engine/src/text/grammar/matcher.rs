//! Follows one answer through its grammar: which tokens may come next, and whether it is over.
//!
//! Taking a token costs microseconds; finding what may follow costs up to some milliseconds, so the worker does that on
//! a thread of its own. Both are bounded by the grammar engine's own limits. A matcher never samples.

use llguidance::CancellationHandle;
use toktrie::SimpleVob;

use super::GrammarError;

/// The most characters of what the grammar engine says.
const WORDS_MAX: usize = 300;

/// The place of one answer in its grammar.
pub struct Matcher {
    inner: llguidance::Matcher,
    eos: Vec<u32>,
    vocabulary: u32,
}

/// The tokens that may come next.
pub struct Allowed {
    bits: SimpleVob,
    vocabulary: u32,
    ends_only: bool,
}

/// Stops the search for the next tokens from another thread; the matcher is of no use afterwards.
#[derive(Clone)]
pub struct Interrupt(Option<CancellationHandle>);

impl Interrupt {
    /// Stops it.
    pub fn stop(&self) {
        if let Some(handle) = &self.0 {
            handle.cancel();
        }
    }
}

impl Matcher {
    pub(super) fn new(inner: llguidance::Matcher, eos: Vec<u32>, vocabulary: u32) -> Self {
        Self { inner, eos, vocabulary }
    }

    /// A matcher at the same place that goes its own way.
    pub fn fork(&self) -> Self {
        Self { inner: self.inner.deep_clone(), eos: self.eos.clone(), vocabulary: self.vocabulary }
    }

    /// A way to stop `allowed`.
    pub fn interrupt(&self) -> Interrupt {
        Interrupt(self.inner.cancellation_handle())
    }

    /// Finds the tokens that may come next; end tokens are among them where the answer may be complete.
    pub fn allowed(&mut self) -> Result<Allowed, GrammarError> {
        let bits = self.inner.compute_mask_or_eos().map_err(|error| GrammarError::Stuck(words(&error)))?;
        let ends = self.eos.iter().filter(|token| bits.is_allowed(**token)).count();
        let beyond = usize::from(bits.is_allowed(self.vocabulary));
        let ends_only = bits.num_set() == ends + beyond;
        if ends_only && ends == 0 && !self.is_over() {
            return Err(GrammarError::Stuck("no token of this model may follow".to_string()));
        }
        Ok(Allowed { bits, vocabulary: self.vocabulary, ends_only })
    }

    /// Whether this token may come next, which is found much sooner than all that may.
    pub fn admits(&mut self, token: u32) -> Result<bool, GrammarError> {
        if self.is_over() {
            return Ok(self.eos.contains(&token));
        }
        let count = self.inner.validate_tokens(&[token]).map_err(|error| GrammarError::Stuck(words(&error)))?;
        Ok(count == 1)
    }

    /// Takes the next token of the answer, which must be an allowed one and no end token.
    pub fn take(&mut self, token: u32) -> Result<(), GrammarError> {
        self.inner.consume_token(token).map_err(|error| GrammarError::Stuck(words(&error)))
    }

    /// Whether nothing but the end may follow.
    pub fn is_over(&self) -> bool {
        self.inner.is_stopped() && !self.inner.is_error()
    }
}

impl Allowed {
    /// Sets the logits of all other tokens to minus infinity.
    pub fn apply(&self, logits: &mut [f32]) {
        for (index, chunk) in logits.chunks_mut(32).enumerate() {
            let word = self.bits.as_slice().get(index).copied().unwrap_or(0);
            if word == u32::MAX {
                continue;
            }
            for (bit, logit) in chunk.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Whether a token may come next.
    pub fn allows(&self, token: u32) -> bool {
        token < self.vocabulary && self.bits.is_allowed(token)
    }

    /// Whether only end tokens may come.
    pub fn ends_only(&self) -> bool {
        self.ends_only
    }
}

/// The first line of what the grammar engine says, as what follows it are its innards; of a regular expression's fault the
/// last one, which says what it is.
pub(super) fn words(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    match text.lines().next() {
        Some(line) if line.starts_with("panic:") => "the grammar engine failed on it".to_string(),
        // It names an option that nobody here can set.
        Some(line) if line.starts_with("oneOf constraints are not supported") => {
            "the schema uses 'oneOf' of alternatives that may fit at once, which is not enforced here; use 'anyOf'"
                .to_string()
        }
        Some("NoExtensionBias") => "nothing may follow".to_string(),
        Some(line) if !line.trim().is_empty() => {
            let fault = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
            let fault = fault.filter(|_| line.ends_with("regex parse error:")).map(|fault| format!(" {fault}"));
            format!("{}{}", line.trim(), fault.unwrap_or_default()).chars().take(WORDS_MAX).collect()
        }
        _ => "the grammar engine gave no reason".to_string(),
    }
}
