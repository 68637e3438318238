//! Makes what an answer is held to, ready to be followed.
//!
//! A stranger's grammar is tried in another process first. Where tools that are not strict do not compile, the names of what is
//! called stay held, and where that does not compile either, nothing is; what failed is not tried again. Only `prompt`
//! calls this.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use engine::text::{Grammar, GrammarError, Matcher, Written};
use protocol::Error;
use protocol::generation::{GenerateRequest, Prompt};

use super::renderer::{Rendering, TryError};
use super::shape::{self, Held};
use super::{Prompter, TRIAL_PATIENCE};

/// How many grammars are remembered that do not compile.
const UNMADE_MAX: usize = 64;

/// Grammars that do not compile and have something looser in their place.
#[derive(Default)]
pub struct Unmade(Mutex<VecDeque<u64>>);

impl Unmade {
    fn has(&self, written: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&written)
    }

    fn add(&self, written: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(UNMADE_MAX - 1);
        known.push_front(written);
    }
}

impl Prompter {
    /// What an answer is held to, if it can be made.
    pub(super) fn matcher(
        &self,
        request: &GenerateRequest,
        held: Option<&Held>,
        rendering: &mut Rendering,
    ) -> Result<Option<Matcher>, Error> {
        let Some(held) = held else { return Ok(None) };
        let chat = match &request.prompt {
            Prompt::Chat(chat) => Some(chat),
            _ => None,
        };
        let refused = |error: TryError| match error {
            TryError::Grammar(error) => shape::refusal(&error, chat, request.constraint.as_ref()),
            TryError::Process(error) => error.into(),
        };
        let Some(looser) = &held.looser else { return self.make(&held.grammar, rendering).map(Some).map_err(refused) };
        for grammar in [&held.grammar, looser] {
            if let Some(matcher) = self.make_at_most_once(grammar, rendering).map_err(refused)? {
                return Ok(Some(matcher));
            }
        }
        // What must hold is refused in its own words.
        if held.lazily && !held.strictly {
            return Ok(None);
        }
        self.make(looser, rendering).map(Some).map_err(refused)
    }

    /// Makes a grammar; `None` if that cannot be done, now or before.
    fn make_at_most_once(&self, grammar: &Grammar, rendering: &mut Rendering) -> Result<Option<Matcher>, TryError> {
        let Ok(written) = self.grammars.write(grammar) else { return Ok(None) };
        let mut hasher = DefaultHasher::new();
        written.text().hash(&mut hasher);
        let key = hasher.finish();
        if self.unmade.has(key) {
            return Ok(None);
        }
        match self.make_written(written, rendering) {
            Ok(matcher) => Ok(Some(matcher)),
            Err(error @ (TryError::Process(_) | TryError::Grammar(GrammarError::Busy))) => Err(error),
            Err(TryError::Grammar(_)) => {
                tracing::warn!("a request's tools do not compile: their calls are not held to their schemas");
                self.unmade.add(key);
                Ok(None)
            }
        }
    }

    fn make(&self, grammar: &Grammar, rendering: &mut Rendering) -> Result<Matcher, TryError> {
        self.make_written(self.grammars.write(grammar)?, rendering)
    }

    fn make_written(&self, written: Written, rendering: &mut Rendering) -> Result<Matcher, TryError> {
        if !self.grammars.has(&written) {
            let _turn = self.trials.take(TRIAL_PATIENCE).ok_or(GrammarError::Busy)?;
            rendering.try_grammar(written.text())?;
        }
        Ok(self.grammars.compile_written(written)?)
    }
}
