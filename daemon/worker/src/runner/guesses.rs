//! What is guessed ahead before a plan: from a sequence's own text, or by the draft model, whichever promises more.
//!
//! All guesses of a step share one width, so each is weighed against what the step already computes. The runner calls this
//! before each plan; nothing here changes an answer.

use engine::ForwardError;
use scheduler::{Scheduler, SequenceId};

use super::Runner;
use super::pace::Pace;
use super::requests::Requests;
use crate::generation::Ticket;
use crate::guess::Step;

/// The most guesses of all sequences together in one step: beyond this, computing them takes longer than they gain.
pub const STEP_DRAFTS_MAX: u32 = 32;

/// How many tokens the draft model is to guess for a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The sequence.
    pub id: SequenceId,
    /// How many tokens.
    pub tokens: u32,
}

impl Runner {
    /// Lets every sequence that decodes guess its next tokens, as far as that pays.
    pub(super) fn guess(&mut self) -> Result<(), ForwardError> {
        let dear = self.drafter.as_ref().map(|drafter| drafter.ratio());
        let wishes = self.requests.guess(&mut self.scheduler, &self.pace, dear);
        self.grant(&wishes)
    }

    /// Lets the draft model guess as wished.
    pub(super) fn grant(&mut self, wishes: &[Wish]) -> Result<(), ForwardError> {
        let begun = self.drafter.as_ref().map(|drafter| drafter.begin(wishes, &mut self.scheduler));
        // Guesses are computed in blocks that may have held prefixes until now.
        self.store_evicted();
        match self.drafter.as_mut().zip(begun) {
            Some((drafter, begun)) => drafter.guess(begun, &mut self.scheduler, &mut self.requests, &self.pace),
            None => Ok(()),
        }
    }
}

impl Requests {
    /// Guesses for what decodes from its own text; returns for which others a draft model is to guess, where a token of
    /// its costs `dear`, in parts of a step.
    fn guess(&mut self, scheduler: &mut Scheduler, pace: &Pace, dear: Option<f64>) -> Vec<Wish> {
        let draft_tokens_max = self.places().draft_tokens_max;
        if draft_tokens_max == 0 {
            return Vec::new();
        }
        let decoding = self.generations.values().flat_map(|generation| &generation.choices);
        let rows = decoding.filter(|choice| choice.decodes()).count() as u32;
        let (mut width, mut room) = (rows, STEP_DRAFTS_MAX);
        let mut wishes = Vec::new();
        for (ticket, generation) in &mut self.generations {
            for (choice, guesser) in generation.choices.iter().zip(&mut generation.guessers) {
                if !choice.decodes() {
                    continue;
                }
                let (id, most) = (ticket.sequence(choice.index()), draft_tokens_max.min(room) as usize);
                let cost = |more| pace.cost(width, more);
                let guess = guesser.from_text(most, &Step { rows, cost: &cost });
                let mut guessed = guess.len() as u32;
                if guessed > 0 {
                    scheduler.draft(id, guess);
                } else if let Some(dear) = dear {
                    // The draft model guesses for all at once.
                    let dear = dear / f64::from(rows);
                    let cost = |more| pace.cost(width, more) + f64::from(more) * dear;
                    guessed = guesser.for_model(most, &Step { rows, cost: &cost }) as u32;
                    wishes.extend((guessed > 0).then_some(Wish { id, tokens: guessed }));
                }
                (width, room) = (width + guessed, room - guessed);
            }
        }
        wishes
    }

    /// The token that a sequence would draw at a position from the draft model's logits.
    pub(super) fn foresee(&mut self, id: SequenceId, logits: &mut [f32], position: u32) -> Option<u32> {
        let (ticket, choice) = Ticket::of(id);
        self.generations.get_mut(&ticket)?.choices.get_mut(usize::from(choice))?.foresee(logits, position)
    }

    /// Notes that the draft model made the guess for a sequence.
    pub(super) fn model_guessed(&mut self, id: SequenceId) {
        let (ticket, choice) = Ticket::of(id);
        let guessers = self.generations.get_mut(&ticket).map(|generation| &mut generation.guessers);
        if let Some(guesser) = guessers.and_then(|guessers| guessers.get_mut(usize::from(choice))) {
            guesser.model_guessed();
        }
    }
}
