//! Makes what an answer is held to, ready to be followed.
//!
//! A stranger's grammar is tried in another process first. Where it does not compile, the tools at fault may have any
//! arguments if they are not strict, then all that are not; the names of what is called stay held, and where that does not
//! compile either, nothing is. What failed is not tried again. Only `prompt` calls this.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::text::{Grammar, GrammarError, Matcher, Written};
use protocol::Error;
use protocol::generation::{GenerateRequest, Prompt};

use super::renderer::{Rendering, TryError};
use super::shape::{self, Asked, Held};
use super::{Prompter, TRIAL_PATIENCE};

/// How many grammars are remembered of which it is known whether they compile.
const TRIED_MAX: usize = 1024;
/// How long the tools at fault are looked for; those that were not looked at by then count among them.
const LOOKING_MAX: Duration = Duration::from_secs(5);

/// Grammars that have something looser in their place, and whether they compile.
#[derive(Default)]
pub struct Tried(Mutex<VecDeque<(u64, bool)>>);

impl Tried {
    fn compiles(&self, written: u64) -> Option<bool> {
        let tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.iter().find(|(known, _)| *known == written).map(|(_, compiles)| *compiles)
    }

    fn add(&self, written: u64, compiles: bool) {
        let mut tried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tried.truncate(TRIED_MAX - 1);
        tried.push_front((written, compiles));
    }
}

impl Prompter {
    /// What an answer is held to, if it can be made.
    pub(super) fn matcher(
        &self,
        request: &GenerateRequest,
        held: Option<&Held<'_>>,
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
        let Some(ask) = &held.lenient else {
            return self.make(&held.grammar, rendering).map(Some).map_err(refused);
        };
        if let Some(matcher) = self.make_at_most_once(&held.grammar, rendering).map_err(refused)? {
            return Ok(Some(matcher));
        }
        let lenient: HashSet<&str> = ask.lenient()?.into_iter().map(|tool| tool.name.as_str()).collect();
        let at_fault = self.at_fault(ask, rendering).map_err(refused)?;
        for loose in [at_fault, lenient.clone()] {
            let Some(grammar) = ask.loosened(loose)? else { return Ok(None) };
            if let Some(matcher) = self.make_at_most_once(&grammar, rendering).map_err(refused)? {
                return Ok(Some(matcher));
            }
        }
        // What must hold is refused in its own words.
        let loosest = ask.loosened(lenient)?.filter(|_| !held.lazily || held.strictly);
        loosest.map(|grammar| self.make(&grammar, rendering).map_err(refused)).transpose()
    }

    /// The tools that are not strict and do not compile by themselves.
    fn at_fault<'a>(&self, ask: &Asked<'a>, rendering: &mut Rendering) -> Result<HashSet<&'a str>, TryError> {
        let end = Instant::now() + LOOKING_MAX;
        let mut at_fault = HashSet::new();
        for tool in ask.lenient().unwrap_or_default() {
            let call = ask.one_call(tool).ok().and_then(|call| self.grammars.write(&call).ok());
            let compiles = match call.map(|call| (key(&call), call)) {
                None => false,
                Some((key, call)) => match self.tried.compiles(key) {
                    Some(compiles) => compiles,
                    None => Instant::now() < end && self.try_once(key, call, rendering)?.is_some(),
                },
            };
            if !compiles {
                at_fault.insert(tool.name.as_str());
            }
        }
        Ok(at_fault)
    }

    /// Makes a grammar; `None` if that cannot be done, now or before.
    fn make_at_most_once(&self, grammar: &Grammar, rendering: &mut Rendering) -> Result<Option<Matcher>, TryError> {
        let Ok(written) = self.grammars.write(grammar) else { return Ok(None) };
        let key = key(&written);
        if self.tried.compiles(key) == Some(false) {
            return Ok(None);
        }
        self.try_once(key, written, rendering)
    }

    fn try_once(&self, key: u64, written: Written, rendering: &mut Rendering) -> Result<Option<Matcher>, TryError> {
        let made = match self.make_written(written, rendering) {
            Ok(matcher) => Some(matcher),
            Err(error @ (TryError::Process(_) | TryError::Grammar(GrammarError::Busy))) => return Err(error),
            Err(TryError::Grammar(_)) => None,
        };
        if self.tried.compiles(key).is_none() {
            self.tried.add(key, made.is_some());
            if made.is_none() {
                tracing::warn!("tools of a request do not compile: their calls are not all held to their schemas");
            }
        }
        Ok(made)
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

/// A name for what is written.
fn key(written: &Written) -> u64 {
    let mut hasher = DefaultHasher::new();
    written.text().hash(&mut hasher);
    hasher.finish()
}
