//! One request on its way: its choices, what each has drawn so far, and what the daemon is to be told of it.
//!
//! A choice turns a drawn token into a delta and knows when it is complete. After a worker's death the delivered tokens
//! go through the same function with nothing emitted, so the answer goes on as if nothing had happened. The prompt
//! thread makes generations, the runner steps them; no clock is read here.

#[cfg(test)]
mod tests;
mod thoughts;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::text::{Detokenizer, GrammarError, Sampled, Sampler, SamplingError, Tokenizer};
use pipe::{Delivered, WorkId};
use protocol::generation::{
    ChoiceFinished, Delta, FinishReason, Finished, Missed, Priority, PromptToken, Speculation, Timing, TokenLogprob,
    Usage,
};
use scheduler::{Salt, SequenceId};

use crate::follow::Follower;
use crate::guess::Guesser;
use crate::output::{End, Output, Piece};
use thoughts::{Place, ReasoningTokens};

/// The most choices of one request.
pub const CHOICES_MAX: u16 = 128;

/// Names one request inside this worker; never used twice, unlike a `WorkId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

impl Ticket {
    /// The scheduler's name for one of its choices.
    pub fn sequence(self, choice: u16) -> SequenceId {
        SequenceId(self.0 << 16 | u64::from(choice))
    }

    /// The request and the choice behind a sequence.
    pub fn of(sequence: SequenceId) -> (Self, u16) {
        (Self(sequence.0 >> 16), sequence.0 as u16)
    }
}

/// One request on its way.
pub struct Generation {
    /// Its name on the pipe.
    pub work: WorkId,
    /// Its prompt.
    pub prompt: Vec<u32>,
    /// How many tokens of the prompt the daemon was told of before; `None` if it does not ask for them.
    pub prompt_told: Option<u32>,
    /// The seed in use.
    pub seed: u64,
    /// Who asks.
    pub client: u64,
    /// Whose prefixes it may reuse.
    pub salt: Salt,
    /// Who goes first.
    pub priority: Priority,
    /// Whether an earlier worker had begun it.
    pub resumed: bool,
    /// Its answers.
    pub choices: Vec<Choice>,
    /// Ends that the delivered tokens reach and that were not delivered themselves.
    pub ends_untold: Vec<ChoiceFinished>,
    /// How many prompt tokens came from the prefix cache.
    pub cached_tokens: u32,
    /// Why no more of them did.
    pub missed: Option<Missed>,
    /// By choice, what guesses its next tokens; empty if nothing does.
    pub guessers: Vec<Guesser>,
    /// How well it guessed.
    pub speculation: Speculation,
    /// When its work began and how far it has come.
    pub clock: Clock,
}

/// The moments of a request.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When it arrived.
    pub arrived: Instant,
    /// When its first row was computed.
    pub started: Option<Instant>,
    /// When it was last told how much of its prompt is read.
    pub told: Option<Instant>,
    /// When its first token was drawn.
    pub first_token: Option<Instant>,
    /// When its last token was drawn.
    pub last_token: Option<Instant>,
}

impl Clock {
    /// A request that has just arrived.
    pub fn new(arrived: Instant) -> Self {
        Self { arrived, started: None, told: None, first_token: None, last_token: None }
    }

    /// Notes that a token was drawn.
    pub fn token(&mut self, now: Instant) {
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
    }

    fn timing(&self) -> Timing {
        let between = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map_or(0, |(from, to)| to.saturating_duration_since(from).as_micros() as u64)
        };
        Timing {
            queue_us: between(Some(self.arrived), self.started),
            prefill_us: between(self.started, self.first_token),
            decode_us: between(self.first_token, self.last_token),
        }
    }
}

impl Generation {
    /// From which position on logits are wanted to judge the prompt, if they are.
    pub fn judge_from(&self) -> Option<u32> {
        let told = self.prompt_told.filter(|told| (*told as usize) < self.prompt.len())?;
        Some(told.saturating_sub(1))
    }

    /// What is told of the prompt's first token, unless it was told before or nobody asks.
    pub fn first_of_prompt(&self) -> Option<PromptToken> {
        let token = *self.prompt.first().filter(|_| self.prompt_told == Some(0))?;
        let bytes = self.choices.first()?.logprobs.as_ref()?.token_bytes(token).to_vec();
        Some(PromptToken { token, bytes, logprob: None, top: Vec::new() })
    }

    /// The last event, once every choice is complete.
    pub fn finished(&self) -> Option<Finished> {
        self.choices.iter().all(|choice| choice.finished.is_some()).then(|| Finished {
            usage: Usage {
                prompt_tokens: self.prompt.len() as u32,
                cached_tokens: self.cached_tokens.min(self.prompt.len() as u32),
                completion_tokens: self.choices.iter().map(|choice| choice.tokens).sum(),
                reasoning_tokens: self.choices.iter().map(|choice| choice.reasoning.tokens()).sum(),
            },
            timing: self.clock.timing(),
            speculation: self.speculation,
            missed: self.missed,
        })
    }
}

/// When the choices of a request end, besides their stop strings.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Tokens that end an answer and are no part of it.
    pub tokens: HashSet<u32>,
    /// How many tokens a choice must have before a stop string counts.
    pub tokens_min: u32,
    /// The most tokens of a choice.
    pub tokens_max: u32,
}

/// One answer of a request.
pub struct Choice {
    index: u16,
    ends: Arc<Ends>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    output: Output,
    /// Holds the answer to a shape.
    follower: Option<Follower>,
    budget: Option<Budget>,
    /// How many tokens of reasoning there are.
    thought: u32,
    /// Tokens that come next whatever the model says: they end a reasoning whose budget is spent.
    forced: VecDeque<u32>,
    /// Reports log-probabilities with the bytes of this tokenizer's tokens.
    logprobs: Option<Tokenizer>,
    judges_end: bool,
    tokens: u32,
    /// When its last token was drawn.
    drawn: Option<Instant>,
    reasoning: ReasoningTokens,
    finished: Option<FinishReason>,
    /// Delivered tokens that the scheduler has not been given yet.
    replayed: Vec<u32>,
}

/// What one drawn token leads to.
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// What the client sees of it; empty while text is held back.
    pub delta: Delta,
    /// What the sampler has come to, where tokens alone do not tell.
    pub sampler: Option<f64>,
    /// The end of the choice, if this was its last token.
    pub finished: Option<ChoiceFinished>,
}

/// Why no token can be drawn, or taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DrawError {
    /// The settings leave none, or the logits are broken.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The grammar cannot be followed.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
}

/// How long an answer may reason.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The most tokens.
    pub tokens: u32,
    /// What ends the reasoning.
    pub close: Vec<u32>,
}

/// What a choice is made of.
pub struct ChoiceParts {
    /// Which choice, from 0.
    pub index: u16,
    /// When it ends.
    pub ends: Arc<Ends>,
    /// How its tokens are drawn; it has seen the prompt.
    pub sampler: Sampler,
    /// How its tokens become text.
    pub detokenizer: Detokenizer,
    /// How its text becomes an answer.
    pub output: Output,
    /// Its place in the grammar that it is held to, if there is one.
    pub follower: Option<Follower>,
    /// How long it may reason; `None` is without a limit.
    pub budget: Option<Budget>,
    /// Whether log-probabilities are reported, and the bytes of tokens for them.
    pub logprobs: Option<Tokenizer>,
    /// Whether that includes the token that ends the answer: whoever has a text judged counts tokens.
    pub judges_end: bool,
}

impl Choice {
    /// An answer without a token.
    pub fn new(parts: ChoiceParts) -> Self {
        let ChoiceParts { index, ends, sampler, detokenizer, output, follower, budget, logprobs, judges_end } = parts;
        let mut choice = Self {
            index,
            ends,
            sampler,
            detokenizer,
            output,
            follower,
            budget,
            thought: 0,
            forced: VecDeque::new(),
            logprobs,
            judges_end,
            tokens: 0,
            drawn: None,
            reasoning: ReasoningTokens::default(),
            finished: None,
            replayed: Vec::new(),
        };
        choice.limit_reasoning();
        choice
    }

    /// Which choice, from 0.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Whether it is complete.
    pub fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Whether it has drawn a token here and is not complete.
    pub fn decodes(&self) -> bool {
        self.drawn.is_some() && self.finished.is_none()
    }

    /// Notes that tokens were drawn; returns how long after the last ones, if there were any.
    pub fn note_drawn(&mut self, now: Instant) -> Option<Duration> {
        self.drawn.replace(now).map(|last| now.saturating_duration_since(last))
    }

    /// The most tokens it may have.
    pub fn tokens_max(&self) -> u32 {
        self.ends.tokens_max
    }

    /// Draws the token at `position` of the whole sequence.
    pub fn draw(&mut self, logits: &mut [f32], position: u32) -> Result<Drawn, DrawError> {
        let sampled = match self.forced.front() {
            Some(token) => self.sampler.judge(logits, position, *token)?,
            None => self.sample(logits, position)?,
        };
        let logprobs = self.logprobs.as_ref().and_then(|tokenizer| logprob(tokenizer, &sampled));
        let ends = self.ends.tokens.contains(&sampled.token);
        let mut drawn = self.take(sampled.token)?;
        // What ends a turn is no part of the answer, and neither is its probability.
        drawn.delta.logprobs.extend(logprobs.filter(|_| !ends || self.judges_end));
        self.look_ahead();
        Ok(drawn)
    }

    fn sample(&mut self, logits: &mut [f32], position: u32) -> Result<Sampled, DrawError> {
        let Some(follower) = &mut self.follower else { return Ok(self.sampler.sample(logits, position, None)?) };
        if follower.is_lazy() {
            return self.sampler.sample_lazily(logits, position, |token| Ok(follower.instead_of(token)?));
        }
        Ok(self.sampler.sample(logits, position, Some(follower.allowed()?))?)
    }

    /// Ends an answer that is to have no tokens.
    pub fn close(&mut self) -> ChoiceFinished {
        self.finished = Some(FinishReason::Length);
        ChoiceFinished { choice: self.index, reason: FinishReason::Length, stop_string: None }
    }

    /// What is told of a token of the prompt, which stands after `position` and whose logits these are.
    pub fn judge(&self, logits: &[f32], position: u32, token: u32) -> Result<Option<PromptToken>, DrawError> {
        let sampled = self.sampler.judge(logits, position, token)?;
        let judged = self.logprobs.as_ref().and_then(|tokenizer| logprob(tokenizer, &sampled));
        Ok(judged.map(|TokenLogprob { token, bytes, logprob, top }| PromptToken {
            token,
            bytes,
            logprob: Some(logprob),
            top,
        }))
    }

    /// The token it would draw at `position` from the logits of another model; nothing is taken.
    pub fn foresee(&mut self, logits: &mut [f32], position: u32) -> Option<u32> {
        let state = self.sampler.state();
        let sampled = self.sampler.sample(logits, position, None).ok();
        if let Some(state) = state {
            self.sampler.restore(state);
        }
        sampled.map(|sampled| sampled.token)
    }

    /// Has the tokens that may come next looked for, while others work.
    pub fn look_ahead(&mut self) {
        if let (Some(follower), None) = (&mut self.follower, self.finished) {
            follower.look_ahead();
        }
    }

    /// Goes silently through what was delivered before; returns the end that was not, if the tokens reach it.
    pub fn replay(&mut self, delivered: Delivered) -> Result<Option<ChoiceFinished>, GrammarError> {
        let mut end = None;
        for token in &delivered.tokens {
            end = self.take(*token)?.finished;
            if end.is_some() {
                break;
            }
        }
        self.replayed = delivered.tokens;
        if let Some(state) = delivered.sampler {
            self.sampler.restore(state);
        }
        if delivered.finished.is_none() {
            return Ok(end);
        }
        self.finished = delivered.finished;
        Ok(None)
    }

    /// The tokens that `replay` went through, for the scheduler and whoever guesses.
    pub fn take_replayed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.replayed)
    }

    /// Adds a token to the answer.
    fn take(&mut self, token: u32) -> Result<Drawn, GrammarError> {
        self.sampler.observe(token);
        self.tokens += 1;
        let ended = self.ends.tokens.contains(&token);
        let over = match &mut self.follower {
            Some(follower) if !ended => follower.take(token)?,
            _ => false,
        };
        let was_reasoning = self.output.is_reasoning();
        self.output.set_too_short(self.tokens <= self.ends.tokens_min);
        let mut piece = if ended { Piece::default() } else { self.output.push(&self.detokenizer.push(token)) };
        if piece.stopped.is_none() && (ended || over || self.tokens >= self.ends.tokens_max) {
            append(&mut piece, self.output.push(&self.detokenizer.finish()));
        }
        let reason = match (&piece.stopped, ended || over) {
            (Some(_), _) | (None, true) => Some(FinishReason::Stop),
            (None, false) if self.tokens >= self.ends.tokens_max => Some(FinishReason::Length),
            (None, false) => None,
        };
        if !ended {
            let place = match was_reasoning && self.output.is_reasoning() {
                true if self.output.is_unsure() => Place::Unsure,
                true => Place::Inside,
                false => Place::Outside,
            };
            self.reasoning.count(!piece.reasoning.is_empty(), place);
        }
        if let Some(reason) = reason {
            let end = match reason {
                FinishReason::Length if self.forced.is_empty() => End::Cut,
                FinishReason::Length => End::Closing,
                _ => End::Whole,
            };
            let rest = self.output.finish(end);
            self.reasoning.end(!rest.reasoning.is_empty());
            append(&mut piece, rest);
        }
        self.forced.pop_front_if(|forced| *forced == token);
        self.thought += u32::from(self.output.is_reasoning());
        self.limit_reasoning();
        let reason = reason.map(|reason| match reason {
            FinishReason::Stop if self.output.calls() > 0 => FinishReason::ToolCalls,
            reason => reason,
        });
        self.finished = reason;
        let finished =
            reason.map(|reason| ChoiceFinished { choice: self.index, reason, stop_string: piece.stopped.take() });
        Ok(Drawn { token, delta: self.delta(piece), sampler: self.sampler.state(), finished })
    }

    /// Ends the reasoning once its budget is spent, and no character is left half said.
    fn limit_reasoning(&mut self) {
        if let Some(budget) = &self.budget
            && self.forced.is_empty()
            && self.output.is_reasoning()
            && self.detokenizer.is_whole()
            && self.thought >= budget.tokens
        {
            self.forced.extend(&budget.close);
        }
    }

    fn delta(&self, piece: Piece) -> Delta {
        Delta {
            choice: self.index,
            text: piece.text,
            reasoning: piece.reasoning,
            tool_calls: piece.tool_calls,
            tokens: 1,
            ..Delta::default()
        }
    }
}

fn append(piece: &mut Piece, more: Piece) {
    piece.text.push_str(&more.text);
    piece.reasoning.push_str(&more.reasoning);
    piece.tool_calls.extend(more.tool_calls);
    piece.stopped = piece.stopped.take().or(more.stopped);
}

fn logprob(tokenizer: &Tokenizer, sampled: &Sampled) -> Option<TokenLogprob> {
    let bytes = |token: u32| tokenizer.token_bytes(token).to_vec();
    Some(TokenLogprob {
        token: sampled.token,
        bytes: bytes(sampled.token),
        logprob: sampled.logprob?,
        top: sampled.top.iter().map(|(token, logprob)| (*token, bytes(*token), *logprob)).collect(),
    })
}
