//! The draft model: a smaller model of the same vocabulary that guesses what the worker's own model says next.
//!
//! It keeps its keys and values in blocks of the same numbers, so that shared prefixes, forks and preemption need no second
//! bookkeeping; only how much of each block it has filled itself is counted here, because it computes prompts along with
//! the model and answers only where it guesses. It draws with the very random numbers that the model will draw with, so that
//! sampled answers agree as often as the two distributions do. What it leaves out or gets wrong costs time, never an answer.

use std::path::Path;
use std::time::Instant;

use engine::text::Tokenizer;
use engine::{ForwardError, LoadError, Model, Options, Row, Wanted};
use scheduler::{BLOCK_TOKENS, Outcome, Plan, Scheduler, SequenceId, blocks_for};

use super::guesses::Wish;
use super::pace::Pace;
use super::requests::Requests;

/// The most tokens of one sequence that are caught up with in one step, besides those that its model computes.
const CATCH_UP_MAX: u32 = 64;
/// How much a new measure of its speed counts.
const NEWEST: f64 = 0.1;

/// A draft model and what it has computed.
pub struct Drafter {
    model: Model,
    /// By block: how many of its positions, from the first on, hold what this model computed.
    filled: Vec<u8>,
    logits: Vec<f32>,
    /// What a step of it takes, in parts of a step of the worker's model.
    ratio: f64,
    /// What it has computed since the last plan was committed.
    drafted: Vec<Drafted>,
}

/// What was computed of one sequence.
struct Drafted {
    id: SequenceId,
    blocks: Vec<u32>,
    from: u32,
    /// Up to where its tokens are the sequence's own.
    own: u32,
    /// How many tokens were guessed after those; the last of them was not computed.
    guesses: u32,
}

/// A sequence that is being guessed for.
pub struct Going {
    drafted: Drafted,
    /// What to compute next, and where it stands.
    tokens: Vec<u32>,
    start: u32,
    guessed: Vec<u32>,
    most: u32,
}

impl Drafter {
    /// Loads a draft model for a model of `parameters` whose tokens are spelled by `tokenizer`.
    pub fn open(dir: &Path, options: &Options, tokenizer: &Tokenizer, parameters: u64) -> Result<Self, LoadError> {
        let own = Tokenizer::open(dir)?;
        if !own.spells_as(tokenizer) {
            return Err(LoadError::Unsupported {
                feature: format!("a draft model with a vocabulary of its own ({})", dir.display()),
                supported: "a draft model must have the tokenizer of the model that it guesses for".to_string(),
            });
        }
        let model = Model::open(dir, options, &mut |_, _| {})?;
        if model.facts().state_bytes > 0 {
            return Err(LoadError::Unsupported {
                feature: format!("a draft model with recurrent states ({})", dir.display()),
                supported: "a draft model must keep all of its past as keys and values".to_string(),
            });
        }
        let ratio = model.facts().parameters as f64 / parameters.max(1) as f64;
        let filled = vec![0; options.blocks as usize];
        Ok(Self { model, filled, logits: Vec::new(), ratio, drafted: Vec::new() })
    }

    /// Runs a first step.
    pub fn warm_up(&mut self) -> Result<(), ForwardError> {
        let row = Row { tokens: &[0], start: 0, blocks: &[0], logits: Wanted::Last };
        self.model.forward(&[row], &mut self.logits)
    }

    /// What a guess of it takes, in parts of a step of the worker's model.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// Bytes of what a block holds, and how much of it is filled.
    pub fn block_bytes(&self) -> usize {
        self.model.block_bytes() + 1
    }

    /// What a block holds.
    pub fn read_block(&self, block: u32) -> Vec<u8> {
        let mut contents = self.model.read_block(block);
        contents.push(self.filled[block as usize]);
        contents
    }

    /// Fills a block with what `read_block` gave.
    pub fn write_block(&mut self, block: u32, contents: &[u8]) {
        let Some((filled, contents)) = contents.split_last() else { return };
        self.model.write_block(block, contents);
        self.filled[block as usize] = (*filled).min(BLOCK_TOKENS as u8);
    }

    /// The first position before `end` that this model has not computed.
    fn lag(&self, blocks: &[u32], end: u32) -> u32 {
        let unfilled = |(_, block): &(usize, &u32)| u32::from(self.filled[**block as usize]) < BLOCK_TOKENS;
        let reached =
            blocks.iter().enumerate().find(unfilled).map_or(u32::MAX, |(place, block)| {
                place as u32 * BLOCK_TOKENS + u32::from(self.filled[*block as usize])
            });
        reached.min(end)
    }

    /// Notes that positions are computed; what stands before them in their first block was before.
    fn note(&mut self, blocks: &[u32], from: u32, to: u32) {
        for place in from / BLOCK_TOKENS..blocks_for(to) {
            let filled = (to - place * BLOCK_TOKENS).min(BLOCK_TOKENS);
            self.filled[blocks[place as usize] as usize] = filled as u8;
        }
    }

    /// Whether this model can compute tokens up to a position.
    fn can(&self, tokens: &[u32], end: u32) -> bool {
        end <= self.model.facts().context_length && tokens.iter().all(|token| *token < self.model.vocabulary())
    }

    /// What is to be computed to guess as wished. It takes blocks, whose contents are lost when `guess` computes.
    pub fn begin(&self, wishes: &[Wish], scheduler: &mut Scheduler) -> Vec<Going> {
        wishes.iter().filter_map(|wish| self.begin_one(*wish, scheduler)).collect()
    }

    /// Guesses, and hands the guesses to the scheduler.
    pub fn guess(
        &mut self,
        mut going: Vec<Going>,
        scheduler: &mut Scheduler,
        requests: &mut Requests,
        pace: &Pace,
    ) -> Result<(), ForwardError> {
        let (begun, width) = (Instant::now(), going.len() as u32);
        let mut steps = 0;
        while self.step(&mut going, requests)? {
            steps += 1;
        }
        if steps > 0
            && let Some(step_ms) = pace.step_ms(width)
        {
            let ratio = begun.elapsed().as_secs_f64() * 1e3 / f64::from(steps) / step_ms;
            self.ratio += (ratio - self.ratio) * NEWEST;
        }
        for Going { drafted, guessed, .. } in going {
            if !guessed.is_empty() {
                scheduler.draft(drafted.id, &guessed);
                requests.model_guessed(drafted.id);
            }
            self.note(&drafted.blocks, drafted.from, drafted.own);
            self.drafted.push(Drafted { guesses: guessed.len() as u32, ..drafted });
        }
        Ok(())
    }

    /// What is to be computed first for a sequence; nothing is guessed for one that must be caught up with.
    fn begin_one(&self, wish: Wish, scheduler: &mut Scheduler) -> Option<Going> {
        let ahead = scheduler.ahead(wish.id, wish.tokens)?;
        let blocks: Vec<u32> = ahead.blocks.iter().map(|block| block.0).collect();
        let end = ahead.tokens.len() as u32;
        let from = self.lag(&blocks, end - 1);
        let own = end.min(from + CATCH_UP_MAX);
        let tokens = ahead.tokens[from as usize..own as usize].to_vec();
        let most = if own == end { wish.tokens.min(ahead.room) } else { 0 };
        let drafted = Drafted { id: wish.id, blocks, from, own, guesses: 0 };
        self.can(&tokens, own + most).then_some(Going { drafted, tokens, start: from, guessed: Vec::new(), most })
    }

    /// One step for all that go on; false if none does.
    fn step(&mut self, going: &mut [Going], requests: &mut Requests) -> Result<bool, ForwardError> {
        let mut active: Vec<&mut Going> = going.iter_mut().filter(|going| !going.tokens.is_empty()).collect();
        let rows: Vec<Row<'_>> = active
            .iter()
            .map(|going| Row {
                tokens: &going.tokens,
                start: going.start,
                blocks: &going.drafted.blocks,
                logits: if going.most > 0 { Wanted::Last } else { Wanted::None },
            })
            .collect();
        if rows.is_empty() {
            return Ok(false);
        }
        self.model.forward(&rows, &mut self.logits)?;
        let vocabulary = self.model.vocabulary() as usize;
        let mut logits = self.logits.chunks_exact_mut(vocabulary);
        for going in &mut active {
            let position = going.start + going.tokens.len() as u32;
            going.tokens.clear();
            let Some(logits) = logits.next().filter(|_| going.most > 0) else { continue };
            let Some(token) = requests.foresee(going.drafted.id, logits, position) else { continue };
            going.guessed.push(token);
            if (going.guessed.len() as u32) < going.most {
                (going.tokens, going.start) = (vec![token], position);
            }
        }
        Ok(true)
    }

    /// Computes the prompts of a plan along with the worker's model.
    pub fn follow(&mut self, plan: &Plan, scheduler: &Scheduler) -> Result<(), ForwardError> {
        for copy in &plan.copies {
            self.model.copy_block(copy.from.0, copy.to.0);
            self.filled[copy.to.0 as usize] = self.filled[copy.from.0 as usize].min(copy.positions as u8);
        }
        let mut prompts = Vec::new();
        for row in &plan.rows {
            let blocks: Vec<u32> = row.blocks.iter().map(|block| block.0).collect();
            // After the sequence's own tokens come guesses.
            let end = row.start + row.tokens.len() as u32 - row.samples.saturating_sub(1);
            // What is written from its beginning held something else before.
            for block in &blocks[blocks_for(row.start) as usize..] {
                self.filled[*block as usize] = 0;
            }
            let Some(tokens) = scheduler.tokens(row.id).filter(|_| row.tokens.len() as u32 > row.samples) else {
                continue;
            };
            let from = self.lag(&blocks, row.start);
            let own = end.min(from + row.tokens.len() as u32 + CATCH_UP_MAX);
            let tokens = tokens[from as usize..own as usize].to_vec();
            if self.can(&tokens, own) {
                prompts.push((tokens, Drafted { id: row.id, blocks, from, own, guesses: 0 }));
            }
        }
        let rows: Vec<Row<'_>> = prompts
            .iter()
            .map(|(tokens, it)| Row { tokens, start: it.from, blocks: &it.blocks, logits: Wanted::None })
            .collect();
        self.model.forward(&rows, &mut self.logits)?;
        for (_, drafted) in prompts {
            self.note(&drafted.blocks, drafted.from, drafted.own);
        }
        Ok(())
    }

    /// Learns which guesses became tokens: what was computed of those stays.
    pub fn settle(&mut self, outcomes: &[Outcome]) {
        for drafted in std::mem::take(&mut self.drafted) {
            // What lost its blocks has none to be noted.
            let Some(outcome) = outcomes.iter().find(|outcome| outcome.id == drafted.id) else { continue };
            let right = (outcome.tokens.len() as u32).saturating_sub(1);
            let computed = drafted.own + drafted.guesses.saturating_sub(1).min(right);
            self.note(&drafted.blocks, drafted.from, computed);
        }
    }
}
