//! A model in memory: opened from a folder, then asked for one step of rows at a time.
//!
//! The worker's one thread owns it. Each step checks its rows first, so a plan that breaks a rule is refused with nothing
//! computed; what it accepts it computes, and the numbers of a row are the same in every batch and at every cut.

use std::path::Path;

use crate::cpu::Cpu;
use crate::decoder::Decoder;
use crate::folder::Folder;
#[cfg(feature = "mlx")]
use crate::mlx::Mlx;
use crate::native::{BLOCK_TOKENS, Keep, Precision, Span};
use crate::ops::{Ops, Step};
use crate::{Facts, ForwardError, LoadError};

/// How to load a model.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that compute, the caller's among them; 0 counts as 1.
    pub threads: usize,
    /// Room for keys and values, in blocks of 32 tokens; memory is taken as blocks are first used.
    pub blocks: u32,
    /// How numbers are kept.
    pub precision: Precision,
    /// How keys and values are kept.
    pub keep: Keep,
}

/// Tokens of one sequence to be computed in a step.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// Position of the first of them; everything before it is in the cache.
    pub start: u32,
    /// The blocks that hold positions from 0 on, in order.
    pub blocks: &'a [u32],
    /// Whether logits come back.
    pub logits: Wanted,
}

/// Which logits of a row are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: the row only fills the cache.
    None,
    /// Those after the row's last token.
    Last,
    /// Those after each of so many of the row's last tokens, in order.
    Tail(u32),
}

/// Where a row's recurrent state lies, for models whose layers keep one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The state to go on from, which stays if `to` is another; `None` where the row begins its sequence.
    pub from: Option<u32>,
    /// Where to leave the state after the row's last token.
    pub to: u32,
}

/// A loaded model.
pub struct Model {
    facts: Facts,
    runner: Runner,
    blocks: u32,
    /// Room for recurrent states.
    states: u32,
    tokens: Vec<u32>,
    wanted: Vec<usize>,
    /// Empty between steps; keeps its memory.
    spans: Vec<Span<'static>>,
    /// The same.
    wanted_spans: Vec<Span<'static>>,
}

/// A decoder and the machine that computes it.
enum Runner {
    Cpu(Decoder<Cpu>, Cpu),
    #[cfg(feature = "mlx")]
    Mlx(Decoder<Mlx>, Mlx),
}

impl Model {
    /// Loads a folder onto the native kernels. `progress` hears how many bytes of weights are done, of how many.
    pub fn open(dir: &Path, options: &Options, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, LoadError> {
        let folder = Folder::open(dir)?;
        let mut cpu = Cpu::new(&folder.description, options)?;
        let decoder = load(&folder, &mut cpu, progress)?;
        Self::new(&folder, options, Runner::Cpu(decoder, cpu))
    }

    /// Loads a folder onto MLX, which picks its own threads.
    #[cfg(feature = "mlx")]
    pub fn open_mlx(dir: &Path, options: &Options, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, LoadError> {
        if options.keep == Keep::Int8 {
            return Err(LoadError::unsupported("keeping keys and values in int8 on MLX", "it keeps them as they are"));
        }
        let folder = Folder::open(dir)?;
        let mut mlx = Mlx::new(&folder.description, options)?;
        let decoder = load(&folder, &mut mlx, progress)?;
        Self::new(&folder, options, Runner::Mlx(decoder, mlx))
    }

    fn new(folder: &Folder, options: &Options, runner: Runner) -> Result<Self, LoadError> {
        Ok(Self {
            facts: Facts::of(folder)?,
            runner,
            blocks: options.blocks,
            states: 0,
            tokens: Vec::new(),
            wanted: Vec::new(),
            spans: Vec::new(),
            wanted_spans: Vec::new(),
        })
    }

    /// What the folder holds.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How many token ids the model scores.
    pub fn vocabulary(&self) -> u32 {
        self.facts.vocabulary
    }

    /// Makes room for so many recurrent states, in a model whose layers keep them; none are kept over.
    pub fn reserve_states(&mut self, states: u32) -> Result<(), LoadError> {
        if self.facts.state_bytes == 0 {
            return Ok(());
        }
        match &mut self.runner {
            Runner::Cpu(_, cpu) => cpu.reserve_states(states)?,
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => {}
        }
        self.states = states;
        Ok(())
    }

    /// What computes, in words, as in `CPU, 2 threads, AVX-512 VNNI`.
    pub fn device(&self) -> String {
        match &self.runner {
            Runner::Cpu(_, cpu) => cpu.describe(),
            #[cfg(feature = "mlx")]
            Runner::Mlx(_, mlx) => mlx.describe(),
        }
    }

    /// Bytes of what a block holds; 0 where the machine does not give it away.
    pub fn block_bytes(&self) -> usize {
        match &self.runner {
            Runner::Cpu(_, cpu) => cpu.block_bytes(),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => 0,
        }
    }

    /// What a block holds, to be put away.
    pub fn read_block(&self, block: u32) -> Vec<u8> {
        match &self.runner {
            Runner::Cpu(_, cpu) => cpu.read_block(block),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => Vec::new(),
        }
    }

    /// Fills a block with what `read_block` gave for this model.
    pub fn write_block(&mut self, block: u32, contents: &[u8]) {
        assert_eq!(contents.len(), self.block_bytes(), "the contents of one block");
        match &mut self.runner {
            Runner::Cpu(_, cpu) => cpu.write_block(block, contents),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => {}
        }
    }

    /// Bytes of a recurrent state; 0 for a model without, and where the machine does not give them away.
    pub fn state_bytes(&self) -> usize {
        match &self.runner {
            Runner::Cpu(_, cpu) => cpu.state_bytes(),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => 0,
        }
    }

    /// A recurrent state, to be put away.
    pub fn read_state(&self, state: u32) -> Vec<u8> {
        match &self.runner {
            Runner::Cpu(_, cpu) => cpu.read_state(state),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => Vec::new(),
        }
    }

    /// Fills a state with what `read_state` gave for this model.
    pub fn write_state(&mut self, state: u32, contents: &[u8]) {
        assert_eq!(contents.len(), self.state_bytes(), "the contents of one state");
        match &mut self.runner {
            Runner::Cpu(_, cpu) => cpu.write_state(state, contents),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => {}
        }
    }

    /// Makes memory ready that later steps will need; false when enough is. To be called while there is nothing to compute.
    pub fn touch_ahead(&mut self) -> bool {
        match &mut self.runner {
            Runner::Cpu(_, cpu) => cpu.touch_ahead(),
            #[cfg(feature = "mlx")]
            Runner::Mlx(..) => false,
        }
    }

    /// Makes one block hold what another holds.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        match &mut self.runner {
            Runner::Cpu(_, cpu) => {
                let Ok(()) = cpu.copy_block(from, to);
            }
            #[cfg(feature = "mlx")]
            Runner::Mlx(_, mlx) => mlx.copy_block_later(from, to),
        }
    }

    /// Computes one step. `logits` becomes `[tokens whose logits are wanted, vocabulary]`, in the order of the rows.
    pub fn forward(&mut self, rows: &[Row<'_>], logits: &mut Vec<f32>) -> Result<(), ForwardError> {
        self.forward_from(rows, &[], logits)
    }

    /// The same for a model whose layers keep states: `states` says for each row where its own lies.
    pub fn forward_from(
        &mut self,
        rows: &[Row<'_>],
        states: &[State],
        logits: &mut Vec<f32>,
    ) -> Result<(), ForwardError> {
        self.forward_while(rows, states, logits, &mut || true).map(|_| ())
    }

    /// The same, asking before each layer whether to go on; false if it was not to. Then keys and values of the rows' own
    /// positions are undefined until they are computed again, and so are the states that rows were to leave. MLX, which
    /// computes all layers at once, does not ask.
    pub fn forward_while(
        &mut self,
        rows: &[Row<'_>],
        states: &[State],
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, ForwardError> {
        rows.iter().enumerate().try_for_each(|(index, row)| self.check(index, row))?;
        self.check_states(rows, states)?;
        if rows.is_empty() {
            logits.clear();
            return Ok(true);
        }
        self.tokens.clear();
        self.wanted.clear();
        // The empty vectors take the rows' lifetime for this step, and give their memory back after it.
        let mut spans: Vec<Span<'_>> = std::mem::take(&mut self.spans);
        let mut wanted_spans: Vec<Span<'_>> = std::mem::take(&mut self.wanted_spans);
        for row in rows {
            self.tokens.extend_from_slice(row.tokens);
            let span = Span { start: row.start, len: row.tokens.len() as u32, blocks: row.blocks };
            spans.push(span);
            let wanted = match row.logits {
                Wanted::None => 0,
                Wanted::Last => 1,
                Wanted::Tail(wanted) => row.tokens.len().min(wanted as usize),
            };
            self.wanted.extend(self.tokens.len() - wanted..self.tokens.len());
            wanted_spans.extend((wanted > 0).then(|| span.last(wanted as u32)));
        }
        let step =
            Step { tokens: &self.tokens, spans: &spans, states, wanted: &self.wanted, wanted_spans: &wanted_spans };
        let computed = self.runner.forward(&step, logits, go_on);
        (self.spans, self.wanted_spans) = (emptied(spans), emptied(wanted_spans));
        computed
    }

    fn check(&self, index: usize, row: &Row<'_>) -> Result<(), ForwardError> {
        let (context, vocabulary) = (self.facts.context_length, self.facts.vocabulary);
        let positions = u64::from(row.start) + row.tokens.len() as u64;
        let room = (row.blocks.len() * BLOCK_TOKENS) as u64;
        let blocks = self.blocks;
        if row.tokens.is_empty() {
            return Err(ForwardError::EmptyRow { row: index });
        }
        if let Some(&token) = row.tokens.iter().find(|token| **token >= vocabulary) {
            return Err(ForwardError::UnknownToken { row: index, token, vocabulary });
        }
        if positions > u64::from(context) {
            return Err(ForwardError::PastContext { row: index, positions, context });
        }
        if positions > room {
            return Err(ForwardError::TooFewBlocks { row: index, positions, room });
        }
        if let Some(&block) = row.blocks.iter().find(|block| **block >= blocks) {
            return Err(ForwardError::UnknownBlock { row: index, block, blocks });
        }
        Ok(())
    }
}

impl Model {
    fn check_states(&self, rows: &[Row<'_>], named: &[State]) -> Result<(), ForwardError> {
        let states = self.states;
        let needed = if self.facts.state_bytes == 0 { 0 } else { rows.len() };
        if named.len() != needed {
            return Err(ForwardError::States { named: named.len(), rows: rows.len(), states });
        }
        for (row, state) in named.iter().enumerate() {
            let known = state.to < states && state.from.is_none_or(|from| from < states);
            let begins = state.from.is_none() == (rows[row].start == 0);
            let shared = |(other, named): (usize, &State)| {
                other != row && (named.to == state.to || named.from == Some(state.to))
            };
            if !known || !begins || named.iter().enumerate().any(shared) {
                return Err(ForwardError::UnknownState { row, to: state.to, states });
            }
        }
        Ok(())
    }
}

impl Runner {
    fn forward(
        &mut self,
        step: &Step<'_>,
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, ForwardError> {
        match self {
            Self::Cpu(decoder, cpu) => decoder.forward(step, cpu, logits, go_on).map_err(ForwardError::from),
            #[cfg(feature = "mlx")]
            Self::Mlx(decoder, mlx) => decoder.forward(step, mlx, logits, &mut || true).map_err(ForwardError::from),
        }
    }
}

/// The same memory for spans of any life.
fn emptied(mut spans: Vec<Span<'_>>) -> Vec<Span<'static>> {
    spans.clear();
    spans.into_iter().map(|span| Span { blocks: &[], ..span }).collect()
}

/// Brings a folder's weights to a machine.
fn load<O: Ops>(folder: &Folder, ops: &mut O, progress: &mut dyn FnMut(u64, u64)) -> Result<Decoder<O>, LoadError> {
    let total = folder.matrix_bytes()?;
    let mut done = 0;
    progress(0, total);
    Decoder::load(folder, ops, &mut |bytes| {
        done += bytes;
        progress(done, total);
    })
}

#[cfg(test)]
mod tests;
